//! What the calls of a consumer and the session's own task share: claims, buffers, and what is wanted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::ConsumerOptions;
use goose_core::{Clock, Error, JobId, SystemClock, Timestamp};
use tokio::sync::watch;

use super::intake::Source;
use super::lease::{Leases, Terms};
use super::ledger::Ledger;
use super::mixer::Mixer;
use super::pace::Pace;
pub(super) use super::phase::Phase;
use super::receipt::Claimed;
use super::slot::{Slot, Waiting};
use crate::amqp::Channel;
use crate::journal::Notes;
use crate::log::Presence;
use crate::message::{Message, Rank, Ticket};
use crate::options::QueueType;

/// A job that the server believes we have.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) slot: usize,
    /// The number of the consumer it was delivered to.
    pub(super) consumer: u64,
    pub(super) id: JobId,
    pub(super) ticket: Ticket,
    pub(super) envelope: Arc<[u8]>,
    pub(super) stage: Stage,
    /// When it must be turned into a lease.
    pub(super) long_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In a buffer.
    Here,
    /// Handed out. The place is its number in the order of all that were.
    Out { place: u64 },
    /// Handed out, and being settled.
    Ending { place: u64 },
    /// Never handed out: it is being sent to where it belongs.
    Leaving,
}

/// What a receipt is worth.
pub(super) enum Standing {
    /// Its claim is held, and has this place.
    Held {
        place: u64,
    },
    /// Another call settles it at this moment.
    Busy,
    Lost,
}

/// The state of a session.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Counts channels: claims of another one are lost.
    pub(super) generation: u64,
    pub(super) channel: Option<Arc<dyn Channel>>,
    /// When the last question was asked that the server has answered on this channel.
    pub(super) renewed: Instant,
    /// The channel did not answer: it is over, though nobody else may have noticed.
    pub(super) is_mute: bool,
    pub(super) ledger: Ledger<Claim>,
    pub(super) leases: Leases,
    pub(super) terms: Terms,
    /// When the first claim of the ledger must be turned into a lease, at the earliest.
    pub(super) next_long: Option<Instant>,
    pub(super) slots: Vec<Slot>,
    pub(super) pace: Pace,
    /// How many jobs a waiting fetch wants; zero when nobody waits.
    pub(super) wanted: usize,
    /// Since when it waits.
    pub(super) wanted_since: Instant,
    /// When a fetch last waited, or a job came that nobody waited for.
    pub(super) quiet_since: Instant,
    /// The session's task will look whether fetches have stopped.
    pub(super) is_watched: bool,
    /// The broker is closing: what was handed out goes back as soon as everything else has.
    pub(super) leaves_at_once: bool,
    /// For the next fetch.
    pub(super) failure: Option<Error>,
    /// For whoever waits for the end.
    pub(super) stop_error: Option<Error>,
    pub(super) losses: u64,
    /// When the last lost channel was replaced, if one ever was.
    pub(super) back_since: Option<Timestamp>,
    /// When the next job may come back that is suspected of killing its workers.
    pub(super) suspects_from: Option<Instant>,
    pub(super) last_error: Option<String>,
    /// Told when queues may have been paused or resumed.
    pub(super) pauses: watch::Receiver<u64>,
    /// What others see of this session.
    pub(super) presence: Option<Arc<Presence>>,
    /// Where is noted for the journal which messages it runs, and its name there.
    pub(super) notes: Option<(Arc<Notes>, JobId)>,
    pub(super) mixer: Mixer,
    pub(super) is_strict: bool,
    pub(super) queue_type: QueueType,
    pub(super) pool: usize,
    pub(super) handed_out: u64,
}

impl State {
    pub(super) fn new(
        options: &ConsumerOptions,
        queue_type: QueueType,
        terms: Terms,
        mut pauses: watch::Receiver<u64>,
        now: Instant,
    ) -> Self {
        // Nothing is known yet.
        pauses.mark_changed();
        Self {
            phase: Phase::Open,
            generation: 0,
            channel: None,
            renewed: now,
            is_mute: false,
            ledger: Ledger::default(),
            leases: Leases::default(),
            terms,
            next_long: None,
            slots: options.queues.names().map(|queue| Slot::new(queue.clone(), queue_type, now)).collect(),
            pace: Pace::new(now),
            wanted: 0,
            wanted_since: now,
            quiet_since: now,
            is_watched: false,
            leaves_at_once: false,
            failure: None,
            stop_error: None,
            losses: 0,
            back_since: None,
            suspects_from: None,
            last_error: None,
            pauses,
            presence: None,
            notes: None,
            mixer: Mixer::new(&options.queues),
            is_strict: options.queues.is_strict(),
            queue_type,
            pool: options.concurrency.saturating_add(options.prefetch),
            handed_out: 0,
        }
    }

