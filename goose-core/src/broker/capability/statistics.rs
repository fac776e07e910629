//! Counting jobs and listing workers.

use crate::broker::WorkerIdentity;
use crate::{BoxFuture, QueueName, Result, Timestamp};

/// Counts, at a cost that does not depend on the number of jobs.
pub trait Statistics: Send + Sync {
    /// The counts of every queue the broker knows, in alphabetical order.
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>>;

    /// Sums over all queues since the broker's data was created.
    fn totals(&self) -> BoxFuture<'_, Result<Totals>>;

    /// The worker sessions that hold a lease now, the oldest first.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>>;
}

/// How many jobs of a queue are in which state. A job is in exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCounts {
    /// The queue.
    pub queue: QueueName,
    /// Ready to run, not claimed.
    pub ready: u64,
    /// Waiting for their time; see [`ScheduledJobs`](super::ScheduledJobs) on jobs that are due. `None` where the broker
    /// knows only how many of all queues there are, [`ScheduledJobs::size`](super::ScheduledJobs::size).
    pub scheduled: Option<u64>,
    /// Claimed: running or prefetched.
    pub running: u64,
    /// Dead.
    pub dead: u64,
}

impl QueueCounts {
    /// An empty queue.
    #[must_use]
    pub fn empty(queue: QueueName) -> Self {
        Self { queue, ready: 0, scheduled: Some(0), running: 0, dead: 0 }
    }
}

/// What has happened since the broker's data was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Jobs taken in.
    pub enqueued: u64,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed and were followed by a retry or a death among the dead.
    pub failed: u64,
    /// Jobs that were stored among the dead.
    pub died: u64,
    /// Jobs removed without having succeeded: discarded, expired, or failed for good with `skip_dead_queue`.
    pub discarded: u64,
    /// Times a job was taken from a dead session.
    pub recovered: u64,
}

/// A worker session that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveWorker {
    /// Who.
    pub worker: WorkerIdentity,
    /// The queues it serves.
    pub queues: Vec<QueueName>,
    /// Since when.
    pub started_at: Timestamp,
    /// How many jobs it holds.
    pub running: u64,
}

impl LiveWorker {
    /// A worker session.
    #[must_use]
    pub fn new(worker: WorkerIdentity, queues: Vec<QueueName>, started_at: Timestamp, running: u64) -> Self {
        Self { worker, queues, started_at, running }
    }
}
