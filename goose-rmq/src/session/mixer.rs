//! Which queues of a set give how many jobs to a fetch, and when it is better to wait a moment.
//!
//! Each queue pushes its jobs by itself, so that those of an urgent queue may arrive a little after those of a
//! lower one. What a queue has in its buffer is therefore not all that counts: while it may be about to deliver, its
//! [`Doubt`] holds a fetch back from taking others in its place.

use goose_core::broker::{QueueSet, Shares};

/// Whether a queue may be about to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// All that it could deliver is here.
    None,
    /// More may come, after what is here.
    More,
    /// What comes may go before what is here.
    Order,
}

/// A queue as the mixer sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) ready: usize,
    pub(super) doubt: Doubt,
}

/// Divides fetches among the queues of a set.
#[derive(Debug)]
pub(super) struct Mixer {
    shares: Shares,
    strict: bool,
    /// The parts of a fetch that still waits: asking again must not use up another turn.
    parts: Option<(usize, Vec<usize>)>,
}

impl Mixer {
    pub(super) fn new(set: &QueueSet) -> Self {
        Self { shares: Shares::of(set), strict: set.is_strict(), parts: None }
    }

    /// How many jobs each queue gives to a fetch of `want`; `None` while it should wait.
    pub(super) fn mix(&mut self, want: usize, offers: &[Offer]) -> Option<Vec<usize>> {
        let taken = self.look(want, offers);
        if taken.is_some() {
            self.parts = None;
        }
        taken
    }

    /// The same, for somebody who takes nothing yet.
    pub(super) fn look(&mut self, want: usize, offers: &[Offer]) -> Option<Vec<usize>> {
        if offers.iter().all(|offer| offer.ready == 0) {
            return None;
        }
        if self.strict {
            return strictly(want, offers);
        }
        if self.parts.as_ref().is_none_or(|(size, _)| *size != want) {
            self.parts = Some((want, self.shares.next(want)));
        }
        let (_, parts) = self.parts.as_ref()?;
        by_parts(want, parts, offers)
    }
}

/// Earlier queues first. What they have goes out at once; only to take from a later queue is worth a wait.
fn strictly(want: usize, offers: &[Offer]) -> Option<Vec<usize>> {
    let (mut left, mut taken) = (want, vec![0; offers.len()]);
    for (offer, taken) in offers.iter().zip(&mut taken) {
        if left == 0 || offer.doubt == Doubt::Order {
            break;
        }
        *taken = offer.ready.min(left);
        left -= *taken;
        if left > 0 && offer.doubt == Doubt::More {
            break;
        }
    }
    (left < want).then_some(taken)
}

