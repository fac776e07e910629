//! Which claims a session holds, so that those of which only the server knows can be handed back.

use std::collections::HashMap;
use std::time::Instant;

use crate::encoding::Claim;

/// The claims of a session, as far as it knows.
///
/// The server may know of others: those of a fetch whose answer was lost, and after a failover those whose end had been
/// acknowledged and not yet replicated. Nobody runs those jobs, and the session's own lease would keep them claimed for
/// ever.
#[derive(Debug, Default)]
pub(crate) struct Held {
    fetches: HashMap<u64, Fetch>,
    /// Until when there may be claims of which we do not know.
    search_until: Option<Instant>,
    /// After how many reconnections of the link they were last looked for.
    searched_after: u64,
}

#[derive(Debug)]
enum Fetch {
    /// Not answered yet: what it has claimed will be known.
    UnderWay,
    Answered(Claims),
}

/// Those claims of one fetch that have not ended; a bit for each place.
#[derive(Debug)]
struct Claims {
    places: Vec<u64>,
    left: usize,
    /// Which queues the places are of: each with how many, in their order.
    blocks: Vec<(u16, u16)>,
}

impl Claims {
    fn all(blocks: Vec<(u16, u16)>) -> Self {
        let count = blocks.iter().map(|(_, count)| usize::from(*count)).sum();
        Self { places: vec![u64::MAX; usize::div_ceil(count, 64)], left: count, blocks }
    }

    fn end(&mut self, place: u16) {
        if let Some((bits, bit)) = self.bit(place)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.left -= 1;
        }
    }

    /// Those of one queue have ended.
    fn end_all_of(&mut self, queue: usize) {
        let mut place = 0;
        for (of, count) in self.blocks.clone() {
            for _ in 0..count {
                place += 1;
                if usize::from(of) == queue {
                    self.end(place);
                }
            }
        }
    }

    fn bit(&mut self, place: u16) -> Option<(&mut u64, u64)> {
        let index = usize::from(place).checked_sub(1)?;
        Some((self.places.get_mut(index / 64)?, 1 << (index % 64)))
    }
}

impl Held {
    pub(crate) fn begin(&mut self, fetch: u64) {
        self.fetches.insert(fetch, Fetch::UnderWay);
    }

    /// A fetch was answered with so many jobs of these queues, in this order.
    pub(crate) fn answered(&mut self, fetch: u64, blocks: Vec<(u16, u16)>) {
        if blocks.is_empty() {
            self.fetches.remove(&fetch);
        } else {
            self.fetches.insert(fetch, Fetch::Answered(Claims::all(blocks)));
        }
    }

    /// A fetch failed. What it claims all the same, at the latest until then, is looked for.
    pub(crate) fn failed(&mut self, fetch: u64, may_claim_until: Option<Instant>) {
        self.fetches.remove(&fetch);
        self.search_until = self.search_until.max(may_claim_until);
    }

    /// Claims that were given up may still be on the server, which nobody else knows of: they are looked for.
    pub(crate) fn left_behind(&mut self) {
        self.search_until = self.search_until.max(Some(Instant::now()));
    }

    /// A claim has ended.
    pub(crate) fn ended(&mut self, claim: Claim) {
        let Some(Fetch::Answered(claims)) = self.fetches.get_mut(&claim.fetch) else { return };
        claims.end(claim.place);
        if claims.left == 0 {
            self.fetches.remove(&claim.fetch);
        }
    }

    /// Whether a claim that the server had when it was asked is nobody's. It may have ended since then; handing
    /// it back is fenced like anything else.
    pub(crate) fn is_orphan(&mut self, claim: Claim) -> bool {
        match self.fetches.get_mut(&claim.fetch) {
            Some(Fetch::UnderWay) => false,
            Some(Fetch::Answered(claims)) => claims.bit(claim.place).is_none_or(|(bits, bit)| *bits & bit == 0),
            None => true,
        }
    }

