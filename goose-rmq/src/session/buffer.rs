//! What has arrived from one queue and was not handed out: sorted by what must run first, and what is early set apart.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use goose_core::Timestamp;

use crate::message::Rank;

/// The ready jobs of one queue, in the order in which they will run.
///
/// The server knows two priorities and keeps each in order of arrival. So most jobs are already in their place when they
/// come, and each rank is a list of its own: nothing is compared but the times of due jobs.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    again: VecDeque<T>,
    /// The newest is the last.
    front: Vec<T>,
    due: BTreeMap<(Timestamp, u64), T>,
    normal: VecDeque<T>,
    /// Keeps due jobs of the same millisecond in order of arrival.
    arrivals: u64,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { again: VecDeque::new(), front: Vec::new(), due: BTreeMap::new(), normal: VecDeque::new(), arrivals: 0 }
    }
}

impl<T> Buffer<T> {
    pub(super) fn len(&self) -> usize {
        self.again.len() + self.front.len() + self.due.len() + self.normal.len()
    }

    /// Adds a job that may run now. `ready_at` counts for due jobs only.
    pub(super) fn push(&mut self, rank: Rank, ready_at: Timestamp, job: T) {
        match rank {
            Rank::Again => self.again.push_back(job),
            Rank::Front => self.front.push(job),
            Rank::Due => {
                self.arrivals += 1;
                self.due.insert((ready_at, self.arrivals), job);
            }
            Rank::Normal => self.normal.push_back(job),
        }
    }

    /// Takes the job that runs first.
    pub(super) fn pop(&mut self) -> Option<T> {
        let due = |due: &mut BTreeMap<_, T>| due.pop_first().map(|(_, job)| job);
        let before = self.again.pop_front().or_else(|| self.front.pop()).or_else(|| due(&mut self.due));
        before.or_else(|| self.normal.pop_front())
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
        for (rank, time, job) in [
            (Rank::Normal, 1, 30),
            (Rank::Due, 9, 21),
            (Rank::Front, 1, 11),
            (Rank::Normal, 0, 31),
            (Rank::Due, 5, 20),
            (Rank::Again, 9, 0),
            (Rank::Front, 0, 10),
            (Rank::Due, 9, 22),
            (Rank::Again, 1, 1),
        ] {
            buffer.push(rank, at(time), job);
        }
        assert_eq!(buffer.len(), 9);
        assert_eq!(drained(&mut buffer), [0, 1, 10, 11, 20, 21, 22, 30, 31]);
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

    proptest! {
        /// The lists together are what one sorted list would be.
        #[test]
        fn the_order_is_that_of_rank_and_key(
            pushes in prop::collection::vec((0_u8..4, 0_i64..5), 0..60),
            pops in prop::collection::vec(0_usize..60, 0..10),
        ) {
            let ranks = [Rank::Again, Rank::Front, Rank::Due, Rank::Normal];
            let mut buffer = Buffer::default();
            let mut sorted: Vec<((Rank, i64, i64), u32)> = Vec::new();
            let mut pops = pops.into_iter();
            for (n, (rank, time)) in (0_u32..).zip(pushes) {
                let rank = ranks[usize::from(rank)];
                buffer.push(rank, Timestamp::from_millis(time), n);
                let arrival = i64::from(n);
                let key = match rank {
                    Rank::Front => (0, -arrival),
                    Rank::Due => (time, arrival),
                    Rank::Again | Rank::Normal => (0, arrival),
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
