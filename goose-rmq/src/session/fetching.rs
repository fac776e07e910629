//! What a fetch gets, what it needs to get more, and when what it does not want goes back.

use std::time::{Duration, Instant};

use goose_core::broker::Delivery;
use goose_core::{Job, QueueName, Timestamp};

use super::mixer::Offer;
use super::phase::Phase;
use super::receipt::Seal;
use super::slot::{Slot, Waiting};
use super::state::{Stage, State};
use super::window::{Fetch, HUNGER, More};
use crate::message::CopyId;
use crate::options::QueueType;

/// When nobody has fetched for this long, what nobody asked for goes back. Longer where claims end so quickly that it will
/// be asked for in a moment.
pub(super) const IDLE: Duration = Duration::from_millis(50);
pub(super) const IDLE_WHILE_BUSY: Duration = Duration::from_millis(250);
/// Quorum queues of RabbitMQ 3 have no front: what goes back there goes behind all others, so it is not done lightly.
pub(super) const IDLE_OF_QUORUM: Duration = Duration::from_secs(1);
/// So many claims end in a short time in a session that is busy.
pub(super) const BUSY: usize = 8;

impl State {
    /// Learns which queues are paused, if that has changed.
    pub(super) fn look_for_pauses(&mut self, is_paused: impl Fn(&QueueName) -> bool) {
        if self.pauses.has_changed().unwrap_or(false) {
            self.pauses.mark_unchanged();
            for slot in &mut self.slots {
                slot.is_paused = is_paused(&slot.queue);
            }
        }
    }

    /// Takes jobs for a fetch; none while it should wait.
    pub(super) fn take(
        &mut self,
        want: usize,
        seal: &Seal,
        is_dropped: &dyn Fn(&Job, Option<CopyId>) -> bool,
        (now, time): (Instant, Timestamp),
    ) -> Vec<Delivery> {
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        while taken.is_empty() {
            let offers = self.offers(want, now);
            let Some(counts) = self.mixer.mix(want, &offers) else { break };
            for (slot, count) in self.slots.iter_mut().zip(counts) {
                for Waiting { tag, job, ready_at, recoveries } in (0..count).map_while(|_| slot.buffer.pop()) {
                    let Some(claim) = self.ledger.get_mut(tag) else { continue };
                    if is_dropped(&job, claim.ticket.copy) {
                        dropped.push(tag);
                        continue;
                    }
                    claim.stage = Stage::Out { place: self.handed_out };
                    self.handed_out += 1;
                    slot.running += 1;
                    if let (Some(copy), Some((notes, session))) = (claim.ticket.copy, &self.notes) {
                        notes.began(copy, *session);
                    }
                    let receipt = seal.receipt(self.generation, tag);
                    // A time that was past when the job was enqueued was not yet when it was ready.
                    let ready_at = ready_at.max(job.enqueued_at).min(time);
                    let mut delivery = Delivery::new(job, receipt, ready_at, time);
                    delivery.recoveries = recoveries;
                    taken.push(delivery);
                }
            }
        }
        (0..self.slots.len()).for_each(|slot| self.show(slot));
        self.acknowledge(dropped, now);
        taken
    }

    /// Whether the waiting fetch would get something.
    pub(super) fn satisfies(&mut self, now: Instant) -> bool {
        let offers = self.offers(self.wanted, now);
        self.wanted > 0 && self.mixer.look(self.wanted, &offers).is_some()
    }

    fn offers(&self, want: usize, now: Instant) -> Vec<Offer> {
        let fetch = self.fetch(want, now);
        self.slots.iter().zip(self.ready()).map(|(slot, ready)| slot.offer(fetch, ready, now)).collect()
    }

    fn fetch(&self, want: usize, now: Instant) -> Fetch {
        let is_hungry = self.wanted > 0 && now.saturating_duration_since(self.wanted_since) >= HUNGER;
        Fetch { want, is_hungry, pool: self.pool, recent: self.pace.recent(now) }
    }

    /// How many jobs are here for a fetch before it needs more of each queue: of a strict set, what earlier queues have goes
    /// out first.
    fn ready(&self) -> impl Iterator<Item = usize> {
        let mut before = 0;
        self.slots.iter().map(move |slot| {
            before = if self.is_strict { before + slot.ready() } else { slot.ready() };
            before
        })
    }

    /// The consumers that the waiting fetch needs, each with its slot.
    pub(super) fn more_consumers(&mut self, now: Instant) -> Vec<(usize, More)> {
        if self.wanted == 0 || self.phase != Phase::Open {
            return Vec::new();
        }
        let fetch = self.fetch(self.wanted, now);
        let slots = self.slots.iter().zip(self.ready()).enumerate();
        slots.filter_map(|(n, (slot, ready))| Some((n, slot.more(fetch, ready, now)?))).collect()
    }

    /// A fetch begins to wait, or goes on. Says whether the session's task must be told.
    pub(super) fn want(&mut self, jobs: usize, now: Instant) -> bool {
        if self.wanted == 0 {
            self.wanted_since = now;
        }
        self.wanted = jobs;
        self.needs_task(now)
    }

