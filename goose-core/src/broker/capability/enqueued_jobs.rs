//! Looking at and repairing the jobs that wait in queues.

use super::{JobFilter, Page, Paged};
use crate::{BoxFuture, Job, JobId, QueueName, Result};

/// The jobs that are ready to run and not claimed. Lists are in the order in which workers would take them.
///
/// A broker whose queues cannot be looked into must answer [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) to
/// [`find_by_id`](Self::find_by_id), [`find`](Self::find) and [`prioritise`](Self::prioritise), with the reason.
pub trait EnqueuedJobs: Send + Sync {
    /// The queues the broker knows, in alphabetical order: every queue that ever held a job.
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>>;

    /// How many jobs wait in a queue. Zero for a queue nobody ever used.
    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>>;

    /// A job by its id, if it waits in a queue. Without looking through the backlog.
    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>>;

    /// Jobs of a queue that pass a filter, page by page.
    fn find<'a>(&'a self, queue: &'a QueueName, filter: &'a JobFilter, page: Page)
    -> BoxFuture<'a, Result<Paged<Job>>>;

    /// Moves a job to the front of its queue. `false` if it does not wait in one.
    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Removes a job. `false` if it does not wait in a queue: a running job is not touched.
    ///
    /// A broker that cannot look into its queues must see to it that the job is not run once a worker meets it, and answers
    /// `false` only if that was asked before: `true` says that it will not be started, wherever it is. It counts in sizes until
    /// it is met.
    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>>;

    /// Removes all jobs that wait in a queue, and says how many.
    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>>;
}
