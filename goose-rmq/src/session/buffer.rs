//! What has arrived from one queue and was not handed out: sorted by what must run first, and what is early set apart.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use goose_core::Timestamp;

use crate::message::Rank;

/// The ready jobs of one queue, in the order in which they will run.
///
/// The server knows two priorities and keeps each in order of arrival. So normal jobs come in their order, but for those that
/// several consumers of the queue receive at the same time: delivery tags tell their order. What goes before them
/// is sorted by rank and time: a job that was handed back is at the end of all urgent ones on the server, and finds
/// its old place again here.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    urgent: BTreeMap<Place, T>,
    normal: VecDeque<(u64, T)>,
}

/// Rank, time and arrival; the last two are negative where the newest comes first.
type Place = (Rank, i64, i128);

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { urgent: BTreeMap::new(), normal: VecDeque::new() }
    }
}

impl<T> Buffer<T> {
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    /// Adds a job that may run now. No two have the same tag.
    pub(super) fn push(&mut self, rank: Rank, ready_at: Timestamp, tag: u64, job: T) {
        let (time, arrival) = (ready_at.as_millis(), i128::from(tag));
        match rank {
            Rank::Normal => {
                // Nearly always the end.
                let later = self.normal.iter().rev().take_while(|(other, _)| *other > tag).count();
                self.normal.insert(self.normal.len() - later, (tag, job));
            }
            Rank::Front => drop(self.urgent.insert((rank, time.saturating_neg(), -arrival), job)),
            Rank::Again | Rank::Due | Rank::Returned => drop(self.urgent.insert((rank, time, arrival), job)),
        }
    }

    /// Takes the job that runs first.
    pub(super) fn pop(&mut self) -> Option<T> {
        let urgent = self.urgent.pop_first().map(|(_, job)| job);
        urgent.or_else(|| self.normal.pop_front().map(|(_, job)| job))
    }
}

/// Jobs that came before their time, which is seldom more than a second away.
#[derive(Debug)]
pub(super) struct Early<T> {
    /// By the moment at which they become ready, on the clock that nobody can turn.
    jobs: BTreeMap<(Instant, u64), (Timestamp, T)>,
    arrivals: u64,
}

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), arrivals: 0 }
    }
}

impl<T> Early<T> {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn hold(&mut self, until: Instant, due: Timestamp, job: T) {
        self.arrivals += 1;
        self.jobs.insert((until, self.arrivals), (due, job));
    }

    /// When the next one becomes ready.
    pub(super) fn next(&self) -> Option<Instant> {
        self.jobs.first_key_value().map(|((until, _), _)| *until)
    }

    /// Takes one whose moment has come.
    pub(super) fn pop_ready(&mut self, now: Instant) -> Option<(Timestamp, T)> {
        let first = self.jobs.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Takes all of them, by their moments.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.jobs).into_values().map(|(_, job)| job)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn drained(buffer: &mut Buffer<u32>) -> Vec<u32> {
        std::iter::from_fn(|| buffer.pop()).collect()
    }

    #[test]
    fn what_came_back_goes_before_front_jobs_before_due_ones_before_the_rest() {
        let mut buffer = Buffer::default();
        let at = Timestamp::from_millis;
        for (tag, (rank, time, job)) in (1..).zip([
            (Rank::Normal, 1, 30),
            (Rank::Due, 9, 21),
            (Rank::Front, 3, 11),
            (Rank::Normal, 0, 31),
            (Rank::Due, 5, 20),
            (Rank::Again, 9, 1),
            (Rank::Front, 3, 10),
            (Rank::Front, 2, 12),
            (Rank::Due, 9, 22),
            (Rank::Again, 1, 0),
            (Rank::Returned, 7, 26),
            (Rank::Returned, 6, 25),
        ]) {
            buffer.push(rank, at(time), tag, job);
        }
        assert_eq!(buffer.len(), 12);
        assert_eq!(drained(&mut buffer), [0, 1, 10, 11, 12, 20, 21, 22, 25, 26, 30, 31]);
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn early_jobs_come_out_at_their_moment() {
        let (mut early, start) = (Early::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for (moment, job) in [(30, 'c'), (10, 'a'), (20, 'b'), (10, 'A')] {
            early.hold(at(moment), Timestamp::EPOCH, job);
        }
        assert_eq!(early.next(), Some(at(10)));
        assert_eq!(early.pop_ready(at(9)), None);
        let ready: Vec<char> = std::iter::from_fn(|| early.pop_ready(at(20))).map(|(_, job)| job).collect();
        assert_eq!(ready, ['a', 'A', 'b']);
        assert_eq!((early.len(), early.next()), (1, Some(at(30))));
        assert_eq!(early.drain().collect::<Vec<_>>(), ['c']);
    }

    #[test]
    fn what_several_consumers_receive_is_in_the_order_of_the_server() {
        let mut buffer = Buffer::default();
        for tag in [1, 3, 5, 2, 4, 6] {
            buffer.push(Rank::Normal, Timestamp::EPOCH, tag, u32::try_from(tag).unwrap());
        }
        assert_eq!(drained(&mut buffer), [1, 2, 3, 4, 5, 6]);
    }

    proptest! {
        /// The lists together are what one sorted list would be.
        #[test]
        fn the_order_is_that_of_rank_and_key(
            pushes in prop::collection::vec((0_u8..5, 0_i64..5), 0..60),
            pops in prop::collection::vec(0_usize..60, 0..10),
        ) {
            let ranks = [Rank::Again, Rank::Front, Rank::Due, Rank::Returned, Rank::Normal];
            let mut buffer = Buffer::default();
            let mut sorted: Vec<((Rank, i64, i64), u32)> = Vec::new();
            let mut pops = pops.into_iter();
            for (n, (rank, time)) in (0_u32..).zip(pushes) {
                let rank = ranks[usize::from(rank)];
                buffer.push(rank, Timestamp::from_millis(time), n.into(), n);
                let arrival = i64::from(n);
                let key = match rank {
                    Rank::Front => (-time, -arrival),
                    Rank::Again | Rank::Due | Rank::Returned => (time, arrival),
                    Rank::Normal => (0, arrival),
                };
                sorted.push(((rank, key.0, key.1), n));
                sorted.sort();
                prop_assert_eq!(buffer.len(), sorted.len());
                if n % 7 == 6 {
                    let some = pops.next().unwrap_or(0).min(sorted.len());
                    for (_, expected) in sorted.drain(..some) {
                        prop_assert_eq!(buffer.pop(), Some(expected));
                    }
                }
            }
            prop_assert_eq!(drained(&mut buffer), sorted.into_iter().map(|(_, n)| n).collect::<Vec<_>>());
        }
    }
}
