//! What becomes of a delivery: most are jobs for the next fetch.
//!
//! `redelivered` means that a session ended without a word while it held the job, for jobs are never given back by `nack`
//! (`decisions/0022-rabbitmq-sessions.md`). A quorum queue counts that in `x-delivery-count`. A classic queue has only the
//! flag, so the job is sent again with its count raised before anybody runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{DeathCause, DeathReason};
use goose_core::{Clock, JobId, QueueName, SystemClock, Timestamp};

use super::errands::{self, Errand, News, What};
use super::shared::Shared;
use super::state::{Claim, Stage};
use super::surroundings::{self, Corpse};
use crate::amqp::Delivered;
use crate::delay::{self, Path, Precision};
use crate::message::{self, Message, Rank, Ticket};
use crate::options::QueueType;

/// A job that was taken from this many dead sessions waits before it meets the next one.
const SUSPECT_FROM: u32 = 2;
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Where a delivery came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) slot: usize,
    /// The number of the consumer.
    pub(super) consumer: u64,
}

/// What is to be done with a delivery.
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one, and are not kept")]
enum Sorted {
    /// A job for a fetch, after this time.
    Keep(Message, Duration),
    /// Somebody has deleted it.
    Drop(Claim),
    Send(Claim, Errand),
}

/// Takes in deliveries; returns what must be done for those that are no jobs for a fetch, and the queues of leases that
/// have run out.
pub(super) fn take_in(session: &Shared, delivered: Vec<(Source, Delivered)>) -> (Vec<Errand>, Vec<String>) {
    let back_since = session.state().back_since;
    let mut sorter = Sorter { session, clock: SystemClock.now(), back_since, leases: Vec::new() };
    let mut sort = |(from, delivered): (Source, Delivered)| (from, delivered.tag, sorter.sort(from, delivered));
    // Reading takes a while and needs no lock.
    let sorted: Vec<(Source, u64, Sorted)> = delivered.into_iter().map(&mut sort).collect();
    let now = Instant::now();
    let mut state = session.state();
    let (mut errands, mut dropped) = (Vec::new(), Vec::new());
    for (from, tag, sorted) in sorted {
        match sorted {
            Sorted::Keep(message, hold) => state.keep(tag, from, message, hold, now),
            Sorted::Drop(claim) => {
                state.open(tag, claim, now);
                dropped.push(tag);
            }
            Sorted::Send(claim, errand) => {
                if errand.comes_back_at_once() {
                    state.slots[from.slot].expect_copies(1, now);
                }
                state.open(tag, claim, now);
                errands.push(errand);
            }
        }
    }
    state.acknowledge(dropped, now);
    (errands, sorter.leases)
}

/// Looks at the deliveries of one moment.
struct Sorter<'a> {
    session: &'a Shared,
    clock: Timestamp,
    /// When this session last got a new channel for one that it had lost.
    back_since: Option<Timestamp>,
    /// The queues of leases that ran out.
    leases: Vec<String>,
}