    // ---- the channel

    /// A new channel, on which nothing is claimed.
    pub(super) fn begin(&mut self, channel: Arc<dyn Channel>, now: Instant) {
        self.channel = Some(channel);
        (self.renewed, self.is_mute) = (now, false);
        if self.generation > 0 {
            self.back_since = Some(SystemClock.now());
        }
    }

    /// The channel is gone, and every claim with it but for the leases.
    pub(super) fn lose(&mut self, now: Instant) {
        self.generation += 1;
        self.channel = None;
        if let Some((notes, _)) = &self.notes {
            let had =
                self.ledger.iter().filter(|(_, claim)| matches!(claim.stage, Stage::Out { .. } | Stage::Ending { .. }));
            had.filter_map(|(_, claim)| claim.ticket.copy).for_each(|copy| notes.back(copy));
        }
        self.ledger = Ledger::default();
        self.next_long = None;
        self.slots.iter_mut().for_each(|slot| slot.reset(now));
        for (_, lease) in self.leases.iter() {
            self.slots[lease.claim.slot].running += 1;
        }
        (0..self.slots.len()).for_each(|slot| self.show(slot));
    }

    /// Whether the server has answered so recently that nobody may have taken our jobs. A sixth of the time is kept as a
    /// margin for the time between asking and starting.
    pub(super) fn is_fresh(&self, heartbeat: Duration, now: Instant) -> bool {
        self.is_open() && now.saturating_duration_since(self.renewed) < heartbeat * 5 / 6
    }

    fn is_open(&self) -> bool {
        !self.is_mute && self.channel.as_ref().is_some_and(|channel| channel.is_open())
    }

    // ---- claims

    /// A delivery that is no job for a fetch, or not yet: it is held until it has been sent to where it belongs.
    pub(super) fn open(&mut self, tag: u64, mut claim: Claim, now: Instant) {
        let slot = claim.slot;
        claim.long_at = now + self.terms.after;
        self.next_long.get_or_insert(claim.long_at);
        self.slots[slot].arrived(claim.consumer);
        self.ledger.open(tag, claim);
        self.show(slot);
    }

    /// Shows others how many jobs of a queue are being run, and how many are here that still wait.
    pub(super) fn show(&self, slot: usize) {
        if let Some(presence) = &self.presence {
            let (running, held) = (self.slots[slot].running, self.slots[slot].held());
            // Leases run and are no deliveries any more.
            let leased = self.leases.iter().filter(|(_, lease)| lease.claim.slot == slot).count();
            let moving = (self.slots[slot].unacknowledged() + leased).saturating_sub(running + held);
            presence.show(slot, running, held, moving);
        }
    }

    /// A job for a fetch, at once or when its time has come.
    pub(super) fn keep(
        &mut self,
        tag: u64,
        Source { slot, consumer }: Source,
        message: Message,
        hold: Duration,
        now: Instant,
    ) {
        let Message { job, ticket, envelope } = message;
        let (rank, ready_at, recoveries) = (ticket.rank, ticket.ready_at, ticket.recoveries);
        let stage = Stage::Here;
        self.open(tag, Claim { slot, consumer, id: job.id, ticket, envelope, stage, long_at: now }, now);
        self.quiet_since = now;
        let here = &mut self.slots[slot];
        if rank == Rank::Again && recoveries > 0 {
            here.copy_came();
        }
        let waiting = Waiting { tag, job, ready_at, recoveries };
        if hold.is_zero() {
            here.buffer.push(rank, ready_at, tag, waiting);
        } else {
            here.early.hold(now + hold, ready_at, waiting);
        }
        self.show(slot);
    }

    pub(super) fn standing(&self, claimed: Claimed, now: Instant) -> Standing {
        if let Some(standing) = self.leases.standing(claimed, self.terms, now) {
            return standing;
        }
        if claimed.generation != self.generation || !self.is_open() {
            return Standing::Lost;
        }
        match self.ledger.get(claimed.tag).map(|claim| claim.stage) {
            Some(Stage::Out { place }) => Standing::Held { place },
            Some(Stage::Ending { .. }) => Standing::Busy,
            _ => Standing::Lost,
        }
    }

