//! Claims of long jobs: leases.
//!
//! A server takes a job away from whoever holds it unacknowledged for longer than its `consumer_timeout`, and all other
//! jobs of the channel with it. So a claim that has been held for most of that time is turned into a lease: the job
//! moves to a queue of its own, whose messages go back to the ready queue when they have lain there for a while. While the job
//! runs, it moves on to the next such queue in time; when it ends, the queue is deleted. See `long`.
//!
//! A lease has nothing to do with the channel, and outlives it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::receipt::Claimed;
use super::state::{Claim, Stage, Standing, State};

/// How long a lease lasts, and when claims become leases.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// How long a claim may be held before it is turned into a lease.
    pub(super) after: Duration,
    pub(super) length: Duration,
}

impl Terms {
    /// The server counts from the delivery and looks once a minute, so there is time enough from four fifths on.
    pub(super) fn new(consumer_timeout: Duration, heartbeat: Duration) -> Self {
        let length = (consumer_timeout / 6).min(Duration::from_secs(60)).max(heartbeat * 2);
        Self { after: consumer_timeout / 5 * 4, length }
    }

    /// How long after it was made a lease is renewed.
    pub(super) fn renewed_after(self) -> Duration {
        self.length / 3
    }
}

/// A job in a queue of its own.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) claim: Claim,
    pub(super) queue: String,
    /// When the job began to be sent there.
    pub(super) moved: Instant,
    /// Queues in which it lay before and that could not be deleted yet, the oldest first.
    pub(super) former: Vec<String>,
    /// When the job began to be sent to the oldest queue in which it lies: it does not go back earlier than a length after that.
    pub(super) made: Instant,
    pub(super) renew_at: Instant,
}

impl Lease {
    pub(super) fn new(claim: Claim, queue: String, made: Instant, terms: Terms) -> Self {
        Self { claim, queue, moved: made, former: Vec::new(), made, renew_at: made + terms.renewed_after() }
    }

    /// The job lies in this queue, too.
    pub(super) fn move_to(&mut self, queue: String, moved: Instant) {
        self.former.push(std::mem::replace(&mut self.queue, queue));
        self.moved = moved;
    }

    /// A queue in which it lay was deleted.
    pub(super) fn has_left(&mut self, queue: &str, terms: Terms) {
        self.former.retain(|former| former != queue);
        if self.former.is_empty() {
            (self.made, self.renew_at) = (self.moved, self.moved + terms.renewed_after());
        }
    }
}

/// The leases of a session.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<Claimed, Lease>);

impl Leases {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, claimed: Claimed, lease: Lease) {
        self.0.insert(claimed, lease);
    }

    pub(super) fn get_mut(&mut self, claimed: Claimed) -> Option<&mut Lease> {
        self.0.get_mut(&claimed)
    }

    pub(super) fn contains(&self, claimed: Claimed) -> bool {
        self.0.contains_key(&claimed)
    }

    pub(super) fn remove(&mut self, claimed: Claimed) -> Option<Lease> {
        self.0.remove(&claimed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Claimed, &Lease)> {
        self.0.iter().map(|(claimed, lease)| (*claimed, lease))
    }

    /// What a receipt is worth; `None` if its claim is no lease. A sixth of the time is kept as a margin.
    pub(super) fn standing(&self, claimed: Claimed, terms: Terms, now: Instant) -> Option<Standing> {
        let lease = self.0.get(&claimed)?;
        if now.saturating_duration_since(lease.made) >= terms.length * 5 / 6 {
            return Some(Standing::Lost);
        }
        Some(match lease.claim.stage {
            Stage::Out { place } => Standing::Held { place },
            _ => Standing::Busy,
        })
    }

    /// Those that must be renewed now. They are not told again unless it fails.
    pub(super) fn due(&mut self, terms: Terms, now: Instant) -> Vec<Claimed> {
        let due = self.0.iter_mut().filter(|(_, lease)| lease.renew_at <= now);
        due.map(|(claimed, lease)| {
            lease.renew_at = now + terms.length;
            *claimed
        })
        .collect()
    }

    /// When the next one must be renewed.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|lease| lease.renew_at).min()
    }
}

/// Claims that become leases, and leases that end.
impl State {
    /// The claims that must be turned into leases now. What waits in a buffer for so long goes back.
    pub(super) fn long_claims(&mut self, now: Instant) -> Vec<Claimed> {
        if self.next_long.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let (mut long, again) = (Vec::new(), now + self.terms.renewed_after());
        for (tag, claim) in self.ledger.iter_mut().filter(|(_, claim)| claim.long_at <= now) {
            claim.long_at = again;
            match claim.stage {
                Stage::Out { .. } => long.push(Claimed { generation: self.generation, tag }),
                Stage::Here => {
                    let slot = &mut self.slots[claim.slot];
                    (slot.gives_back, slot.is_stale) = (true, true);
                }
                Stage::Ending { .. } | Stage::Leaving => {}
            }
        }
        self.next_long = self.ledger.iter().map(|(_, claim)| claim.long_at).min();
        long
    }

    /// Takes a claim to make its lease: nobody else may touch it until that is done. Returns it as it was before.
    pub(super) fn take_for_lease(&mut self, claimed: Claimed) -> Option<Claim> {
        let claim = self.claim_mut(claimed)?;
        let Stage::Out { place } = claim.stage else { return None };
        let before = claim.clone();
        claim.stage = Stage::Ending { place };
        Some(before)
    }

