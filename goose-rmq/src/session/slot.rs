//! One queue of a session's set: what has come from it, its consumer, and whether more is about to come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use goose_core::{Job, QueueName, Timestamp};

use super::buffer::{Buffer, Early};
use super::mixer::{Doubt, Offer};
use super::window::{self, Fetch, More, Supply};
use crate::message::Rank;
use crate::options::QueueType;

/// How long a queue may take to send what acknowledgements have made room for. A quorum queue writes them to its log first.
const GRACE: Duration = Duration::from_millis(10);
const GRACE_OF_QUORUM: Duration = Duration::from_millis(30);

/// How long a job that acknowledgements have made room for may take to come before its consumer is cancelled all the same. What
/// comes after that is lost to this session, and a quorum queue counts it.
const PATIENCE: Duration = Duration::from_millis(20);
const PATIENCE_WITH_QUORUM: Duration = Duration::from_millis(250);

/// How long the copies of recovered jobs may take to be stored, and then to come.
const COPIES_ARE_STORED_WITHIN: Duration = Duration::from_secs(1);
const COPIES_COME_WITHIN: Duration = Duration::from_millis(20);

/// A job that has come and was not handed out.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tag: u64,
    pub(super) job: Job,
    pub(super) ready_at: Timestamp,
    pub(super) recoveries: u32,
}

/// A consumer that may receive.
#[derive(Debug, Clone, Copy)]
struct Consumer {
    number: u64,
    limit: usize,
    unacknowledged: usize,
}

impl Consumer {
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.unacknowledged)
    }
}

/// One queue of the set.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) queue: QueueName,
    pub(super) buffer: Buffer<Waiting>,
    pub(super) early: Early<Waiting>,
    /// Jobs that were handed out and not settled.
    pub(super) running: usize,
    pub(super) is_paused: bool,
    /// The queue was deleted and is being declared again.
    pub(super) is_missing: bool,
    /// What it has has been here for too long: it goes back although fetches wait for other queues.
    pub(super) is_stale: bool,
    /// What it has in its buffer goes back as soon as its last consumer has ended.
    pub(super) gives_back: bool,
    consumers: Vec<Consumer>,
    /// The number of the consumer that is being made: the server sends what is most urgent first, but not all at once.
    making: Option<u64>,
    grace: Duration,
    patience: Duration,
    /// When acknowledgements gave a full consumer room again.
    fresh_since: Option<Instant>,
    /// The server had more than its consumers could take.
    has_more: bool,
    /// Then each acknowledgement brings a job: since when they are expected.
    expected: VecDeque<Instant>,
    /// Copies of recovered jobs: those that are being sent, those that are expected back here, and until when.
    sending: usize,
    copies: usize,
    copies_until: Instant,
    /// What nobody asked for is being handed back; until when that is waited for.
    back_until: Option<Instant>,
}

impl Slot {
    pub(super) fn new(queue: QueueName, queue_type: QueueType, now: Instant) -> Self {
        let (grace, patience) = match queue_type {
            QueueType::Classic => (GRACE, PATIENCE),
            QueueType::Quorum => (GRACE_OF_QUORUM, PATIENCE_WITH_QUORUM),
        };
        Self {
            queue,
            buffer: Buffer::default(),
            early: Early::default(),
            running: 0,
            is_paused: false,
            is_missing: false,
            is_stale: false,
            gives_back: false,
            consumers: Vec::new(),
            making: None,
            grace,
            patience,
            fresh_since: None,
            has_more: false,
            expected: VecDeque::new(),
            sending: 0,
            copies: 0,
            copies_until: now,
            back_until: None,
        }
    }

    /// The channel is gone, and everything with it.
    pub(super) fn reset(&mut self, now: Instant) {
        let (is_paused, grace, patience) = (self.is_paused, self.grace, self.patience);
        *self = Self { is_paused, grace, patience, ..Self::new(self.queue.clone(), QueueType::default(), now) };
    }

    // ---- the consumers

    pub(super) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// A consumer with this number and limit is being made.
    pub(super) fn consume(&mut self, number: u64, limit: u16) {
        self.making = Some(number);
        self.consumers.push(Consumer { number, limit: limit.into(), unacknowledged: 0 });
    }

    /// All that the server had for a consumer when it was made is here.
    pub(super) fn is_proved(&mut self, number: u64) {
        self.making = self.making.filter(|making| *making != number);
    }

    /// The consumer that a fetch needs; `ready` is what is here for it.
    pub(super) fn more(&self, fetch: Fetch, ready: usize, now: Instant) -> Option<More> {
        // The room of recovered jobs will be that of their copies.
        if self.making.is_some() || !self.is_served() || self.awaits_copies(now) || self.awaits_return(now).is_some() {
            return None;
        }
        window::more(fetch, self.supply(ready))
    }

    /// Whether it could give more if the fetch had waited for longer.
    pub(super) fn starves(&self, fetch: Fetch, ready: usize, now: Instant) -> bool {
        let is_waiting = !fetch.is_hungry && self.making.is_none() && self.is_served();
        is_waiting && self.supply(ready).is_short(fetch) && self.more(fetch, ready, now).is_none()
    }

    fn supply(&self, ready: usize) -> Supply {
        Supply {
            ready,
            consumers: self.consumers.len(),
            limits: self.consumers.iter().map(|consumer| consumer.limit).sum(),
            room: self.room(),
            running: self.running,
        }
    }

    /// Whether no job can be on its way to a consumer, as far as can be known, so that they can be cancelled; otherwise
    /// when that will be so.
    pub(super) fn can_be_cancelled(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        if self.making.is_some() {
            return Err(None);
        }
        self.expect_no_more(now);
        match self.expected.front() {
            Some(since) if self.room() > 0 => Err(Some(*since + self.patience)),
            _ => Ok(()),
        }
    }

