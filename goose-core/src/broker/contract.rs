//! What every broker must do: take jobs in, hand out consumers, name its powers.

use std::fmt::Debug;

use super::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use super::{Consumer, ConsumerOptions};
use crate::{BoxFuture, Error, Job, JobId, Result};

/// A place where jobs wait: a handle to a server, a cluster or a file.
///
/// Handles are shared by any number of clients and workers of a process. A handle must heal by itself: after
/// the broker went away and came back, the next call works, and consumers go on. No background task of a
/// broker may end on an error.
///
/// # The promise
///
/// At-least-once, fenced. A job whose enqueue returned `Ok` runs at least once or stands in the dead queue.
/// A worker that lost its claim cannot change the job any more.
///
/// # Time
///
/// Whether a job is due must be decided on the broker's clock, never on the caller's.
///
/// # Order
///
/// Per queue, first in, first out. [`Priority::Front`](crate::Priority) jobs, jobs whose time has come,
/// retries, recovered, released and replayed jobs go before all others, and among themselves due jobs keep
/// the order of their times.
pub trait Broker: Debug + Send + Sync + 'static {
    /// The kind of broker, for messages and metrics: `sqlite`, `redis`, `rmq`, …
    fn name(&self) -> &'static str;

    /// Takes jobs in, durably: when a verdict says [`EnqueueVerdict::Enqueued`], the job survives the death
    /// of every process.
    ///
    /// Answers one verdict per job, in order. An `Err` means that nothing was written, except for
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), after which any of them may be there.
    ///
    /// A job whose id the broker still holds, in whatever state, must be left as it is and answered with
    /// `Enqueued`: so the same job may be enqueued again after an unknown outcome. A job that has finished need not
    /// be known any more, and runs again then.
    ///
    /// [`Schedule::At`](crate::Schedule) in the past means now, at the front. [`Schedule::In`](crate::Schedule)
    /// must be added to the broker's clock. The job enters [`Job::ready_queue`].
    ///
    /// Concurrent calls should be coalesced by the broker: a thousand tasks that enqueue one job each should
    /// cost little more than one task that enqueues a thousand.
    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>>;

    /// Opens a claim-holding session of one worker pool on some queues. Returns when claims can be held.
    ///
    /// From then on, supervised tasks of the broker keep the session's lease alive until
    /// [`Consumer::stop`]. They must not depend on the async runtime of the caller being responsive: a
    /// handler that blocks every runtime thread keeps its claims.
    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>>;

    /// Finishes what was accepted, closes connections and ends background tasks. Calls after that, on any
    /// clone of the handle, answer [`ErrorKind::Closed`](crate::ErrorKind::Closed). Calling it twice is fine.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// Looking at and repairing the jobs that wait in queues.
    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        None
    }

    /// Looking at and repairing the jobs that wait for their time, retries among them.
    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        None
    }

    /// Looking at, replaying and deleting dead jobs.
    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        None
    }

    /// Stopping and starting queues.
    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        None
    }

    /// Counting jobs and listing workers.
    fn statistics(&self) -> Option<&dyn Statistics> {
        None
    }
}

/// What became of one job of an [`enqueue`](Broker::enqueue) call.
#[derive(Debug)]
#[non_exhaustive]
pub enum EnqueueVerdict {
    /// It is stored durably, under this id.
    Enqueued(JobId),
    /// It is not stored, and will not be.
    Failed(Error),
}

impl EnqueueVerdict {
    /// The verdict as a result.
    ///
    /// # Errors
    /// The error of a [`Failed`](Self::Failed) job.
    pub fn into_result(self) -> Result<JobId> {
        match self {
            Self::Enqueued(id) => Ok(id),
            Self::Failed(error) => Err(error),
        }
    }
}

/// The trait stays object-safe: clients and workers hold `Arc<dyn Broker>`.
#[cfg(test)]
fn _object_safe(_: &dyn Broker) {}
