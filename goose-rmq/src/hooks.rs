//! What a program can be told of: jobs that could not be handed in, messages that came back, connections that ended.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use goose_core::{Job, JobId, Result, codec};

use crate::amqp::{Outgoing, Role};

/// A job that did not get into its queue, or perhaps not.
#[derive(Debug, Clone)]
pub struct FailedJob {
    id: JobId,
    reason: FailureReason,
    envelope: Arc<[u8]>,
}

impl FailedJob {
    /// `None` for messages that are no jobs.
    pub(crate) fn of(message: &Outgoing, reason: FailureReason) -> Option<Self> {
        let id = message.message_id.parse().ok()?;
        Some(Self { id, reason, envelope: Arc::clone(&message.body) })
    }

    /// Its id. A job that is enqueued again under the same id after [`FailureReason::TimedOut`] or
    /// [`FailureReason::Unknown`] may run twice.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> FailureReason {
        self.reason
    }

    /// The job itself, for instance to enqueue it elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](goose_core::ErrorKind::Decode) and its relatives, when what was being published was no job
    /// after all: bytes that nobody could read, on their way to the dead.
    pub fn job(&self) -> Result<Job> {
        codec::decode(&self.envelope)
    }
}

/// Why a job did not get into its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The server took it and refused to store it: the queue is full, has crashed, or has no majority.
    Nacked,
    /// The server found no queue for it, also after the queue was declared again. Not stored.
    Unroutable,
    /// The server closed the channel because of it: a right is missing, or the message is too large. Not stored.
    Refused,
    /// The server did not say anything within the confirm timeout. It may be stored.
    TimedOut,
    /// The connection broke before the server said anything. It may be stored.
    Unknown,
    /// The server blocked publishers for the whole blocked timeout. Not sent.
    Blocked,
    /// There was no connection within the connect timeout, or the broker was closed. Not sent.
    NotSent,
}

/// A connection that is over.
#[derive(Debug, Clone)]
pub struct ConnectionEnd {
    connection: &'static str,
    reason: String,
    is_closed: bool,
}

impl ConnectionEnd {
    pub(crate) fn new(role: Role, reason: String, is_closed: bool) -> Self {
        let connection = match role {
            Role::Publish => "publish",
            Role::Consume => "consume",
            Role::Control => "control",
        };
        Self { connection, reason, is_closed }
    }

    /// What it was for: `publish`, `consume` or `control`.
    #[must_use]
    pub fn connection(&self) -> &'static str {
        self.connection
    }

    /// Why it ended, in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether it ended because the broker was closed. Otherwise it is being made again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

type Hook<T> = Option<Arc<dyn Fn(T) + Send + Sync>>;

/// The functions that the program has given.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) failed: Hook<Vec<FailedJob>>,
    pub(crate) returned: Hook<FailedJob>,
    pub(crate) shutdown: Hook<ConnectionEnd>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("failed", &self.failed.is_some())
            .field("returned", &self.returned.is_some())
            .field("shutdown", &self.shutdown.is_some())
            .finish()
    }
}

/// Calls a function of the program. Its panic must not end the task that everybody's jobs go through.
pub(crate) fn tell<T>(hook: &Hook<T>, news: impl FnOnce() -> T) {
    if let Some(hook) = hook
        && catch_unwind(AssertUnwindSafe(|| hook(news()))).is_err()
    {
        tracing::error!("a hook of the RabbitMQ broker has panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_may_panic_and_need_not_be_there() {
        tell(&None, || unreachable!("nobody asked"));
        tell(&Some(Arc::new(|_: u8| panic!("a bug of the program"))), || 1);
    }
}
