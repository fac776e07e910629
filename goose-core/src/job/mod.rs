//! The record that travels: what to run, when, how often, and what has happened to it so far.

mod attempts;
mod id;
mod name;
mod payload;
mod schedule;

use std::collections::BTreeMap;
use std::time::Duration;

pub use attempts::{Attempts, Failure, Parked};
pub use id::JobId;
pub use name::JobName;
pub use payload::{ContentType, Payload};
pub use schedule::{Priority, Schedule};

use crate::{QueueName, RetryPolicy, Timestamp};

/// A job: one call of one handler, as brokers store it.
///
/// Users build jobs through `goose-client`; this type is what middleware, hooks, brokers and tools see.
/// The fields are public because a job is data; it is `#[non_exhaustive]` because data grows.
///
/// ```
/// use goose_core::{Job, JobName, Payload, QueueName};
///
/// let job = Job::new("send-email".parse::<JobName>()?, QueueName::default(), Payload::message_pack(vec![0x90]));
/// assert_eq!(job.retry.max_retries, 27);
/// assert_eq!(job.ready_queue().as_str(), "default");
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// Unique, never reused, sortable by creation time.
    pub id: JobId,
    /// Which handler runs it.
    pub name: JobName,
    /// Where it waits, unless it is being retried and has a retry queue; see [`Job::ready_queue`].
    pub queue: QueueName,
    /// The encoded arguments; brokers never look inside.
    pub args: Payload,
    /// When the client created the job, on the client's clock.
    pub enqueued_at: Timestamp,
    /// When the client wants it to run.
    pub schedule: Schedule,
    /// The tick of the cron entry that created this job.
    pub cron_run_at: Option<Timestamp>,
    /// Whether it goes to the front or the end of its queue when it is enqueued. Scheduled jobs go to the front
    /// when they become due, whatever stands here.
    pub priority: Priority,
    /// How often and how late it is retried, and where it goes after that.
    pub retry: RetryPolicy,
    /// What has happened so far: retries used, failures, parking.
    pub attempts: Attempts,
    /// The longest one attempt may take. `None` (the default) means as long as it likes.
    pub timeout: Option<Duration>,
    /// Not to be *started* after this time; it is discarded then, without counting as a failure.
    pub expires_at: Option<Timestamp>,
    /// To be *finished* by this time: a running attempt is cut and the job is dead, whatever retries are left.
    pub deadline: Option<Timestamp>,
    /// The batch this job belongs to. Kept for batches, which come later; no broker interprets it yet.
    pub batch_id: Option<JobId>,
    /// The digest that makes this job unique. Kept for unique jobs, which come later; no broker interprets it yet.
    pub unique_key: Option<String>,
    /// Free words to find the job by.
    pub tags: Vec<String>,
    /// Free pairs for whoever is around the job, such as trace context.
    pub headers: BTreeMap<String, String>,
    /// Envelope fields written by a newer version of Goose, kept as they are; see `docs/wire-format.md`.
    pub unknown_fields: UnknownFields,
}

impl Job {
    /// A job that is ready now, with the defaults of every other field and a new id, created at the time of the id.
    #[must_use]
    pub fn new(name: JobName, queue: QueueName, args: Payload) -> Self {
        let id = JobId::new();
        Self {
            id,
            name,
            queue,
            args,
            enqueued_at: id.created_at(),
            schedule: Schedule::Now,
            cron_run_at: None,
            priority: Priority::Normal,
            retry: RetryPolicy::default(),
            attempts: Attempts::default(),
            timeout: None,
            expires_at: None,
            deadline: None,
            batch_id: None,
            unique_key: None,
            tags: Vec::new(),
            headers: BTreeMap::new(),
            unknown_fields: UnknownFields::default(),
        }
    }

    /// The queue this job becomes ready in: the retry queue once it has failed, if it has one, else its queue.
    #[must_use]
    pub fn ready_queue(&self) -> &QueueName {
        match &self.retry.retry_queue {
            Some(retry_queue) if self.attempts.retry_count > 0 => retry_queue,
            _ => &self.queue,
        }
    }

    /// When the client wanted the job to run, on the client's clock; `None` for "now".
    #[must_use]
    pub fn run_at(&self) -> Option<Timestamp> {
        match self.schedule {
            Schedule::Now => None,
            Schedule::At(time) => Some(time),
            Schedule::In(delay) => Some(self.enqueued_at.saturating_add(delay)),
        }
    }
}

/// Envelope fields this version does not know, carried along unread so that a newer worker finds them again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownFields {
    /// Field number and encoded value, in the order they were read.
    pub(crate) fields: Vec<(u64, Vec<u8>)>,
}

impl UnknownFields {
    /// Whether there are none, as in every job this version writes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}
