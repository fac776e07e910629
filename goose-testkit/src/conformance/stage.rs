//! Where a scenario plays: a fresh namespace, the processes opened on it, and what is being waited for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Broker, ConsumerOptions, QueueSet, capability};
use goose_core::{Job, JobId, QueueName, Timestamp};
use parking_lot::Mutex;

use super::failure::{Checked, Failure, ensure_eq};
use super::job::{delayed, numbered};
use super::session::Session;
use super::witness::Witness;
use super::{Harness, Namespace, Process};

/// How often a condition that nothing announces is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long nothing must happen before a scenario believes that nothing will.
pub(crate) const QUIET: Duration = Duration::from_millis(250);

/// A scenario's surroundings. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    harness: Arc<dyn Harness>,
    namespace: Namespace,
    processes: Mutex<Vec<Process>>,
    waiting_for: Mutex<String>,
}

impl Stage {
    pub(crate) fn new(harness: Arc<dyn Harness>) -> Self {
        let waiting_for = Mutex::new("its first step".to_owned());
        Self(Arc::new(Inner { harness, namespace: Namespace::fresh(), processes: Mutex::default(), waiting_for }))
    }

    pub(crate) fn harness(&self) -> &dyn Harness {
        &*self.0.harness
    }

    /// What the scenario waits for at this moment.
    pub(crate) fn waiting_for(&self) -> String {
        self.0.waiting_for.lock().clone()
    }

    /// Opens a handle as a new process would.
    pub(crate) async fn process(&self) -> Checked<Process> {
        let connect = self.harness().connect(&self.0.namespace);
        let process = self.promptly("a new handle on the broker", connect).await??;
        self.0.processes.lock().push(process.clone());
        Ok(process)
    }

    /// A handle, where the scenario needs no more than that.
    pub(crate) async fn broker(&self) -> Checked<Arc<dyn Broker>> {
        Ok(Arc::clone(self.process().await?.broker()))
    }

    /// Enqueues in one call and checks the verdicts: all taken, ids in order.
    pub(crate) async fn enqueue(&self, broker: &dyn Broker, jobs: Vec<Job>) -> Checked<Vec<JobId>> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let verdicts = self.promptly("the verdicts of an enqueue", broker.enqueue(jobs)).await??;
        let taken = verdicts.into_iter().map(|verdict| verdict.into_result()).collect::<Result<Vec<_>, _>>()?;
        ensure_eq!(taken, ids, "the ids in the verdicts of an enqueue");
        Ok(ids)
    }

    /// Stores bytes that need not be a job.
    pub(crate) async fn enqueue_raw(&self, queue: &QueueName, id: JobId, bytes: Vec<u8>) -> Checked {
        let stored = self.harness().enqueue_raw(&self.0.namespace, queue, id, bytes);
        Ok(self.promptly("raw bytes to be stored", stored).await??)
    }

    /// Opens a session that serves one queue.
    pub(crate) async fn session(&self, broker: &dyn Broker, queue: &QueueName) -> Checked<Session> {
        self.session_on(broker, QueueSet::one(queue.clone())).await
    }

    /// Opens a session that serves a set of queues.
    pub(crate) async fn session_on(&self, broker: &dyn Broker, queues: QueueSet) -> Checked<Session> {
        self.session_with(broker, ConsumerOptions::new(queues, 16)).await
    }

    /// Opens a session with options; the observer is replaced by the session's witness.
    pub(crate) async fn session_with(&self, broker: &dyn Broker, mut options: ConsumerOptions) -> Checked<Session> {
        let witness = Arc::new(Witness::default());
        options.observer = Arc::clone(&witness) as Arc<dyn goose_core::Observer>;
        let consumer = self.promptly("a session", broker.consume(options)).await??;
        Ok(Session::new(self.clone(), consumer, witness))
    }

    /// Waits for something that should happen at once.
    pub(crate) async fn promptly<T>(&self, what: &str, event: impl Future<Output = T>) -> Checked<T> {
        self.within(self.harness().patience(), what, event).await
    }

    /// Waits for something that should happen within a time.
    pub(crate) async fn within<T>(&self, limit: Duration, what: &str, event: impl Future<Output = T>) -> Checked<T> {
        what.clone_into(&mut self.0.waiting_for.lock());
        match tokio::time::timeout(limit, event).await {
            Ok(value) => Ok(value),
            Err(_) => Err(Failure::new(format!("waited {limit:?} for {what}"))),
        }
    }

    /// Looks again and again until a condition holds that nothing announces.
    pub(crate) async fn eventually<F>(&self, limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> Checked
    where
        F: Future<Output = Checked<bool>>,
    {
        let looking = async {
            let mut again = tokio::time::interval(LOOK_AGAIN);
            while !condition().await? {
                again.tick().await;
            }
            Ok(())
        };
        self.within(limit, what, looking).await?
    }

    /// What time it is on the broker's clock: a delivery tells.
    pub(crate) async fn brokers_time(&self, broker: &dyn Broker) -> Checked<Timestamp> {
        self.strike(broker, numbered(&queue("clock")?, 0)?).await
    }

    /// Waits until time has passed on the broker's clock: until a job with that delay has come. What was scheduled
    /// for sooner is due then.
    pub(crate) async fn let_pass(&self, broker: &dyn Broker, delay: Duration) -> Checked<Timestamp> {
        self.strike(broker, delayed(&queue("clock")?, 0, delay)?).await
    }

    async fn strike(&self, broker: &dyn Broker, job: Job) -> Checked<Timestamp> {
        let session = self.session(broker, &job.queue).await?;
        self.enqueue(broker, vec![job]).await?;
        let delivery = session.take_one().await?;
        let now = delivery.claimed_at;
        session.done(&[delivery]).await?;
        session.stop().await?;
        Ok(now)
    }

    /// Closes all handles and removes the namespace.
    pub(crate) async fn clear(&self) -> Checked {
        let processes = std::mem::take(&mut *self.0.processes.lock());
        for process in processes {
            // Handles that were crashed may answer anything.
            let _ = process.broker().close().await;
        }
        Ok(self.harness().clean_up(&self.0.namespace).await?)
    }
}

/// A queue name.
pub(crate) fn queue(name: &str) -> Checked<QueueName> {
    Ok(QueueName::new(name)?)
}

pub(crate) fn enqueued_jobs(broker: &dyn Broker) -> Checked<&dyn capability::EnqueuedJobs> {
    Ok(capability::require(broker, "enqueued jobs", broker.enqueued_jobs())?)
}

pub(crate) fn scheduled_jobs(broker: &dyn Broker) -> Checked<&dyn capability::ScheduledJobs> {
    Ok(capability::require(broker, "scheduled jobs", broker.scheduled_jobs())?)
}

pub(crate) fn dead_jobs(broker: &dyn Broker) -> Checked<&dyn capability::DeadJobs> {
    Ok(capability::require(broker, "dead jobs", broker.dead_jobs())?)
}

pub(crate) fn paused_queues(broker: &dyn Broker) -> Checked<&dyn capability::PausedQueues> {
    Ok(capability::require(broker, "paused queues", broker.paused_queues())?)
}

pub(crate) fn statistics(broker: &dyn Broker) -> Checked<&dyn capability::Statistics> {
    Ok(capability::require(broker, "statistics", broker.statistics())?)
}
