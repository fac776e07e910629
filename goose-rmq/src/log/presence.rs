//! An open session, as others see it.

use std::sync::atomic::{AtomicU64, Ordering};

use goose_core::broker::WorkerIdentity;
use goose_core::{JobId, QueueName, Timestamp};

use super::said::{HoldingSaid, SessionSaid, Text};

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
    /// On their way from here to somewhere else.
    moving: AtomicU64,
}

impl Presence {
    /// Of a session that begins now and holds nothing.
    pub(crate) fn new(
        worker: WorkerIdentity,
        started_at: Timestamp,
        queues: impl IntoIterator<Item = QueueName>,
    ) -> Self {
        let holding = |queue| {
            let [running, held, moving] = [const { AtomicU64::new(0) }; 3];
            Holding { queue, running, held, moving }
        };
        let queues = queues.into_iter().map(holding).collect();
        Self { id: JobId::new(), worker, started_at, queues }
    }

    pub(crate) fn id(&self) -> JobId {
        self.id
    }

    /// How many jobs of a queue are handed out; how many have been sent by the server and are not, which are ready for
    /// everybody else; and how many are being sent from here to somewhere else, so that they are here and there, or
    /// neither, for a moment. Queues are counted from 0 in the order of the set.
    pub(crate) fn show(&self, queue: usize, running: usize, held: usize, moving: usize) {
        let Some(holding) = self.queues.get(queue) else { return };
        for (number, jobs) in [(&holding.running, running), (&holding.held, held), (&holding.moving, moving)] {
            number.store(u64::try_from(jobs).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(super) fn said(&self) -> SessionSaid {
        let queue = |Holding { queue, running, held, moving }: &Holding| {
            let [running, held, moving] = [running, held, moving].map(|jobs| jobs.load(Ordering::Relaxed));
            HoldingSaid { queue: Text(queue.clone()), running, held, moving }
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