/// Everyone's part, and what is left from whoever has more, in order.
fn by_parts(want: usize, parts: &[usize], offers: &[Offer]) -> Option<Vec<usize>> {
    let mut taken = Vec::with_capacity(offers.len());
    for (part, offer) in parts.iter().zip(offers) {
        let is_short = offer.ready < *part && offer.doubt == Doubt::More;
        if *part > 0 && (is_short || offer.doubt == Doubt::Order) {
            return None;
        }
        taken.push(offer.ready.min(*part));
    }
    let mut left = want.saturating_sub(taken.iter().sum());
    for (taken, offer) in taken.iter_mut().zip(offers).filter(|(_, offer)| offer.doubt != Doubt::Order) {
        let more = (offer.ready - *taken).min(left);
        *taken += more;
        left -= more;
    }
    (left < want).then_some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offers<const N: usize>(ready: [usize; N], doubts: [Doubt; N]) -> Vec<Offer> {
        ready.into_iter().zip(doubts).map(|(ready, doubt)| Offer { ready, doubt }).collect()
    }

    fn sure<const N: usize>(ready: [usize; N]) -> Vec<Offer> {
        offers(ready, [Doubt::None; N])
    }

    fn strict(queues: usize) -> Mixer {
        Mixer::new(&QueueSet::strict((0..queues).map(|n| format!("q{n}"))).unwrap())
    }

    fn weighted(weights: &[u32]) -> Mixer {
        let queues = weights.iter().enumerate().map(|(n, weight)| (format!("q{n}"), *weight));
        Mixer::new(&QueueSet::weighted(queues).unwrap())
    }

    #[test]
    fn a_strict_set_takes_from_earlier_queues_first() {
        let mut mixer = strict(3);
        assert_eq!(mixer.mix(4, &sure([2, 0, 9])), Some(vec![2, 0, 2]));
        assert_eq!(mixer.mix(2, &sure([2, 5, 9])), Some(vec![2, 0, 0]));
        assert_eq!(mixer.mix(9, &sure([1, 1, 1])), Some(vec![1, 1, 1]));
        assert_eq!(mixer.mix(9, &sure([0, 0, 0])), None);
    }

    #[test]
    fn a_strict_set_waits_before_it_takes_from_a_later_queue() {
        let mut mixer = strict(3);
        assert_eq!(mixer.mix(4, &offers([0, 3, 3], [Doubt::More, Doubt::None, Doubt::None])), None);
        // What an earlier queue has goes out, whatever may follow.
        assert_eq!(mixer.mix(4, &offers([1, 3, 3], [Doubt::More, Doubt::None, Doubt::None])), Some(vec![1, 0, 0]));
        assert_eq!(mixer.mix(4, &offers([0, 3, 3], [Doubt::None, Doubt::More, Doubt::None])), Some(vec![0, 3, 0]));
        assert_eq!(mixer.mix(3, &offers([0, 3, 3], [Doubt::None, Doubt::More, Doubt::None])), Some(vec![0, 3, 0]));
        // Nothing where its own order is not known.
        assert_eq!(mixer.mix(1, &offers([3, 3, 0], [Doubt::Order, Doubt::None, Doubt::None])), None);
        assert_eq!(mixer.mix(2, &offers([1, 3, 0], [Doubt::None, Doubt::Order, Doubt::None])), Some(vec![1, 0, 0]));
    }

    #[test]
    fn one_queue_gives_what_it_has_unless_its_order_is_in_doubt() {
        let mut mixer = strict(1);
        assert_eq!(mixer.mix(5, &offers([2], [Doubt::More])), Some(vec![2]));
        assert_eq!(mixer.mix(5, &offers([9], [Doubt::Order])), None);
    }

    #[test]
    fn a_weighted_set_gives_each_its_part_and_shares_out_the_rest() {
        let mut mixer = weighted(&[3, 1]);
        assert_eq!(mixer.mix(8, &sure([9, 9])), Some(vec![6, 2]));
        assert_eq!(mixer.mix(8, &sure([1, 9])), Some(vec![1, 7]));
        assert_eq!(mixer.mix(8, &sure([9, 0])), Some(vec![8, 0]));
        assert_eq!(mixer.mix(8, &sure([1, 1])), Some(vec![1, 1]));
    }

    #[test]
    fn a_weighted_set_waits_for_what_would_fill_a_part() {
        let mut mixer = weighted(&[3, 1]);
        let short = offers([2, 9], [Doubt::More, Doubt::None]);
        assert_eq!(mixer.mix(8, &short), None);
        // Asking again costs nobody a turn.
        assert_eq!(mixer.mix(8, &short), None);
        assert_eq!(mixer.mix(8, &sure([9, 9])), Some(vec![6, 2]));
        // Who has its part is not waited for.
        assert_eq!(mixer.mix(8, &offers([6, 2], [Doubt::More, Doubt::More])), Some(vec![6, 2]));
        assert_eq!(mixer.mix(8, &offers([9, 9], [Doubt::Order, Doubt::None])), None);
    }

    #[test]
    fn waiting_uses_up_no_turns() {
        let mut mixer = weighted(&[20, 1]);
        let nothing_yet = offers([5, 5], [Doubt::Order; 2]);
        let mut light = 0;
        for _ in 0..42 {
            for _ in 0..3 {
                assert_eq!(mixer.mix(1, &nothing_yet), None);
            }
            light += mixer.mix(1, &sure([5, 5])).unwrap()[1];
        }
        assert_eq!(light, 2);
    }

    fn any_doubt() -> impl Strategy<Value = Doubt> {
        prop::sample::select(vec![Doubt::None, Doubt::More, Doubt::Order])
    }

    proptest! {
        #[test]
        fn a_mix_is_never_empty_nor_more_than_asked_or_there(
            is_strict in any::<bool>(),
            want in 1_usize..40,
            queues in prop::collection::vec((0_usize..20, any_doubt(), 1_u32..9), 1..6),
        ) {
            let mut mixer = if is_strict {
                strict(queues.len())
            } else {
                weighted(&queues.iter().map(|(_, _, weight)| *weight).collect::<Vec<_>>())
            };
            let offers: Vec<Offer> = queues.iter().map(|(ready, doubt, _)| Offer { ready: *ready, doubt: *doubt }).collect();
            let there: usize = offers.iter().map(|offer| offer.ready).sum();
            match mixer.mix(want, &offers) {
                Some(taken) => {
                    let sum: usize = taken.iter().sum();
                    prop_assert!((1..=want).contains(&sum));
                    for (taken, offer) in taken.iter().zip(&offers) {
                        prop_assert!(*taken <= offer.ready);
                        prop_assert!(*taken == 0 || offer.doubt != Doubt::Order);
                    }
                    if offers.iter().all(|offer| offer.doubt == Doubt::None) {
                        prop_assert_eq!(sum, want.min(there));
                    }
                }
                None => prop_assert!(there == 0 || offers.iter().any(|offer| offer.doubt != Doubt::None)),
            }
        }
    }
}
