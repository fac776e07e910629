//! The model's handle: one per "process".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use goose_core::broker::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use goose_core::{BoxFuture, Error, ErrorKind, Job, JobId, QueueName, Result};

use super::Defect;
use super::consumer::ModelConsumer;
use super::state::Shared;

/// A handle on data in memory.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) shared: Arc<Shared>,
    process: u64,
    closed: Arc<AtomicBool>,
}

static PROCESSES: AtomicU64 = AtomicU64::new(1);

impl Model {
    /// A new "process" on some data.
    pub(crate) fn connect(shared: Arc<Shared>) -> Self {
        Self { shared, process: PROCESSES.fetch_add(1, Ordering::Relaxed), closed: Arc::default() }
    }

    pub(crate) fn crash(&self) {
        self.closed.store(true, Ordering::Release);
        self.shared.change(|state| state.crash(self.process));
    }

    pub(crate) fn enqueue_raw(&self, id: JobId, queue: QueueName, bytes: Vec<u8>) {
        self.shared.change(|state| state.enqueue_raw(id, queue, bytes));
    }

    fn check_open(&self) -> Result<()> {
        let ignored = self.shared.look(|state| state.is(Defect::IgnoresClose));
        if self.closed.load(Ordering::Acquire) && !ignored {
            return Err(Error::new(ErrorKind::Closed, "the broker is closed"));
        }
        Ok(())
    }
}

impl Broker for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        Box::pin(async move {
            self.check_open()?;
            let verdicts = jobs.iter().map(|job| EnqueueVerdict::Enqueued(job.id)).collect();
            self.shared.change(|state| jobs.into_iter().for_each(|job| state.enqueue(job)));
            Ok(verdicts)
        })
    }

    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        Box::pin(async move {
            self.check_open()?;
            let session = self.shared.change(|state| state.open(self.process, options));
            Ok(Box::new(ModelConsumer::new(Arc::clone(&self.shared), session)) as Box<dyn Consumer>)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        Some(self)
    }

    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        Some(self)
    }

    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        let lacking = self.shared.look(|state| state.is(Defect::LacksDeadJobs));
        if lacking { None } else { Some(self) }
    }

    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        Some(self)
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }
}
