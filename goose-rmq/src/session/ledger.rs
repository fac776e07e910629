//! What the server believes that we have: every job that was delivered on the channel and not acknowledged.
//!
//! Delivery tags are counted over all consumers of the channel, and an acknowledgement of `multiple` ends everything up
//! to its tag. It may only be used up to the first tag that is still open, *or that we have not seen yet*: the consumers of
//! several queues are read one after another, so a tag can be known before the one below it.

use std::collections::{BTreeMap, BTreeSet};

/// The open deliveries of one channel, each with what is known of it.
#[derive(Debug)]
pub(super) struct Ledger<C> {
    open: BTreeMap<u64, C>,
    /// All tags up to this one have been seen.
    seen_to: u64,
    /// Those seen beyond it.
    seen: BTreeSet<u64>,
}

/// An acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// Of everything up to the tag.
    pub(super) multiple: bool,
}

impl<C> Default for Ledger<C> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), seen_to: 0, seen: BTreeSet::new() }
    }
}

impl<C> Ledger<C> {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn get(&self, tag: u64) -> Option<&C> {
        self.open.get(&tag)
    }

    pub(super) fn get_mut(&mut self, tag: u64) -> Option<&mut C> {
        self.open.get_mut(&tag)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &C)> {
        self.open.iter().map(|(tag, claim)| (*tag, claim))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut C)> {
        self.open.iter_mut().map(|(tag, claim)| (*tag, claim))
    }

    /// A delivery came.
    pub(super) fn open(&mut self, tag: u64, claim: C) {
        self.open.insert(tag, claim);
        self.see(tag);
    }

    fn see(&mut self, tag: u64) {
        if tag == self.seen_to + 1 {
            self.seen_to = tag;
            while self.seen.first() == Some(&(self.seen_to + 1)) {
                self.seen.pop_first();
                self.seen_to += 1;
            }
        } else if tag > self.seen_to {
            self.seen.insert(tag);
        }
    }

    /// The highest tag that has been seen.
    pub(super) fn highest(&self) -> u64 {
        self.seen.last().copied().unwrap_or(self.seen_to)
    }

    /// Takes note that tags below this one that have not been seen will not come, and says which.
    pub(super) fn give_up_below(&mut self, tag: u64) -> Vec<u64> {
        let lost: Vec<u64> = (self.seen_to + 1..tag).filter(|tag| !self.seen.contains(tag)).collect();
        lost.iter().for_each(|tag| self.see(*tag));
        lost
    }

