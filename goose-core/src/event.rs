//! What happened: the events that hooks, logs, metrics and an audit trail are made of.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::DeathReason;
use crate::{Job, JobId, QueueName};

/// Something that happened to a job in this process.
///
/// | event | who reports it | when |
/// |---|---|---|
/// | `Started` | worker | a handler is about to be called |
/// | `Succeeded` | worker | a handler said `Done` |
/// | `Failed` | worker | an attempt failed: error, panic, timeout, undecodable arguments |
/// | `Retried` | worker | a failed job was stored for another attempt |
/// | `Died` | worker, broker | a job was stored among the dead, or dropped for good with `skip_dead_queue` |
/// | `Snoozed` | worker | a handler said `Snooze` |
/// | `Discarded` | worker | a handler said `Discard` |
/// | `Expired` | worker | a job was not started because its `expires_at` had passed |
/// | `Parked` | worker | no handler of this worker knows the job's name |
/// | `Released` | worker | a job was handed back without having run to its end |
/// | `Recovered` | broker | a job was taken from a dead session |
/// | `Fenced` | worker | a late settle changed nothing, because the job belongs to someone else |
///
/// `Retried`, `Died`, `Snoozed`, `Discarded`, `Expired`, `Parked` and `Succeeded` are reported after the
/// broker has stored them.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table above says it once; fields are what their names say")]
pub enum Event<'a> {
    Started {
        job: &'a Job,
        waited: Duration,
    },
    Succeeded {
        job: &'a Job,
        ran: Duration,
    },
    Failed {
        job: &'a Job,
        error: &'a str,
        ran: Duration,
    },
    Retried {
        job: &'a Job,
        delay: Duration,
    },
    /// `job` is `None` where its bytes could not be decoded.
    Died {
        id: JobId,
        queue: &'a QueueName,
        job: Option<&'a Job>,
        reason: &'a DeathReason,
    },
    Snoozed {
        job: &'a Job,
        delay: Duration,
    },
    Discarded {
        job: &'a Job,
        reason: &'a str,
    },
    Expired {
        job: &'a Job,
    },
    Parked {
        job: &'a Job,
        delay: Duration,
    },
    Released {
        job: &'a Job,
    },
    Recovered {
        id: JobId,
        queue: &'a QueueName,
        recoveries: u32,
    },
    Fenced {
        job: &'a Job,
    },
}

impl Event<'_> {
    /// The event's name in kebab case, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Retried { .. } => "retried",
            Self::Died { .. } => "died",
            Self::Snoozed { .. } => "snoozed",
            Self::Discarded { .. } => "discarded",
            Self::Expired { .. } => "expired",
            Self::Parked { .. } => "parked",
            Self::Released { .. } => "released",
            Self::Recovered { .. } => "recovered",
            Self::Fenced { .. } => "fenced",
        }
    }
}

/// Hears of events, on whatever thread they happen; must be quick and must not block.
pub trait Observer: Debug + Send + Sync + 'static {
    /// Called once per event.
    fn observe(&self, event: &Event<'_>);
}

/// Nobody listens.
impl Observer for () {
    fn observe(&self, _: &Event<'_>) {}
}

/// A shared observer is an observer, so that whoever made it can keep it.
impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn observe(&self, event: &Event<'_>) {
        (**self).observe(event);
    }
}

/// Several observers, one after another.
impl Observer for Vec<Arc<dyn Observer>> {
    fn observe(&self, event: &Event<'_>) {
        for observer in self {
            observer.observe(event);
        }
    }
}
