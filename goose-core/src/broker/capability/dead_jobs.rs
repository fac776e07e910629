//! Looking at, replaying and deleting dead jobs.

use super::{JobFilter, Page, Paged};
use crate::broker::DeathReason;
use crate::{BoxFuture, Job, JobId, QueueName, Result, Timestamp};

/// The jobs that failed for good. Lists begin with the job that died first.
///
/// A replayed job starts over: its retries are counted from zero again, its history is kept, and it goes to
/// the front of its own queue, not of its retry queue.
pub trait DeadJobs: Send + Sync {
    /// How many jobs are dead.
    fn size(&self) -> BoxFuture<'_, Result<u64>>;

    /// Takes the job that died first out of the dead and hands it over. It is gone then.
    fn pop(&self) -> BoxFuture<'_, Result<Option<DeadJob>>>;

    /// A dead job by its id. Without looking through all of them.
    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<DeadJob>>>;

    /// Dead jobs that pass a filter, page by page. Undecodable ones pass only the empty filter.
    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<DeadJob>>>;

    /// Makes a dead job run again. `false` if there is no such dead job, or its bytes cannot be decoded.
    fn replay(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Makes up to `n` dead jobs run again, those that died first, in that order; undecodable ones stay. Says how many.
    fn replay_n(&self, n: u64) -> BoxFuture<'_, Result<u64>>;

    /// Removes a dead job. `false` if there is no such dead job.
    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Removes all that died before a time, and says how many.
    fn delete_older_than(&self, time: Timestamp) -> BoxFuture<'_, Result<u64>>;

    /// Removes all dead jobs, and says how many.
    fn purge(&self) -> BoxFuture<'_, Result<u64>>;
}

/// A dead job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadJob {
    /// Its id.
    pub id: JobId,
    /// The queue it was in last.
    pub queue: QueueName,
    /// The job, or what is left of it.
    pub content: DeadContent,
    /// When it died, on the broker's clock.
    pub died_at: Timestamp,
    /// Why.
    pub reason: DeathReason,
}

impl DeadJob {
    /// A dead job.
    #[must_use]
    pub fn new(id: JobId, queue: QueueName, content: DeadContent, died_at: Timestamp, reason: DeathReason) -> Self {
        Self { id, queue, content, died_at, reason }
    }

    /// The job, unless its bytes cannot be decoded.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match &self.content {
            DeadContent::Job(job) => Some(job),
            DeadContent::Undecodable(_) => None,
        }
    }
}

/// What is kept of a dead job.
#[derive(Debug, Clone)]
pub enum DeadContent {
    /// The whole job.
    Job(Box<Job>),
    /// The stored bytes, exactly as they were found, where they are not a job.
    Undecodable(Vec<u8>),
}