    /// What has not come for so long will not come.
    fn expect_no_more(&mut self, now: Instant) {
        if self.expected.front().is_some_and(|since| *since + self.patience <= now) {
            self.has_more = false;
            self.expected.clear();
        }
    }

    /// All consumers are being cancelled; returns their numbers.
    pub(super) fn cancel(&mut self) -> Vec<u64> {
        self.making = None;
        self.fresh_since = None;
        self.expected.clear();
        std::mem::take(&mut self.consumers).into_iter().map(|consumer| consumer.number).collect()
    }

    /// Those without room are being cancelled; returns their numbers.
    pub(super) fn cancel_full(&mut self) -> Vec<u64> {
        let (full, others) = self.consumers.iter().partition(|consumer| consumer.room() == 0);
        self.consumers = others;
        let full: Vec<Consumer> = full;
        full.into_iter().map(|consumer| consumer.number).collect()
    }

    /// The server has cancelled a consumer.
    pub(super) fn drop_consumer(&mut self, number: u64) {
        self.consumers.retain(|consumer| consumer.number != number);
        self.is_proved(number);
    }

    fn room(&self) -> usize {
        self.consumers.iter().map(Consumer::room).sum()
    }

    fn is_served(&self) -> bool {
        !(self.is_paused || self.is_missing || self.gives_back)
    }

    /// Until when the server may be sending what acknowledgements made room for.
    fn fresh_until(&self, now: Instant) -> Option<Instant> {
        let end = self.fresh_since? + self.grace;
        (now < end && self.room() > 0).then_some(end)
    }

    // ---- jobs

    /// Jobs that are here and were not handed out.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.early.len()
    }

    /// Jobs that its consumers have, whatever becomes of them.
    pub(super) fn unacknowledged(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.unacknowledged).sum()
    }

    /// A delivery to one of its consumers came.
    pub(super) fn arrived(&mut self, number: u64) {
        self.expected.pop_front();
        if let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.number == number) {
            consumer.unacknowledged += 1;
            self.has_more |= consumer.room() == 0;
        }
    }

    /// A delivery to one of its consumers was acknowledged.
    pub(super) fn acknowledged(&mut self, number: u64, now: Instant) {
        self.expect_no_more(now);
        if let Some(consumer) = self.consumers.iter_mut().find(|consumer| consumer.number == number) {
            // One that had room before has nothing to send: it would have sent it.
            if consumer.room() == 0 {
                self.fresh_since = Some(now);
            }
            if self.has_more {
                self.expected.push_back(now);
            }
            consumer.unacknowledged = consumer.unacknowledged.saturating_sub(1);
        }
    }

    /// Copies of recovered jobs are being sent to this queue.
    pub(super) fn expect_copies(&mut self, copies: usize, now: Instant) {
        self.sending += copies;
        self.copies += copies;
        self.copies_until = now + COPIES_ARE_STORED_WITHIN;
    }

    /// They are stored, and their originals gone from the server, so that no crash can bring back both. They can come at any
    /// time.
    pub(super) fn copies_are_stored(&mut self, copies: usize, now: Instant) {
        self.sending = self.sending.saturating_sub(copies);
        if self.sending == 0 {
            self.copies_until = now + COPIES_COME_WITHIN;
        }
    }

    pub(super) fn copy_came(&mut self) {
        self.copies = self.copies.saturating_sub(1);
    }

    fn awaits_copies(&self, now: Instant) -> bool {
        self.sending + self.copies > 0 && now < self.copies_until
    }

    /// What it held is being handed back. A fetch that begins now must find it in its place, and not what stood behind it.
    pub(super) fn is_going_back(&mut self, now: Instant) {
        self.back_until = Some(now + COPIES_ARE_STORED_WITHIN);
    }

    /// It is back, or will not be for a while.
    pub(super) fn is_back(&mut self) {
        self.back_until = None;
    }

    fn awaits_return(&self, now: Instant) -> Option<Instant> {
        self.back_until.filter(|until| now < *until)
    }

    /// Puts early jobs whose moment has come where they can be taken.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((due, waiting)) = self.early.pop_ready(now) {
            self.buffer.push(Rank::Due, due, waiting.tag, waiting);
        }
    }

    // ---- what a fetch sees

    /// What it has for a fetch for which so many jobs are here, from this queue or from those before it.
    pub(super) fn offer(&self, fetch: Fetch, ready: usize, now: Instant) -> Offer {
        let doubt = match self.doubt(now).0 {
            Doubt::None if self.more(fetch, ready, now).is_some() => {
                // With more room it will deliver more, and perhaps something that goes before what is here: that came without
                // being asked for.
                Doubt::Order
            }
            // Claims that end will make room, or hunger will.
            Doubt::None if self.starves(fetch, ready, now) => Doubt::More,
            doubt => doubt,
        };
        Offer { ready: self.ready(), doubt }
    }

    /// Jobs for the next fetch.
    pub(super) fn ready(&self) -> usize {
        if self.is_paused { 0 } else { self.buffer.len() }
    }

    /// Whether more may come, and until when that is believed; without an end, until something happens.
    pub(super) fn doubt(&self, now: Instant) -> (Doubt, Option<Instant>) {
        if self.making.is_some() {
            return (Doubt::Order, None);
        }
        if self.awaits_copies(now) {
            return (Doubt::Order, Some(self.copies_until));
        }
        if let Some(until) = self.awaits_return(now) {
            return (Doubt::Order, Some(until));
        }
        match self.fresh_until(now) {
            Some(end) => (Doubt::More, Some(end)),
            None => (Doubt::None, None),
        }
    }
}

#[cfg(test)]
mod tests;
