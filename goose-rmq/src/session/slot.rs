//! One queue of a session's set: what has come from it, its consumer, and whether more is about to come.

use std::time::{Duration, Instant};

use goose_core::{Job, QueueName, Timestamp};

use super::buffer::{Buffer, Early};
use super::mixer::{Doubt, Offer};
use super::window::{self, Demand};

/// How long a queue may take to send what acknowledgements have made room for.
const GRACE: Duration = Duration::from_millis(10);

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

/// The consumer that receives now. Others before it may still have jobs that are being run.
#[derive(Debug, Clone, Copy)]
struct Consumer {
    number: u64,
    limit: usize,
    unacknowledged: usize,
}

/// What is being waited for on a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    /// The consumer is the first after a time without: the server sends what is most urgent first, but not all at once.
    Start,
    /// The consumer takes the place of another.
    Replace,
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
    /// What it has in its buffer goes back as soon as its last consumer has ended.
    pub(super) gives_back: bool,
    consumer: Option<Consumer>,
    change: Change,
    /// When acknowledgements gave a full consumer room again.
    fresh_since: Option<Instant>,
    /// Copies of recovered jobs that are on their way back here, and until when they are expected.
    copies: usize,
    copies_until: Instant,
}

impl Slot {
    pub(super) fn new(queue: QueueName, now: Instant) -> Self {
        Self {
            queue,
            buffer: Buffer::default(),
            early: Early::default(),
            running: 0,
            is_paused: false,
            is_missing: false,
            gives_back: false,
            consumer: None,
            change: Change::None,
            fresh_since: None,
            copies: 0,
            copies_until: now,
        }
    }

    /// The channel is gone, and everything with it.
    pub(super) fn reset(&mut self, now: Instant) {
        let is_paused = self.is_paused;
        *self = Self { is_paused, ..Self::new(self.queue.clone(), now) };
    }

    // ---- the consumer

    pub(super) fn has_consumer(&self) -> bool {
        self.consumer.is_some()
    }

    pub(super) fn is_changing(&self) -> bool {
        self.change != Change::None
    }

    /// A consumer with this number and limit is being made.
    pub(super) fn consume(&mut self, number: u64, limit: u16) {
        self.change = if self.consumer.is_some() { Change::Replace } else { Change::Start };
        self.consumer = Some(Consumer { number, limit: limit.into(), unacknowledged: 0 });
        self.fresh_since = None;
    }

    /// The consumer is being cancelled, or was by the server.
    pub(super) fn cancel(&mut self) {
        self.consumer = None;
        self.change = Change::None;
        self.fresh_since = None;
    }

    /// Everything that the server had for the consumer when it began is here.
    pub(super) fn is_proved(&mut self, number: u64) {
        if self.consumer.is_some_and(|consumer| consumer.number == number) {
            self.change = Change::None;
        }
    }

    /// The limit of the consumer that should be made for a fetch; `ready` is what is there for it.
    pub(super) fn new_limit(&self, want: usize, ready: usize, recent: usize) -> Option<u16> {
        if self.is_changing() || self.is_paused || self.is_missing || self.gives_back {
            return None;
        }
        let consumer = self.consumer.map(|consumer| (consumer.limit, consumer.unacknowledged));
        window::new_limit(Demand { want, ready, consumer, running: self.running, recent })
    }

    /// Whether it holds, or may get, jobs that nobody has asked for.
    pub(super) fn is_ahead(&self) -> bool {
        self.held() > 0 || self.consumer.is_some_and(|consumer| consumer.unacknowledged < consumer.limit)
    }

    // ---- jobs

