//! An open session, as others see it.

use std::sync::atomic::{AtomicU64, Ordering};

use goose_core::broker::WorkerIdentity;
use goose_core::{JobId, QueueName, Timestamp};

use super::said::{SessionSaid, Text};

/// An open session of this process. The session itself keeps the numbers right; they are said when somebody asks.
#[derive(Debug)]
pub(crate) struct Presence {
    id: JobId,
    worker: WorkerIdentity,
    started_at: Timestamp,
    queues: Vec<Holding>,
}

/// What a session has of one queue.
#[derive(Debug)]
struct Holding {
    queue: QueueName,
    /// Handed out.
    running: AtomicU64,
    /// Sent by the server, and not handed out.
    held: AtomicU64,
}

impl Presence {
    /// Of a session that begins now and holds nothing.
    pub(crate) fn new(
        worker: WorkerIdentity,
        started_at: Timestamp,
        queues: impl IntoIterator<Item = QueueName>,
    ) -> Self {
        let holding = |queue| Holding { queue, running: AtomicU64::new(0), held: AtomicU64::new(0) };
        let queues = queues.into_iter().map(holding).collect();
        Self { id: JobId::new(), worker, started_at, queues }
    }

    pub(super) fn id(&self) -> JobId {
        self.id
    }

    /// How many jobs of a queue are handed out. Queues are counted from 0 in the order of the set.
    pub(crate) fn set_running(&self, queue: usize, jobs: usize) {
        if let Some(holding) = self.queues.get(queue) {
            holding.running.store(u64::try_from(jobs).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How many jobs of a queue have been sent by the server and are not handed out: for everybody else they are ready.
    pub(crate) fn set_held(&self, queue: usize, jobs: usize) {
        if let Some(holding) = self.queues.get(queue) {
            holding.held.store(u64::try_from(jobs).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(super) fn said(&self) -> SessionSaid {
        let queue = |Holding { queue, running, held }: &Holding| {
            (Text(queue.clone()), running.load(Ordering::Relaxed), held.load(Ordering::Relaxed))
        };
        SessionSaid {
            id: Text(self.id),
            worker: Text(JobId::from_bytes(*self.worker.id.as_bytes())),
            host: self.worker.host.clone(),
            pid: self.worker.pid,
            started_at: self.started_at.as_millis(),
            queues: self.queues.iter().map(queue).collect(),
        }
    }
}
