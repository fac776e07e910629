//! Looking at and repairing the jobs that wait for their time.

use super::{JobFilter, Page, Paged};
use crate::{BoxFuture, Job, JobId, Result, Timestamp};

/// The jobs that wait for their time: scheduled, to be retried, or snoozed. Lists are in order of due time.
///
/// A job whose time has come counts as scheduled until it is moved to its queue or claimed from here; brokers
/// differ in that.
///
/// A broker that cannot look at what waits must answer [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) to
/// [`find_by_id`](Self::find_by_id), [`find`](Self::find) and [`prioritise`](Self::prioritise), with the reason.
pub trait ScheduledJobs: Send + Sync {
    /// How many jobs wait for their time.
    fn size(&self) -> BoxFuture<'_, Result<u64>>;

    /// A job by its id, if it waits for its time. Without looking through the backlog.
    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>>;

    /// Jobs that pass a filter, page by page.
    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>>;

    /// Makes a job run now: it goes to the front of its queue. `false` if it does not wait for its time.
    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Removes a job. `false` if it does not wait for its time, as far as the broker can know: see
    /// [`EnqueuedJobs::delete`](super::EnqueuedJobs::delete).
    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Removes all jobs that wait for their time, retries among them, and says how many.
    fn purge(&self) -> BoxFuture<'_, Result<u64>>;
}

/// A job that waits for its time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScheduledJob {
    /// The job.
    pub job: Job,
    /// When it is due, on the broker's clock.
    pub due_at: Timestamp,
    /// Why it waits.
    pub kind: ScheduledKind,
}

impl ScheduledJob {
    /// A job with its due time.
    #[must_use]
    pub fn new(job: Job, due_at: Timestamp, kind: ScheduledKind) -> Self {
        Self { job, due_at, kind }
    }
}

/// Why a job waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScheduledKind {
    /// The client scheduled it.
    Scheduled,
    /// It failed and will be retried.
    Retry,
    /// A handler snoozed it, or it waits for a worker that knows its name.
    Snoozed,
    /// It was recovered from a dead worker repeatedly and is kept apart for a while.
    Recovered,
}
