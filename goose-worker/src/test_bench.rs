//! What the tests of the engine share: a job type, somebody who notes events, and a way to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{Event, Job, JobArgs, Observer};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::queue_broker::QueueBroker;
use crate::{Client, JobBuilder, Worker, WorkerBuilder};

/// A job that carries a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Number(pub(crate) u32);
impl JobArgs for Number {
    const NAME: &'static str = "number";
}

/// The number a stored [`Number`] carries.
pub(crate) fn number(job: &Job) -> u32 {
    crate::codec::decode::<Number>(&job.args).unwrap().0
}

/// A broker, a client on it, and a recorder for a worker on it.
pub(crate) struct TestBench {
    pub(crate) broker: QueueBroker,
    pub(crate) client: Client,
    pub(crate) events: Arc<Recorder>,
}

impl TestBench {
    pub(crate) fn new() -> Self {
        let broker = QueueBroker::new();
        Self { client: Client::new(broker.clone()), broker, events: Arc::new(Recorder::default()) }
    }

    /// A worker on the broker, with the recorder listening.
    pub(crate) fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.broker.clone()).observer(Arc::clone(&self.events))
    }

    pub(crate) fn job(&self, n: u32) -> JobBuilder {
        self.client.job(Number(n))
    }

    pub(crate) async fn enqueue(&self, numbers: impl IntoIterator<Item = u32>) {
        let report = self.client.perform_bulk(numbers.into_iter().map(Number)).await.unwrap();
        assert!(report.is_complete());
    }
}

/// Notes each event as `name number`, and the details of those that have any.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.0.lock().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits for so many events that start like this.
    pub(crate) async fn wait(&self, times: usize, start: &str) {
        until(&format!("{times} × {start}"), || self.count(start) >= times).await;
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let name = event.name();
        let line = match event {
            Event::Failed { job, error, .. } => format!("{name} {}: {error}", number(job)),
            Event::Died { job, reason, .. } => format!("{name} {}: {reason}", number(job.unwrap())),
            Event::Discarded { job, reason } => format!("{name} {}: {reason}", number(job)),
            Event::Retried { job, delay } | Event::Snoozed { job, delay } | Event::Parked { job, delay } => {
                format!("{name} {} for {delay:?}", number(job))
            }
            Event::Started { job, .. }
            | Event::Succeeded { job, .. }
            | Event::Expired { job }
            | Event::Released { job }
            | Event::Fenced { job } => format!("{name} {}", number(job)),
            _ => name.to_owned(),
        };
        self.0.lock().push(line);
    }
}

/// Waits for a condition, for at most ten seconds of real time.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds handlers until it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) async fn pass(&self) {
        let _ = self.0.acquire().await;
    }

    pub(crate) fn open(&self) {
        self.0.close();
    }
}
