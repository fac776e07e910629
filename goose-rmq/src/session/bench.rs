//! A session's state without a server, for tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::broker::{ConsumerOptions, Delivery, QueueSet};
use goose_core::{Job, JobId, JobName, Payload, QueueName, Timestamp};
use tokio::sync::watch;

use super::intake::Source;
use super::lease::Terms;
use super::receipt::Seal;
use super::state::{Standing, State};
use crate::amqp::fake::FakeChannel;
use crate::message::{Message, Rank, Ticket};
use crate::options::QueueType;

pub(super) const HEARTBEAT: Duration = Duration::from_secs(6);
pub(super) const TERMS: Terms = Terms { after: Duration::from_secs(80), length: Duration::from_secs(6) };

pub(super) struct Bench {
    pub(super) state: State,
    pub(super) channel: Arc<FakeChannel>,
    pub(super) seal: Seal,
    pub(super) now: Instant,
    pub(super) tags: u64,
}

impl Bench {
    pub(super) fn new(set: QueueSet) -> Self {
        let (now, channel) = (Instant::now(), Arc::new(FakeChannel::default()));
        let mut state = State::new(
            &ConsumerOptions::new(set, 5),
            QueueType::Classic,
            TERMS,
            watch::Sender::new(0).subscribe(),
            now,
        );
        state.begin(Arc::new(Arc::clone(&channel)), now);
        Self { state, channel, seal: Seal::new(), now, tags: 0 }
    }

    pub(super) fn one() -> Self {
        Self::new(QueueSet::one(QueueName::default()))
    }

    /// A consumer whose first burst has come.
    pub(super) fn consume(&mut self, slot: usize, number: u64, limit: u16) {
        self.state.slots[slot].consume(number, limit);
        self.state.slots[slot].is_proved(number);
    }

    pub(super) fn arrive(&mut self, slot: usize, consumer: u64, hold: Duration) -> JobId {
        self.tags += 1;
        let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]));
        job.enqueued_at = Timestamp::EPOCH;
        let (id, ticket) = (job.id, Ticket::now(Rank::Normal, Timestamp::from_millis(5)));
        let message = Message { job, ticket, envelope: Arc::from([]) };
        self.state.keep(self.tags, Source { slot, consumer }, message, hold, self.now);
        id
    }

    pub(super) fn take(&mut self, want: usize) -> Vec<Delivery> {
        self.take_but(want, &|_| false)
    }

    pub(super) fn take_but(&mut self, want: usize, is_deleted: &dyn Fn(&Job) -> bool) -> Vec<Delivery> {
        let is_dropped = |job: &Job, _| is_deleted(job);
        self.state.take(want, &self.seal, &is_dropped, (self.now, Timestamp::from_millis(9)))
    }

    pub(super) fn more(&mut self) -> Vec<(usize, u16)> {
        let more = self.state.more_consumers(self.now);
        more.into_iter().map(|(slot, more)| (slot, more.limit)).collect()
    }

    pub(super) fn standing(&self, delivery: &Delivery) -> bool {
        matches!(self.state.standing(self.seal.read(&delivery.receipt).unwrap(), self.now), Standing::Held { .. })
    }
}
