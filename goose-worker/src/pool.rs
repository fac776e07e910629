//! A set of queues with hands of its own.

use goose_core::broker::QueueSet;
use goose_core::{Error, ErrorKind, QueueName, Result};

/// A set of queues, and how many of their jobs run at once. A worker has one or more; several may serve the
/// same queue.
///
/// A queue that needs a limit of its own gets a pool of its own. Mistakes come out of
/// [`WorkerBuilder::start`](crate::WorkerBuilder::start).
///
/// ```
/// use goose_worker::{Pool, Worker};
///
/// # fn example(broker: impl goose_worker::broker::Broker) {
/// let builder = Worker::builder(broker)
///     .pool(Pool::strict(["urgent", "default"]).concurrency(50))
///     .pool(Pool::weighted([("mail", 3), ("reports", 1)]).concurrency(10))
///     .pool(Pool::queue("one-at-a-time").concurrency(1).prefetch(0));
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a pool is given to `WorkerBuilder::pool`"]
pub struct Pool {
    queues: Result<QueueSet>,
    concurrency: usize,
    prefetch: usize,
}

/// A pool without mistakes.
#[derive(Debug, Clone)]
pub(crate) struct PoolPlan {
    pub(crate) queues: QueueSet,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
}

impl Pool {
    /// How many jobs run at once by default: 25.
    pub const DEFAULT_CONCURRENCY: usize = 25;
    /// The most that [`prefetch`](Self::prefetch) lets a pool hold by default: 100.
    pub const DEFAULT_PREFETCH: usize = 100;
    /// The highest concurrency and prefetch.
    pub const MAX: usize = 100_000;

    /// One queue.
    pub fn queue<Q: TryInto<QueueName, Error: Into<Error>>>(queue: Q) -> Self {
        Self::new(queue.try_into().map(QueueSet::one).map_err(Into::into))
    }

    /// Strict order: a queue is looked at only when those before it are empty.
    pub fn strict<Q: TryInto<QueueName, Error: Into<Error>>>(queues: impl IntoIterator<Item = Q>) -> Self {
        Self::new(QueueSet::strict(queues))
    }

    /// Shares: while all queues have jobs, each gets its weight's part. No queue starves.
    pub fn weighted<Q: TryInto<QueueName, Error: Into<Error>>>(queues: impl IntoIterator<Item = (Q, u32)>) -> Self {
        Self::new(QueueSet::weighted(queues))
    }

    fn new(queues: Result<QueueSet>) -> Self {
        Self { queues, concurrency: Self::DEFAULT_CONCURRENCY, prefetch: Self::DEFAULT_PREFETCH }
    }

    /// How many jobs run at once; 25 by default.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many jobs the pool may hold claimed but not started, so that hands that come free need not wait
    /// for the broker; 100 by default, 0 for none.
    ///
    /// This is an upper end. A pool asks for no more than it has lately got through in a tenth of a second, so
    /// pools of slow jobs hold next to none. When work becomes slow all of a sudden, what a pool has held for a
    /// quarter of a second while all its hands were busy goes back to its queue, in order, for other workers to
    /// take. While a job that was recovered twice or more is there, which may be what kills its workers, the
    /// pool asks for no more jobs than it has free hands: they would be taken along.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch;
        self
    }

    pub(crate) fn plan(self) -> Result<PoolPlan> {
        let queues = self.queues?;
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.concurrency == 0 {
            return invalid("concurrency is zero, use at least 1".to_owned());
        }
        for (what, value) in [("concurrency", self.concurrency), ("prefetch", self.prefetch)] {
            if value > Self::MAX {
                return invalid(format!("{what} is {value}, the limit is {}", Self::MAX));
            }
        }
        Ok(PoolPlan { queues, concurrency: self.concurrency, prefetch: self.prefetch })
    }
}

impl PoolPlan {
    /// The pool's name in logs and health reports: its queues.
    pub(crate) fn label(&self) -> String {
        self.queues.names().map(QueueName::as_str).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_kept_for_the_start() {
        for (pool, message) in [
            (Pool::queue("a b"), "queue name \"a b\" has the character ' ', use A-Z a-z 0-9 _ . - only"),
            (Pool::strict(["a", "a"]), "queue a is named twice in one pool"),
            (Pool::weighted([("a", 0)]), "queue a has weight 0, use at least 1"),
            (Pool::queue("a").concurrency(0), "concurrency is zero, use at least 1"),
            (Pool::queue("a").concurrency(100_001), "concurrency is 100001, the limit is 100000"),
            (Pool::queue("a").prefetch(100_001), "prefetch is 100001, the limit is 100000"),
        ] {
            let error = pool.plan().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
        }
    }

    #[test]
    fn defaults() {
        let plan = Pool::weighted([("a", 3), ("b", 1)]).plan().unwrap();
        assert_eq!((plan.concurrency, plan.prefetch, plan.label().as_str()), (25, 100, "a,b"));
    }
}
