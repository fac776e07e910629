//! What the calls of a consumer and the session's own task share: claims, buffers, and what is wanted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{ConsumerOptions, Delivery};
use goose_core::{Error, JobId, Result, Timestamp};

use super::begun::{Begun, begin};
use super::intake::Source;
use super::ledger::Ledger;
use super::mixer::{Mixer, Offer};
use super::pace::Pace;
use super::receipt::{Claimed, Seal};
use super::slot::{Slot, Waiting};
use crate::amqp::Channel;
use crate::message::{Message, Rank, Ticket};

/// When nobody has fetched for this long, what nobody asked for goes back. Longer where claims end so quickly that it will
/// be asked for in a moment.
const IDLE: Duration = Duration::from_millis(50);
const IDLE_WHILE_BUSY: Duration = Duration::from_millis(250);

/// How far a session is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing is handed out any more, and what was not handed out goes back.
    Stopping,
    /// What was handed out may still be settled, until this moment.
    Leaving {
        until: Instant,
    },
    /// Nothing is claimed any more.
    Ended,
}

impl Phase {
    /// Whether nothing is handed out any more.
    pub(super) fn is_ending(self) -> bool {
        self != Self::Open
    }
}

/// A job that the server believes we have.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) slot: usize,
    /// The number of the consumer it was delivered to.
    pub(super) consumer: u64,
    pub(super) id: JobId,
    pub(super) ticket: Ticket,
    pub(super) envelope: Arc<[u8]>,
    pub(super) stage: Stage,
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
    pub(super) ledger: Ledger<Claim>,
    pub(super) slots: Vec<Slot>,
    pub(super) pace: Pace,
    /// How many jobs a waiting fetch wants; zero when nobody waits.
    pub(super) wanted: usize,
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
    pub(super) last_error: Option<String>,
    mixer: Mixer,
    is_strict: bool,
    handed_out: u64,
}

impl State {
    pub(super) fn new(options: &ConsumerOptions, now: Instant) -> Self {
        Self {
            phase: Phase::Open,
            generation: 0,
            channel: None,
            renewed: now,
            ledger: Ledger::default(),
            slots: options.queues.names().map(|queue| Slot::new(queue.clone(), now)).collect(),
            pace: Pace::new(now),
            wanted: 0,
            quiet_since: now,
            is_watched: false,
            leaves_at_once: false,
            failure: None,
            stop_error: None,
            losses: 0,
            last_error: None,
            mixer: Mixer::new(&options.queues),
            is_strict: options.queues.is_strict(),
            handed_out: 0,
        }
    }

    // ---- the channel

    /// A new channel, on which nothing is claimed.
    pub(super) fn begin(&mut self, channel: Arc<dyn Channel>, now: Instant) {
        self.channel = Some(channel);
        self.renewed = now;
    }

    /// The channel is gone, and every claim with it.
    pub(super) fn lose(&mut self, now: Instant) {
        self.generation += 1;
        self.channel = None;
        self.ledger = Ledger::default();
        self.slots.iter_mut().for_each(|slot| slot.reset(now));
    }

    /// Whether the server has answered so recently that nobody may have taken our jobs. A sixth of the time is kept as a
    /// margin for the time between asking and starting.
    pub(super) fn is_fresh(&self, heartbeat: Duration, now: Instant) -> bool {
        let is_open = self.channel.as_ref().is_some_and(|channel| channel.is_open());
        is_open && now.saturating_duration_since(self.renewed) < heartbeat * 5 / 6
    }

    // ---- claims

    /// A delivery that is no job for a fetch, or not yet: it is held until it has been sent to where it belongs.
    pub(super) fn open(&mut self, tag: u64, claim: Claim) {
        self.slots[claim.slot].arrived(claim.consumer);
        self.ledger.open(tag, claim);
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
        self.open(tag, Claim { slot, consumer, id: job.id, ticket, envelope, stage: Stage::Here });
        self.quiet_since = now;
        let slot = &mut self.slots[slot];
        if rank == Rank::Again && recoveries > 0 {
            slot.copy_came();
        }
        let waiting = Waiting { tag, job, ready_at, recoveries };
        if hold.is_zero() {
            slot.buffer.push(rank, ready_at, waiting);
        } else {
            slot.early.hold(now + hold, ready_at, waiting);
        }
    }

    pub(super) fn standing(&self, claimed: Claimed) -> Standing {
        let is_open = self.channel.as_ref().is_some_and(|channel| channel.is_open());
        if claimed.generation != self.generation || !is_open {
            return Standing::Lost;
        }
        match self.ledger.get(claimed.tag).map(|claim| claim.stage) {
            Some(Stage::Out { place }) => Standing::Held { place },
            Some(Stage::Ending { .. }) => Standing::Busy,
            _ => Standing::Lost,
        }
    }

