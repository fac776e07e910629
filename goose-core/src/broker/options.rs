//! What a worker pool tells the broker when it opens a consumer.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::{Error, ErrorKind, JobId, Observer, QueueName, Result};

/// What a consumer serves, how wide, and for whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumerOptions {
    /// Which queues, and how they share.
    pub queues: QueueSet,
    /// How many jobs the pool runs at once: a hint for the size of buffers.
    pub concurrency: usize,
    /// How many jobs the pool wants to hold beyond that, claimed and not started.
    pub prefetch: usize,
    /// Which worker this pool belongs to.
    pub worker: WorkerIdentity,
    /// Who hears of what the broker does on its own: recoveries, poison jobs, undecodable jobs.
    pub observer: Arc<dyn Observer>,
}

impl ConsumerOptions {
    /// Options for a pool of `concurrency` on some queues: no prefetch, a fresh identity, nobody listening.
    #[must_use]
    pub fn new(queues: QueueSet, concurrency: usize) -> Self {
        Self { queues, concurrency, prefetch: 0, worker: WorkerIdentity::current(), observer: Arc::new(()) }
    }
}

/// A set of queues and the order in which a fetch looks at them. At most [`QueueSet::MAX`] queues, no duplicates.
///
/// ```
/// use goose_core::broker::QueueSet;
///
/// let urgent_first = QueueSet::strict(["urgent", "default"])?;
/// let three_to_one = QueueSet::weighted([("mail", 3), ("reports", 1)])?;
/// assert_eq!(three_to_one.names().count(), 2);
/// assert!(QueueSet::strict(["a", "a"]).is_err());
/// # Ok::<(), goose_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSet {
    queues: Vec<(QueueName, NonZeroU32)>,
    strict: bool,
}

impl QueueSet {
    /// The most queues of one set.
    pub const MAX: usize = 100;

    /// One queue.
    #[must_use]
    pub fn one(queue: QueueName) -> Self {
        Self { queues: vec![(queue, NonZeroU32::MIN)], strict: true }
    }

    /// Strict order: a queue is looked at only when those before it are empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for no queues, too many, duplicates, or a bad name.
    pub fn strict<Q: TryInto<QueueName, Error: Into<Error>>>(queues: impl IntoIterator<Item = Q>) -> Result<Self> {
        let queues = queues.into_iter().map(|queue| (queue, 1));
        Ok(Self { strict: true, ..Self::weighted(queues)? })
    }

    /// Shares: while all queues have jobs, each gets its weight's part of every fetch; what one leaves
    /// unused goes to the others. No queue starves.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for no queues, too many, duplicates, a bad name, or a weight of zero.
    pub fn weighted<Q: TryInto<QueueName, Error: Into<Error>>>(
        queues: impl IntoIterator<Item = (Q, u32)>,
    ) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let mut set = Vec::new();
        let mut seen = HashSet::new();
        for (queue, weight) in queues {
            let queue: QueueName = queue.try_into().map_err(Into::into)?;
            let weight = NonZeroU32::new(weight)
                .ok_or_else(|| invalid(format!("queue {queue} has weight 0, use at least 1")))?;
            if !seen.insert(queue.clone()) {
                return Err(invalid(format!("queue {queue} is named twice in one pool")));
            }
            if set.len() == Self::MAX {
                return Err(invalid(format!("a pool serves more than {} queues, split it", Self::MAX)));
            }
            set.push((queue, weight));
        }
        if set.is_empty() {
            return Err(invalid("a pool serves no queue, name at least one".to_owned()));
        }
        Ok(Self { queues: set, strict: false })
    }

    /// Whether earlier queues are emptied before later ones are looked at.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The queues with their weights (1 for strict sets), in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&QueueName, NonZeroU32)> {
        self.queues.iter().map(|(queue, weight)| (queue, *weight))
    }

    /// The names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &QueueName> {
        self.queues.iter().map(|(queue, _)| queue)
    }
}

/// Names one start of one worker. Random, never made of host and process number: those come again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(JobId);

impl WorkerId {
    /// A new id.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default value would promise to be the same each time")]
    pub fn new() -> Self {
        Self(JobId::new())
    }

    /// An id from its 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(JobId::from_bytes(bytes))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({self})")
    }
}

/// Who a worker is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerIdentity {
    /// The identity proper.
    pub id: WorkerId,
    /// The host name, or `unknown`.
    pub host: String,
    /// The process number.
    pub pid: u32,
}

impl WorkerIdentity {
    /// A fresh identity of this process.
    #[must_use]
    pub fn current() -> Self {
        let from_env = || std::env::var("HOSTNAME").ok();
        let from_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = from_kernel().or_else(from_env).map(|host| host.trim().to_owned());
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        Self::new(WorkerId::new(), host, std::process::id())
    }

    /// A known identity, as a broker reads it back.
    #[must_use]
    pub fn new(id: WorkerId, host: impl Into<String>, pid: u32) -> Self {
        Self { id, host: host.into(), pid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_refuse_what_cannot_work() {
        let message = |set: Result<QueueSet>| set.unwrap_err().to_string();
        assert_eq!(message(QueueSet::strict([] as [&str; 0])), "a pool serves no queue, name at least one");
        assert_eq!(message(QueueSet::strict(["a", "b", "a"])), "queue a is named twice in one pool");
        assert_eq!(message(QueueSet::weighted([("a", 0)])), "queue a has weight 0, use at least 1");
        let many = (0..101).map(|n| format!("q{n}"));
        assert_eq!(message(QueueSet::strict(many)), "a pool serves more than 100 queues, split it");
    }
}