    /// A claim has become a lease.
    pub(super) fn lease(&mut self, claimed: Claimed, lease: Lease) {
        let slot = lease.claim.slot;
        self.slots[slot].running += 1;
        self.leases.insert(claimed, lease);
        self.show(slot);
    }

    /// A lease has ended; returns whether there was one.
    pub(super) fn end_lease(&mut self, claimed: Claimed) -> bool {
        let Some(lease) = self.leases.remove(claimed) else { return false };
        let slot = lease.claim.slot;
        self.slots[slot].running = self.slots[slot].running.saturating_sub(1);
        self.show(slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use goose_core::{JobId, Timestamp};

    use super::super::bench::{Bench, HEARTBEAT, TERMS};
    use super::*;
    use crate::message::{Rank, Ticket};

    fn lease(now: Instant) -> Lease {
        let claim = Claim {
            slot: 0,
            consumer: 1,
            id: JobId::new(),
            ticket: Ticket::now(Rank::Normal, Timestamp::EPOCH),
            envelope: Arc::from([]),
            stage: Stage::Out { place: 7 },
            long_at: now,
        };
        Lease::new(claim, "q".to_owned(), now, TERMS)
    }

    #[test]
    fn terms_follow_the_server() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let usual = Terms::new(minutes(30), Duration::from_secs(5));
        assert_eq!((usual.after, usual.length), (minutes(24), minutes(1)));
        let short = Terms::new(minutes(1), Duration::from_secs(5));
        assert_eq!((short.after, short.length), (Duration::from_secs(48), Duration::from_secs(10)));
        assert_eq!(Terms::new(minutes(60 * 24), Duration::from_secs(5)).length, minutes(1));
    }

    #[test]
    fn a_lease_is_good_until_shortly_before_its_job_goes_back() {
        let (now, claimed) = (Instant::now(), Claimed { generation: 1, tag: 4 });
        let mut leases = Leases::default();
        assert!(leases.standing(claimed, TERMS, now).is_none());
        leases.insert(claimed, lease(now));
        let held =
            |leases: &Leases, at| matches!(leases.standing(claimed, TERMS, at), Some(Standing::Held { place: 7 }));
        assert!(held(&leases, now + Duration::from_millis(4_999)));
        assert!(!held(&leases, now + Duration::from_secs(5)));
        assert!(leases.due(TERMS, now + Duration::from_secs(1)).is_empty());
        assert_eq!(leases.next(), Some(now + Duration::from_secs(2)));
        assert_eq!(leases.due(TERMS, now + Duration::from_secs(2)), [claimed]);
        assert_eq!(
            (leases.next(), leases.due(TERMS, now + Duration::from_secs(3)).len()),
            (Some(now + Duration::from_secs(8)), 0)
        );
    }

    #[test]
    fn a_lease_lasts_as_long_as_the_oldest_queue_of_its_job() {
        let (now, claimed) = (Instant::now(), Claimed { generation: 1, tag: 4 });
        let (second, third) = (now + TERMS.renewed_after(), now + TERMS.renewed_after() * 2);
        let mut one = lease(now);
        one.move_to("r".to_owned(), second);
        one.move_to("s".to_owned(), third);
        one.has_left("r", TERMS);
        assert_eq!((one.made, &one.former[..]), (now, &["q".to_owned()][..]));
        let mut leases = Leases::default();
        leases.insert(claimed, one);
        let is_held = |leases: &Leases| {
            matches!(leases.standing(claimed, TERMS, now + TERMS.length), Some(Standing::Held { .. }))
        };
        assert!(!is_held(&leases), "the first one has gone back, and is somebody else's");
        leases.get_mut(claimed).unwrap().has_left("q", TERMS);
        assert!(is_held(&leases) && leases.next() == Some(third + TERMS.renewed_after()));
    }

    #[test]
    fn what_is_held_for_long_becomes_a_lease_or_goes_back() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 5);
        (0..2).for_each(|_| drop(bench.arrive(0, 1, Duration::ZERO).to_string()));
        let taken = bench.take(1);
        let claimed = bench.seal.read(&taken[0].receipt).unwrap();
        let long = bench.now + TERMS.after;
        assert!(bench.state.long_claims(long - Duration::from_millis(1)).is_empty());
        assert_eq!(bench.state.next_moment(bench.now), Some(long));
        assert_eq!(bench.state.long_claims(long), [claimed]);
        assert!(bench.state.slots[0].is_stale, "the other one waits in the buffer");
        assert!(bench.standing(&taken[0]));
        let claim = bench.state.take_for_lease(claimed).unwrap();
        assert!(!bench.standing(&taken[0]), "it is being turned");
        assert!(bench.state.take_for_lease(claimed).is_none());
        bench.state.acknowledge([claimed.tag], long);
        bench.state.lease(claimed, Lease::new(claim, "q".to_owned(), long, TERMS));
        bench.now = long;
        assert!(bench.standing(&taken[0]));
        // It does not need the channel any more.
        bench.state.lose(long);
        assert!(bench.standing(&taken[0]) && bench.state.holds(claimed, HEARTBEAT, long));
        assert_eq!((bench.state.slots[0].running, bench.state.handed_out()), (1, vec![claimed]));
        assert!(bench.state.end_lease(claimed) && !bench.standing(&taken[0]));
        assert_eq!(bench.state.slots[0].running, 0);
    }
}