    /// Whether a claim can be relied on at this moment.
    pub(super) fn holds(&self, claimed: Claimed, heartbeat: Duration, now: Instant) -> bool {
        let is_sure = self.leases.contains(claimed) || self.is_fresh(heartbeat, now);
        is_sure && !matches!(self.standing(claimed, now), Standing::Lost)
    }

    /// A claim, whether it is a lease or not.
    pub(super) fn claim_mut(&mut self, claimed: Claimed) -> Option<&mut Claim> {
        match self.leases.get_mut(claimed) {
            Some(lease) => Some(&mut lease.claim),
            None if claimed.generation == self.generation => self.ledger.get_mut(claimed.tag),
            None => None,
        }
    }

    /// Whether jobs that were not handed out are being sent to where they belong.
    pub(super) fn is_sending(&self) -> bool {
        self.ledger.iter().any(|(_, claim)| claim.stage == Stage::Leaving)
    }

    /// Everything that was handed out and has not ended, in the order in which it was.
    pub(super) fn handed_out(&self) -> Vec<Claimed> {
        let generation = self.generation;
        let of_channel = self.ledger.iter().map(|(tag, claim)| (Claimed { generation, tag }, claim.stage));
        let of_leases = self.leases.iter().map(|(claimed, lease)| (claimed, lease.claim.stage));
        let mut out: Vec<(u64, Claimed)> = of_channel
            .chain(of_leases)
            .filter_map(|(claimed, stage)| match stage {
                Stage::Out { place } | Stage::Ending { place } => Some((place, claimed)),
                Stage::Here | Stage::Leaving => None,
            })
            .collect();
        out.sort_unstable();
        out.into_iter().map(|(_, claimed)| claimed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::{Bench, HEARTBEAT};
    use super::*;
    use crate::amqp::fake::FakeChannel;

    #[test]
    fn a_job_is_held_from_its_fetch_to_its_acknowledgement() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 5);
        let ids: Vec<JobId> = (0..3).map(|_| bench.arrive(0, 1, Duration::ZERO)).collect();
        let taken = bench.take(2);
        assert_eq!(taken.iter().map(|delivery| delivery.job.id).collect::<Vec<_>>(), ids[..2]);
        assert_eq!((taken[0].ready_at.as_millis(), taken[0].claimed_at.as_millis()), (5, 9));
        assert!(taken.iter().all(|delivery| bench.standing(delivery)));
        assert_eq!(bench.state.slots[0].running, 2);
        bench.state.acknowledge([2], bench.now);
        assert_eq!(bench.channel.acks(), [(2, false)]);
        assert!(bench.standing(&taken[0]) && !bench.standing(&taken[1]));
        bench.state.acknowledge([1, 3], bench.now);
        assert_eq!(bench.channel.acks(), [(3, true)]);
        assert_eq!((bench.state.slots[0].running, bench.state.ledger.len()), (0, 0));
    }

    #[test]
    fn a_buffered_job_is_nobodys_and_a_claim_of_a_lost_channel_is_lost() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 5);
        bench.arrive(0, 1, Duration::ZERO);
        let forged = bench.seal.receipt(0, 1);
        assert!(matches!(bench.state.standing(bench.seal.read(&forged).unwrap(), bench.now), Standing::Lost));
        let taken = bench.take(1);
        assert!(bench.standing(&taken[0]));
        bench.channel.end();
        assert!(!bench.standing(&taken[0]), "the channel is over, whoever has noticed");
        bench.state.lose(bench.now);
        bench.state.begin(Arc::new(Arc::new(FakeChannel::default())), bench.now);
        bench.arrive(0, 1, Duration::ZERO);
        bench.tags = 0;
        bench.arrive(0, 1, Duration::ZERO);
        bench.take(2);
        assert!(!bench.standing(&taken[0]), "another job has the same tag now");
    }

    #[test]
    fn a_claim_is_fresh_while_the_server_has_answered_lately() {
        let bench = Bench::one();
        assert!(bench.state.is_fresh(HEARTBEAT, bench.now + Duration::from_millis(4_999)));
        assert!(!bench.state.is_fresh(HEARTBEAT, bench.now + Duration::from_secs(5)));
        bench.channel.end();
        assert!(!bench.state.is_fresh(HEARTBEAT, bench.now));
    }
}