    /// Nothing that was held in a queue counts any more.
    pub(crate) fn let_go(&mut self, queue: usize) {
        self.fetches.retain(|_, fetch| match fetch {
            Fetch::UnderWay => true,
            Fetch::Answered(claims) => {
                claims.end_all_of(queue);
                claims.left > 0
            }
        });
    }

    /// Whether there may be claims of which we do not know: of a lost fetch, or because there is another connection, which
    /// may lead to another server.
    pub(crate) fn must_search(&self, reconnects: u64) -> bool {
        self.search_until.is_some() || self.searched_after != reconnects
    }

    /// All claims that the server had at that time have been looked at.
    pub(crate) fn searched(&mut self, at: Instant, reconnects: u64) {
        self.search_until = self.search_until.filter(|until| *until > at);
        self.searched_after = reconnects;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use goose_core::JobId;

    use super::*;

    fn claim(fetch: u64, place: u16) -> Claim {
        Claim { id: JobId::new(), fetch, place, queue: 0 }
    }

    #[test]
    fn a_claim_is_held_from_before_its_fetch_to_its_end() {
        let mut held = Held::default();
        assert!(held.is_orphan(claim(1, 1)));
        held.begin(1);
        held.begin(2);
        assert!(!held.is_orphan(claim(1, 1)));
        held.answered(1, vec![(0, 130)]);
        for place in [1, 64, 65, 130] {
            assert!(!held.is_orphan(claim(1, place)), "{place}");
            held.ended(claim(1, place));
            held.ended(claim(1, place));
            assert!(held.is_orphan(claim(1, place)), "{place}");
        }
        assert!(!held.is_orphan(claim(1, 2)) && !held.is_orphan(claim(2, 1)));
        // Nonsense harms nothing.
        held.ended(claim(1, 0));
        held.ended(claim(1, u16::MAX));
        held.ended(claim(2, 1));
        assert!(held.is_orphan(claim(1, u16::MAX)) && !held.is_orphan(claim(2, 1)));
        // Of a session that was found dead only what is on its way may still come, under whichever name.
        held.let_go(0);
        assert!(held.is_orphan(claim(1, 2)) && !held.is_orphan(claim(2, 1)));
        held.answered(2, Vec::new());
        assert!(held.fetches.is_empty());
    }

    #[test]
    fn what_is_held_in_one_queue_is_let_go_without_the_others() {
        let mut held = Held::default();
        held.begin(1);
        held.answered(1, vec![(2, 70), (0, 3)]);
        held.let_go(1);
        held.let_go(2);
        assert!(held.is_orphan(claim(1, 1)) && held.is_orphan(claim(1, 70)));
        assert!(!held.is_orphan(claim(1, 71)) && !held.is_orphan(claim(1, 73)));
        held.let_go(0);
        assert!(held.fetches.is_empty());
    }

    #[test]
    fn nothing_is_kept_of_a_fetch_whose_claims_have_all_ended() {
        let mut held = Held::default();
        for fetch in 1..=3 {
            held.begin(fetch);
            held.answered(fetch, vec![(0, 500)]);
            (1..=500).for_each(|place| held.ended(claim(fetch, place)));
        }
        assert!(held.fetches.is_empty());
    }

    #[test]
    fn it_is_searched_after_each_reconnection_and_for_as_long_as_a_lost_fetch_may_claim() {
        let (mut held, now) = (Held::default(), Instant::now());
        assert!(!held.must_search(0) && held.must_search(1));
        held.searched(now, 1);
        assert!(!held.must_search(1) && held.must_search(2));
        held.begin(7);
        held.failed(7, None);
        assert!(!held.must_search(1), "it was refused");
        held.begin(8);
        held.failed(8, Some(now + Duration::from_secs(1)));
        assert!(held.is_orphan(claim(8, 1)) && held.must_search(1));
        held.searched(now, 1);
        assert!(held.must_search(1));
        held.searched(now + Duration::from_secs(1), 1);
        assert!(!held.must_search(1));
        held.left_behind();
        assert!(held.must_search(1));
        held.searched(Instant::now(), 1);
        assert!(!held.must_search(1), "one look is enough");
    }
}