    /// Jobs that are here and were not handed out.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.early.len()
    }

    /// A delivery to one of its consumers came.
    pub(super) fn arrived(&mut self, number: u64) {
        if let Some(consumer) = self.consumer.as_mut().filter(|consumer| consumer.number == number) {
            consumer.unacknowledged += 1;
        }
    }

    /// A delivery to one of its consumers was acknowledged.
    pub(super) fn acknowledged(&mut self, number: u64, now: Instant) {
        if let Some(consumer) = self.consumer.as_mut().filter(|consumer| consumer.number == number) {
            // One that had room before has nothing to send: it would have sent it.
            if consumer.unacknowledged >= consumer.limit {
                self.fresh_since = Some(now);
            }
            consumer.unacknowledged = consumer.unacknowledged.saturating_sub(1);
        }
    }

    /// Copies of recovered jobs are being sent to this queue.
    pub(super) fn expect_copies(&mut self, copies: usize, now: Instant) {
        self.copies += copies;
        self.copies_until = now + COPIES_ARE_STORED_WITHIN;
    }

    /// They are stored, and can come at any time.
    pub(super) fn copies_are_stored(&mut self, now: Instant) {
        self.copies_until = now + COPIES_COME_WITHIN;
    }

    pub(super) fn copy_came(&mut self) {
        self.copies = self.copies.saturating_sub(1);
    }

    /// Puts early jobs whose moment has come where they can be taken.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((due, waiting)) = self.early.pop_ready(now) {
            self.buffer.push(crate::message::Rank::Due, due, waiting);
        }
    }

    // ---- what a fetch sees

    /// What it has for a fetch that wants `missing` jobs more than are here.
    pub(super) fn offer(&self, missing: usize, now: Instant) -> Offer {
        let doubt = match self.doubt(now).0 {
            // It would deliver more if its consumer had the room, or if there were one.
            Doubt::None if self.lacks_room(missing) => {
                if self.has_consumer() {
                    Doubt::More
                } else {
                    Doubt::Order
                }
            }
            doubt => doubt,
        };
        Offer { ready: self.buffer.len(), doubt }
    }

    fn lacks_room(&self, missing: usize) -> bool {
        let is_served = !(self.is_paused || self.is_missing || self.gives_back);
        let room = self.consumer.map_or(0, |consumer| consumer.limit.saturating_sub(consumer.unacknowledged));
        is_served && room < missing.min(window::MOST)
    }

    /// Whether more may come, and until when that is believed; without an end, until something happens.
    pub(super) fn doubt(&self, now: Instant) -> (Doubt, Option<Instant>) {
        match self.change {
            Change::Start => return (Doubt::Order, None),
            Change::Replace => return (Doubt::More, None),
            Change::None => {}
        }
        if self.copies > 0 && now < self.copies_until {
            return (Doubt::Order, Some(self.copies_until));
        }
        let has_room = self.consumer.is_some_and(|consumer| consumer.unacknowledged < consumer.limit);
        match self.fresh_since.map(|since| since + GRACE) {
            Some(end) if now < end && has_room => (Doubt::More, Some(end)),
            _ => (Doubt::None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(now: Instant) -> Slot {
        Slot::new(QueueName::default(), now)
    }

    #[test]
    fn a_new_consumer_is_in_doubt_until_its_first_burst_is_known_to_be_here() {
        let now = Instant::now();
        let mut slot = slot(now);
        assert_eq!(slot.doubt(now), (Doubt::None, None));
        slot.consume(1, 5);
        assert_eq!(slot.doubt(now), (Doubt::Order, None));
        slot.is_proved(7);
        assert_eq!(slot.doubt(now), (Doubt::Order, None));
        slot.is_proved(1);
        assert_eq!(slot.doubt(now), (Doubt::None, None));
        // One that takes over brings more, but what is here has its place.
        slot.consume(2, 9);
        assert_eq!(slot.doubt(now), (Doubt::More, None));
    }

    #[test]
    fn only_a_full_consumer_is_in_doubt_after_acknowledgements_and_only_for_a_moment() {
        let now = Instant::now();
        let mut slot = slot(now);
        slot.consume(1, 2);
        slot.is_proved(1);
        slot.arrived(1);
        slot.acknowledged(1, now);
        assert_eq!(slot.doubt(now), (Doubt::None, None), "it had room before");
        slot.arrived(1);
        slot.arrived(1);
        assert!(!slot.is_ahead());
        slot.acknowledged(1, now);
        assert!(slot.is_ahead());
        assert_eq!(slot.doubt(now), (Doubt::More, Some(now + GRACE)));
        assert_eq!(slot.doubt(now + GRACE), (Doubt::None, None));
        slot.arrived(1);
        assert_eq!(slot.doubt(now), (Doubt::None, None), "it is full again");
    }

    #[test]
    fn a_consumer_without_the_room_that_a_fetch_wants_may_have_more() {
        let now = Instant::now();
        let mut slot = slot(now);
        assert_eq!(slot.offer(1, now).doubt, Doubt::Order, "nobody has asked the server");
        slot.consume(1, 2);
        slot.is_proved(1);
        slot.arrived(1);
        assert_eq!(slot.offer(1, now).doubt, Doubt::None);
        assert_eq!(slot.offer(2, now).doubt, Doubt::More);
        assert_eq!(slot.offer(0, now).doubt, Doubt::None);
        slot.is_paused = true;
        assert_eq!(slot.offer(2, now).doubt, Doubt::None);
    }

    #[test]
    fn deliveries_to_an_earlier_consumer_do_not_count() {
        let now = Instant::now();
        let mut slot = slot(now);
        slot.consume(1, 1);
        slot.is_proved(1);
        slot.arrived(1);
        assert_eq!(slot.new_limit(1, 0, 0), Some(1));
        slot.consume(2, 1);
        assert_eq!(slot.new_limit(1, 0, 0), None, "it is being made");
        slot.is_proved(2);
        slot.acknowledged(1, now);
        slot.arrived(1);
        assert!(slot.is_ahead());
        assert_eq!(slot.new_limit(1, 0, 0), None);
        slot.is_paused = true;
        assert_eq!(slot.new_limit(9, 0, 0), None);
    }

    #[test]
    fn copies_of_recovered_jobs_are_waited_for() {
        let now = Instant::now();
        let mut slot = slot(now);
        slot.expect_copies(2, now);
        assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_ARE_STORED_WITHIN)));
        slot.copies_are_stored(now);
        slot.copy_came();
        assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_COME_WITHIN)));
        // Another session has got the other one.
        assert_eq!(slot.doubt(now + COPIES_COME_WITHIN), (Doubt::None, None));
        slot.copy_came();
        assert_eq!(slot.doubt(now), (Doubt::None, None));
    }
}
