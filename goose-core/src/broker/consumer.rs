//! A claim-holding session of one worker pool.

use std::fmt::Debug;
use std::time::Duration;

use super::{Delivery, Receipt, SettleError, Settlement};
use crate::{BoxFuture, Result};

/// Takes jobs out of a broker, one claim per job.
///
/// A claim is held until it is settled, or until the broker finds that the whole session is gone: its
/// process was killed, hangs, or is cut off. Then another session recovers its jobs, and every receipt of
/// this one is worthless. If this process was only asleep, the consumer must notice, take a new session and
/// go on by itself; receipts of the old one stay worthless.
pub trait Consumer: Debug + Send + Sync {
    /// Waits until at least one job is there, then claims at most `up_to`, in the order of the queue set.
    ///
    /// Must be cancel-safe: when the returned future is dropped, jobs it had already claimed come out of the
    /// next call. Must wait without polling faster than needed, and be woken at once by an enqueue of the
    /// same process and by a job whose time has come.
    ///
    /// A job that cannot be decoded must not come out of here: the broker buries its raw bytes
    /// ([`DeathCause::Undecodable`](super::DeathCause::Undecodable)).
    ///
    /// An error leaves the consumer usable; the caller waits a little and calls again. After
    /// [`stop`](Self::stop) it answers [`ErrorKind::Closed`](crate::ErrorKind::Closed). `up_to = 0` returns
    /// an empty list at once. One call at a time.
    fn fetch(&self, up_to: usize) -> BoxFuture<'_, Result<Vec<Delivery>>>;

    /// Ends claims, all in as few round trips as possible; one answer per settlement, in order.
    ///
    /// Each settlement is atomic: the old claim ends and what follows from the verdict is stored, or neither.
    /// A stale receipt must answer [`SettleError::Fenced`] and change nothing, whoever holds the job now.
    ///
    /// The settlements are borrowed, so that the caller can repeat those that failed for a reason that
    /// passes. Repeating one that had in fact succeeded answers `Fenced`, which is harmless.
    /// Works until the session is gone, also after [`stop`](Self::stop) began.
    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>>;

    /// Ends the session: returns to the front of their queues, in order, all jobs claimed but not yet handed out by
    /// [`fetch`](Self::fetch), and ends the lease.
    ///
    /// Jobs that were handed out and not settled (a handler that cannot be cut short) stay claimed until the
    /// lease would have ended, and are then recovered *without* counting as a crash. Calling it twice is fine.
    /// Takes less than a second when the broker is reachable, and is bounded when it is not.
    fn stop(&self) -> BoxFuture<'_, Result<()>>;

    /// Whether a claim can still be relied on, by the process's own monotonic clock: the lease it belongs to was
    /// renewed so recently that nobody may have taken the job. Cheap; the engine asks before it starts each job.
    ///
    /// After a process was asleep, this is `false` for everything it had fetched before, also once the
    /// consumer has taken a new lease.
    fn holds(&self, receipt: &Receipt) -> bool;

    /// How the broker's background loops behind this consumer are doing.
    fn health(&self) -> Vec<LoopHealth>;
}

/// The state of one background loop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopHealth {
    /// What the loop does, for instance `heartbeat`.
    pub name: &'static str,
    /// How long ago it last went round.
    pub last_progress: Duration,
    /// After how long without progress it counts as stalled.
    pub stalls_after: Duration,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// The last failure, with its causes.
    pub last_error: Option<String>,
}

impl LoopHealth {
    /// A loop that went round `last_progress` ago, without failures so far.
    #[must_use]
    pub fn new(name: &'static str, last_progress: Duration, stalls_after: Duration) -> Self {
        Self { name, last_progress, stalls_after, restarts: 0, last_error: None }
    }

    /// Whether it has made no progress for too long.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.last_progress > self.stalls_after
    }
}

/// The trait stays object-safe.
#[cfg(test)]
fn _object_safe(_: &dyn Consumer) {}