    /// Acknowledges claims, which ends them. The frames are out when this returns; what is returned ends when they are
    /// written. `None` if there was nothing to acknowledge.
    pub(super) fn acknowledge(
        &mut self,
        tags: impl IntoIterator<Item = u64>,
        now: Instant,
    ) -> Option<Begun<Result<()>>> {
        let channel = Arc::clone(self.channel.as_ref()?);
        let (acks, claims) = self.ledger.close(tags);
        let mut ended = 0;
        for claim in claims {
            let slot = &mut self.slots[claim.slot];
            slot.acknowledged(claim.consumer, now);
            if matches!(claim.stage, Stage::Out { .. } | Stage::Ending { .. }) {
                slot.running = slot.running.saturating_sub(1);
                ended += 1;
            }
        }
        self.pace.ended(ended, now);
        // They are written in this order, so the last one tells of all.
        acks.into_iter().map(|ack| begin(channel.ack(ack.tag, ack.multiple))).last()
    }

    // ---- fetching

    /// Takes jobs for a fetch; none while it should wait.
    pub(super) fn take(
        &mut self,
        want: usize,
        seal: &Seal,
        is_deleted: &dyn Fn(JobId) -> bool,
        (now, time): (Instant, Timestamp),
    ) -> Vec<Delivery> {
        let (mut taken, mut deleted) = (Vec::new(), Vec::new());
        while taken.is_empty() {
            let offers = self.offers(now);
            let Some(counts) = self.mixer.mix(want, &offers) else { break };
            for (slot, count) in self.slots.iter_mut().zip(counts) {
                for Waiting { tag, job, ready_at, recoveries } in (0..count).map_while(|_| slot.buffer.pop()) {
                    if is_deleted(job.id) {
                        deleted.push(tag);
                        continue;
                    }
                    let Some(claim) = self.ledger.get_mut(tag) else { continue };
                    claim.stage = Stage::Out { place: self.handed_out };
                    self.handed_out += 1;
                    slot.running += 1;
                    let receipt = seal.receipt(self.generation, tag);
                    let mut delivery = Delivery::new(job, receipt, ready_at.min(time), time);
                    delivery.recoveries = recoveries;
                    taken.push(delivery);
                }
            }
        }
        let _on_its_way = self.acknowledge(deleted, now);
        taken
    }

    /// Whether the waiting fetch would get something.
    pub(super) fn satisfies(&mut self, now: Instant) -> bool {
        let offers = self.offers(now);
        self.wanted > 0 && self.mixer.look(self.wanted, &offers).is_some()
    }

    fn offers(&self, now: Instant) -> Vec<Offer> {
        self.slots.iter().map(|slot| slot.offer(now)).collect()
    }

    /// The consumers that the waiting fetch needs, by their slots and limits.
    pub(super) fn new_limits(&mut self, now: Instant) -> Vec<(usize, u16)> {
        if self.wanted == 0 || self.phase != Phase::Open {
            return Vec::new();
        }
        let recent = self.pace.recent(now);
        let mut before = 0;
        let mut limits = Vec::new();
        for (n, slot) in self.slots.iter().enumerate() {
            let here = slot.buffer.len();
            // What earlier queues of a strict set have goes out first.
            let ready = if self.is_strict { before + here } else { here };
            before += here;
            limits.extend(slot.new_limit(self.wanted, ready, recent).map(|limit| (n, limit)));
        }
        limits
    }

    /// A fetch waits no more. Says whether the session's task must be told.
    pub(super) fn want_nothing(&mut self, now: Instant) -> bool {
        self.wanted = 0;
        self.quiet_since = now;
        !self.is_watched && self.gives_up_at(now).is_some()
    }

    /// Whether the session's task has something to do for a fetch that begins to wait.
    pub(super) fn needs_task(&mut self, now: Instant) -> bool {
        let waits_for_a_moment = self.slots.iter().any(|slot| slot.doubt(now).1.is_some());
        self.channel.is_none() || waits_for_a_moment || !self.new_limits(now).is_empty()
    }

    // ---- moments

    /// When the session holds what nobody asks for: the moment at which that goes back.
    pub(super) fn gives_up_at(&mut self, now: Instant) -> Option<Instant> {
        if self.wanted > 0 || self.phase != Phase::Open || !self.slots.iter().any(Slot::is_ahead) {
            return None;
        }
        let held: usize = self.slots.iter().map(Slot::held).sum();
        let recent = self.pace.recent(now);
        let patience = if recent > 0 && recent >= held { IDLE_WHILE_BUSY } else { IDLE };
        Some(self.quiet_since + patience)
    }

    /// When something changes by itself: a job's time comes, or a doubt ends that a fetch waits for.
    pub(super) fn next_moment(&self, now: Instant) -> Option<Instant> {
        let due = self.slots.iter().filter_map(|slot| slot.early.next());
        let doubts = self.slots.iter().filter(|_| self.wanted > 0).filter_map(|slot| slot.doubt(now).1);
        due.chain(doubts).min()
    }
}