    /// A fetch waits no more. Says whether the session's task must be told.
    pub(super) fn want_nothing(&mut self, now: Instant) -> bool {
        self.wanted = 0;
        self.quiet_since = now;
        !self.is_watched && self.gives_up_at(now).is_some()
    }

    /// Whether the session's task has something to do for a fetch that begins to wait.
    fn needs_task(&mut self, now: Instant) -> bool {
        self.channel.is_none() || self.waits_for_a_moment(now).is_some() || !self.more_consumers(now).is_empty()
    }

    // ---- moments

    /// When the session holds jobs that nobody asks for: the moment at which they go back.
    pub(super) fn gives_up_at(&mut self, now: Instant) -> Option<Instant> {
        let held: usize = self.slots.iter().map(Slot::held).sum();
        if self.wanted > 0 || self.phase != Phase::Open || held == 0 {
            return None;
        }
        let recent = self.pace.recent(now);
        let patience = match self.queue_type {
            QueueType::Quorum => IDLE_OF_QUORUM,
            QueueType::Classic if recent >= held.max(BUSY) => IDLE_WHILE_BUSY,
            QueueType::Classic => IDLE,
        };
        Some(self.quiet_since + patience)
    }

    /// When something changes by itself: a job's time comes, a doubt ends that a fetch waits for, a claim becomes a lease.
    pub(super) fn next_moment(&self, now: Instant) -> Option<Instant> {
        let leases = self.next_long.into_iter().chain(self.leases.next());
        self.waits_for_a_moment(now).into_iter().chain(leases).min()
    }

    /// The part of that which a fetch that begins to wait may have changed.
    fn waits_for_a_moment(&self, now: Instant) -> Option<Instant> {
        let due = self.slots.iter().filter_map(|slot| slot.early.next());
        let doubts = self.slots.iter().filter(|_| self.wanted > 0).filter_map(|slot| slot.doubt(now).1);
        let fetch = self.fetch(self.wanted, now);
        let starves = |(slot, ready): (&Slot, usize)| slot.starves(fetch, ready, now);
        let hunger = self.slots.iter().zip(self.ready()).any(starves).then(|| self.wanted_since + HUNGER);
        due.chain(doubts).chain(hunger).min()
    }
}

#[cfg(test)]
mod tests {
    use goose_core::broker::QueueSet;

    use super::super::bench::Bench;
    use super::*;

    #[test]
    fn a_deleted_job_is_acknowledged_and_not_handed_out() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 5);
        let ids: Vec<goose_core::JobId> = (0..3).map(|_| bench.arrive(0, 1, Duration::ZERO)).collect();
        // All that a first look found was deleted: it looks again.
        let taken = bench.take_but(1, &|job| job.id == ids[0]);
        assert_eq!(taken[0].job.id, ids[1]);
        assert_eq!(bench.channel.acks(), [(1, false)]);
        assert!(bench.take_but(1, &|_| true).is_empty());
    }

    #[test]
    fn an_early_job_is_handed_out_at_its_moment_and_makes_room_for_others_meanwhile() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 1);
        bench.arrive(0, 1, Duration::from_millis(30));
        bench.state.wanted = 1;
        assert!(!bench.state.satisfies(bench.now));
        assert_eq!(bench.more(), [(0, 1)]);
        let due = bench.now + Duration::from_millis(30);
        assert_eq!(bench.state.next_moment(bench.now), Some(due));
        bench.state.slots[0].wake(due);
        assert!(bench.state.satisfies(due));
    }

    #[test]
    fn what_nobody_asks_for_is_given_up_after_a_moment() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 4);
        assert_eq!(bench.state.gives_up_at(bench.now), None, "there is nothing");
        for _ in 0..3 {
            bench.arrive(0, 1, Duration::ZERO);
        }
        assert_eq!(bench.state.gives_up_at(bench.now), Some(bench.now + IDLE));
        bench.state.wanted = 1;
        assert_eq!(bench.state.gives_up_at(bench.now), None, "a fetch waits");
        bench.take(2);
        // Claims end quickly: there will be a fetch.
        bench.state.pace.ended(BUSY, bench.now);
        bench.state.want_nothing(bench.now);
        assert_eq!(bench.state.gives_up_at(bench.now), Some(bench.now + IDLE_WHILE_BUSY));
        assert!(bench.state.want_nothing(bench.now), "somebody must look after it");
        bench.state.phase = Phase::Stopping;
        assert_eq!(bench.state.gives_up_at(bench.now), None, "it goes back anyway");
    }

    #[test]
    fn later_queues_of_a_strict_set_need_no_room_for_what_earlier_ones_have() {
        let mut bench = Bench::new(QueueSet::strict(["a", "b", "c"]).unwrap());
        (0..3).for_each(|slot| bench.consume(slot, 1, 1));
        bench.arrive(1, 1, Duration::ZERO);
        bench.arrive(2, 1, Duration::ZERO);
        bench.state.wanted = 2;
        assert_eq!(bench.more(), [(0, 1), (1, 1)]);
    }
}