impl Sorter<'_> {
    fn sort(&mut self, from: Source, delivered: Delivered) -> Sorted {
        let tag = delivered.tag;
        let (job, ticket) = match message::look(&delivered, self.queue(from)) {
            Ok(job) => job,
            Err(error) => return self.junk(from, delivered, format!("{error:#}")),
        };
        let message = Message { job, ticket, envelope: delivered.body.into() };
        if surroundings::is_dropped(&self.session.inner, &message.job, message.ticket.copy) {
            return Sorted::Drop(claim(from, &message));
        }
        if let Some(lease) =
            message.ticket.lease.clone().filter(|lease| self.session.inner.topology.names.is_lease(lease))
        {
            self.leases.push(lease);
        }
        if delivered.redelivered || message.ticket.lease.is_some() {
            return self.recover(from, tag, message, delivered.redelivered);
        }
        if message.ticket.recoveries > self.session.inner.options.max_recoveries {
            return self.bury(from, tag, message);
        }
        let left = self.left(&message.ticket);
        if message.ticket.goes_on {
            return self.send_later(from, tag, message, left, Precision::Exact, News::None);
        }
        Sorted::Keep(message, left)
    }

    /// How long it is until a job is due. Not longer than was agreed on when it was sent, whatever the clocks say.
    fn left(&self, ticket: &Ticket) -> Duration {
        ticket.ready_at.since(self.clock).min(ticket.hold)
    }

    /// A session ended while it held this job: the server gives it to somebody else, or its lease was not renewed. Those are
    /// counted when they are made.
    fn recover(&mut self, from: Source, tag: u64, mut message: Message, redelivered: bool) -> Sorted {
        let options = &self.session.inner.options;
        let (before, is_new) = (message.ticket.recoveries, !redelivered || options.queue_type == QueueType::Quorum);
        let recoveries = match (is_new, redelivered && self.is_of_an_outage(&message.ticket)) {
            (true, false) => before,
            (false, false) => before.saturating_add(1),
            (true, true) => before.saturating_sub(1).max(1),
            (false, true) => before.max(1),
        };
        // Otherwise by a copy.
        let is_counted = is_new && recoveries == before;
        let (left, goes_on) = (self.left(&message.ticket), message.ticket.goes_on);
        message.ticket = Ticket { recoveries, ..message.ticket.back(self.clock) };
        if recoveries > options.max_recoveries {
            return self.bury(from, tag, message);
        }
        let id = message.job.id;
        let news = News::Recovered { id, recoveries };
        if recoveries >= SUSPECT_FROM {
            let pause = self.until_suspects_turn((options.heartbeat * (recoveries - 1)).min(LONGEST_PAUSE));
            // It need not be due.
            let pause = pause.max(left);
            return self.send_later(from, tag, message, pause, Precision::Rough, news);
        }
        if goes_on {
            return self.send_later(from, tag, message, left, Precision::Exact, news);
        }
        if is_counted {
            errands::recovered(self.session, self.queue(from), id, recoveries);
            return Sorted::Keep(message, left);
        }
        self.send(from, tag, message, Path::NOW, news)
    }

    /// Whether it was in its queue already when this session was cut off, as far as clocks can tell: then it is not its worker
    /// that has died but, most likely, the server or the network. A server that was killed marks all that is in its
    /// classic queues, received or not. So such a job counts as recovered once, however often that happens, and is not suspected
    /// for it; a copy that is made of it is younger, and counts.
    fn is_of_an_outage(&self, ticket: &Ticket) -> bool {
        self.back_since.is_some_and(|back| ticket.ready_at < back)
    }

    /// A pause at least so long, and apart from those of other suspects: all but one of those that come back from one crash
    /// are innocent, and must not meet the guilty one again. They come to us in several bursts.
    fn until_suspects_turn(&self, pause: Duration) -> Duration {
        let now = Instant::now();
        let mut state = self.session.state();
        let turn =
            state.suspects_from.map_or(now + pause, |free| free.max(now + pause)).min(now + pause + LONGEST_PAUSE);
        state.suspects_from = Some(turn + self.session.heartbeat() / 2);
        turn - now
    }

    /// A job that was taken from too many dead sessions.
    fn bury(&self, from: Source, tag: u64, message: Message) -> Sorted {
        let (claim, recoveries) = (claim(from, &message), message.ticket.recoveries);
        let Message { job, envelope, .. } = message;
        let (id, queue, reason) = (job.id, self.queue(from).clone(), errands::poison(recoveries));
        let what = if job.retry.skip_dead_queue {
            What::Drop
        } else {
            What::Bury(Corpse { id, queue, body: envelope, reason: reason.clone() })
        };
        let news = News::Poison { job: Box::new(job), recoveries, reason };
        Sorted::Send(claim, Errand { tag, slot: from.slot, what, news })
    }

    /// Bytes that are no job.
    fn junk(&self, from: Source, delivered: Delivered, why: String) -> Sorted {
        let id = delivered.message_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or_else(JobId::new);
        let body: Arc<[u8]> = delivered.body.into();
        let claim = Claim {
            slot: from.slot,
            consumer: from.consumer,
            id,
            ticket: Ticket::now(Rank::Normal, self.clock),
            envelope: Arc::clone(&body),
            stage: Stage::Leaving,
            long_at: Instant::now(),
        };
        let reason = DeathReason::new(DeathCause::Undecodable, why);
        let news = News::Undecodable { id, reason: reason.clone() };
        let what = What::Bury(Corpse { id, queue: self.queue(from).clone(), body, reason });
        Sorted::Send(claim, Errand { tag: delivered.tag, slot: from.slot, what, news })
    }

    fn send_later(
        &self,
        from: Source,
        tag: u64,
        mut message: Message,
        delay: Duration,
        precision: Precision,
        news: News,
    ) -> Sorted {
        let path = delay::path(delay, precision, delay::hop(self.session.inner.options.queue_type));
        let recoveries = message.ticket.recoveries;
        message.ticket = Ticket { recoveries, ..Ticket::due(self.clock.saturating_add(delay), path) };
        self.send(from, tag, message, path, news)
    }

    /// Sends a job on with the ticket that it has now.
    fn send(&self, from: Source, tag: u64, message: Message, path: Path, news: News) -> Sorted {
        let (exchange, key) = self.session.inner.topology.names.address(self.queue(from), path);
        let claim = claim(from, &message);
        let message = message::sealed(message.job.id, message.envelope, &message.ticket, exchange, key);
        let what = What::Send { message, by_cascade: matches!(path, Path::Levels { .. }) };
        Sorted::Send(claim, Errand { tag, slot: from.slot, what, news })
    }

    fn queue(&self, from: Source) -> &QueueName {
        &self.session.queues[from.slot]
    }
}

fn claim(from: Source, message: &Message) -> Claim {
    let (ticket, envelope) = (message.ticket.clone(), Arc::clone(&message.envelope));
    let (stage, long_at) = (Stage::Leaving, Instant::now());
    Claim { slot: from.slot, consumer: from.consumer, id: message.job.id, ticket, envelope, stage, long_at }
}