    /// Takes deliveries out, and says how to acknowledge them: in this order, because a `multiple` needs its own tag to
    /// be open on the server still. Tags that are not open are passed over.
    pub(super) fn close(&mut self, tags: impl IntoIterator<Item = u64>) -> (Vec<Ack>, Vec<C>) {
        let (mut closed, mut claims) = (Vec::new(), Vec::new());
        for tag in tags {
            if let Some(claim) = self.open.remove(&tag) {
                closed.push(tag);
                claims.push(claim);
            }
        }
        closed.sort_unstable();
        let first_open = self.open.first_key_value().map_or(u64::MAX, |(tag, _)| *tag);
        let prefix = closed.partition_point(|tag| *tag < first_open && *tag <= self.seen_to);
        let single = |tag: &u64| Ack { tag: *tag, multiple: false };
        let mut acks: Vec<Ack> = match &closed[..prefix] {
            [] => Vec::new(),
            [one] => vec![single(one)],
            [.., last] => vec![Ack { tag: *last, multiple: true }],
        };
        acks.extend(closed[prefix..].iter().map(single));
        (acks, claims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acks(ledger: &mut Ledger<()>, tags: &[u64]) -> Vec<(u64, bool)> {
        ledger.close(tags.iter().copied()).0.iter().map(|ack| (ack.tag, ack.multiple)).collect()
    }

    fn of(tags: impl IntoIterator<Item = u64>) -> Ledger<()> {
        let mut ledger = Ledger::default();
        tags.into_iter().for_each(|tag| ledger.open(tag, ()));
        ledger
    }

    #[test]
    fn a_prefix_goes_in_one() {
        let mut ledger = of(1..=6);
        assert_eq!(acks(&mut ledger, &[2, 1, 3]), [(3, true)]);
        assert_eq!(acks(&mut ledger, &[4]), [(4, false)]);
        assert_eq!(acks(&mut ledger, &[6]), [(6, false)]);
        assert_eq!(acks(&mut ledger, &[5]), [(5, false)]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn what_lies_behind_an_open_one_goes_alone() {
        let mut ledger = of(1..=6);
        assert_eq!(acks(&mut ledger, &[2, 3, 5]), [(2, false), (3, false), (5, false)]);
        // The largest of these, though the server knows 5 no more.
        assert_eq!(acks(&mut ledger, &[1, 4]), [(4, true)]);
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn what_was_not_seen_yet_is_not_acknowledged() {
        let mut ledger = of([1, 2, 4, 5]);
        assert_eq!(acks(&mut ledger, &[1, 2, 4]), [(2, true), (4, false)]);
        ledger.open(3, ());
        assert_eq!(acks(&mut ledger, &[3, 5]), [(5, true)]);
    }

    #[test]
    fn what_is_given_up_holds_nothing_up() {
        let mut ledger = of([1, 2, 4, 7, 8]);
        assert_eq!(ledger.highest(), 8);
        assert_eq!(ledger.give_up_below(7), [3, 5, 6]);
        assert_eq!(acks(&mut ledger, &[1, 2, 4, 7]), [(7, true)]);
        assert_eq!((ledger.highest(), ledger.give_up_below(8)), (8, vec![]));
        ledger.open(10, ());
        assert_eq!((ledger.highest(), ledger.give_up_below(10)), (10, vec![9]));
        assert!(ledger.seen.is_empty(), "nothing is kept of them");
    }

    #[test]
    fn what_is_not_open_is_passed_over() {
        let mut ledger = of([1, 2]);
        assert_eq!(acks(&mut ledger, &[7, 1, 1]), [(1, false)]);
        assert_eq!(acks(&mut ledger, &[1]), []);
        assert_eq!(ledger.iter().map(|(tag, ())| tag).collect::<Vec<_>>(), [2]);
    }

    /// A channel of the server: refuses what RabbitMQ refuses.
    fn acknowledge(unacknowledged: &mut BTreeSet<u64>, ack: (u64, bool)) -> Vec<u64> {
        assert!(unacknowledged.contains(&ack.0), "the server would close the channel for tag {}", ack.0);
        let ended: Vec<u64> =
            unacknowledged.iter().copied().filter(|tag| *tag == ack.0 || (ack.1 && *tag < ack.0)).collect();
        ended.iter().for_each(|tag| assert!(unacknowledged.remove(tag)));
        ended
    }

    proptest! {
        /// Whatever is settled in whatever order: the server ends exactly that, and never complains.
        #[test]
        fn the_server_ends_what_was_settled_and_nothing_else(
            // Three consumers whose deliveries are read in bursts.
            consumers in prop::collection::vec(0_usize..3, 1..60),
            bursts in prop::collection::vec((0_usize..3, 1_usize..6, any::<u64>()), 1..80),
        ) {
            let mut unread = [const { std::collections::VecDeque::new() }; 3];
            for (tag, consumer) in (1_u64..).zip(&consumers) {
                unread[*consumer].push_back(tag);
            }
            let mut server: BTreeSet<u64> = (1..).take(consumers.len()).collect();
            let mut ledger = Ledger::default();
            for (consumer, size, mask) in bursts {
                (0..size).filter_map(|_| unread[consumer].pop_front()).for_each(|tag| ledger.open(tag, ()));
                let here: Vec<u64> = ledger.iter().map(|(tag, ())| tag).collect();
                let some: Vec<u64> = here.into_iter().filter(|tag| mask >> (tag % 64) & 1 == 1).collect();
                let mut ended: Vec<u64> =
                    acks(&mut ledger, &some).into_iter().flat_map(|ack| acknowledge(&mut server, ack)).collect();
                ended.sort_unstable();
                prop_assert_eq!(ended, some);
            }
        }
    }
}
