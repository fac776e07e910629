//! What the suite needs to know about a broker: how to reach it, and how to hurt it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{BoxFuture, JobId, QueueName, Result};

use super::scenarios;

/// The door between the suite and one kind of broker. Broker authors implement it once.
///
/// Each scenario runs in a [`Namespace`] of its own: two namespaces must share no jobs.
pub trait Harness: fmt::Debug + Send + Sync + 'static {
    /// What stands before the scenario names in test output, for instance `sqlite` or `sqlite-memory`.
    fn name(&self) -> &str;

    /// Opens a handle on the namespace, the way a new process would. Called several times for one namespace, and
    /// the handles must see the same jobs.
    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>>;

    /// Stores bytes in a queue, ready to run, as if a broken client had written them. They need not be an envelope.
    fn enqueue_raw<'a>(
        &'a self,
        namespace: &'a Namespace,
        queue: &'a QueueName,
        id: JobId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Within this time after a crash, a live session must have the jobs of the dead one: the lease plus what it
    /// takes to notice. Choose short leases, most recovery scenarios take a few of these.
    fn recovery_deadline(&self) -> Duration;

    /// How often a job may be taken from dead sessions before it is dead itself.
    fn max_recoveries(&self) -> u32;

    /// How long the suite waits for something that should happen at once. 10 seconds by default, so that a busy
    /// machine fails nothing; set it higher for brokers that are slow to reach.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The longest median delay of something that should happen at once: a wake-up, a job that became due.
    /// 100 ms by default.
    fn promptness(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Scenarios this broker does not pass, each with the reason. They are shown as skipped, never silently left
    /// out; a name the suite does not have fails the run.
    fn skips(&self) -> Vec<Skip> {
        Vec::new()
    }

    /// Removes what a scenario left behind. Called after each, when its handles are closed.
    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>>;
}

/// The name of a place that one scenario has for itself: a file, a key prefix, a virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// A name that was never used before.
    #[must_use]
    pub(crate) fn fresh() -> Self {
        Self(format!("goose-conformance-{}", JobId::new()))
    }

    /// The name: lower-case letters, digits and hyphens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One process as the suite sees it: a handle on the broker, and the way to kill it.
#[derive(Clone)]
pub struct Process {
    broker: Arc<dyn Broker>,
    crash: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Process {
    /// A handle, and an async function after which it and all its consumers behave as if their process had been
    /// killed: they renew no lease, hand nothing back, and claim nothing more.
    #[must_use]
    pub fn new<Fut>(broker: impl Broker, crash: impl Fn() -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self { broker: Arc::new(broker), crash: Arc::new(move || Box::pin(crash())) }
    }

    /// The handle.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Kills it.
    pub(crate) async fn crash(&self) {
        (self.crash)().await;
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("broker", &self.broker).finish_non_exhaustive()
    }
}

/// A scenario that a broker does not pass, and why that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The full name, as in [`Scenario::name`](super::Scenario::name).
    pub scenario: &'static str,
    /// Why, for people who read the test output.
    pub reason: &'static str,
}

impl Skip {
    /// All scenarios that need a capability, for one reason.
    #[must_use]
    pub fn all_that_need(capability: &str, reason: &'static str) -> Vec<Self> {
        let needing = scenarios().into_iter().filter(|scenario| scenario.needs().contains(&capability));
        needing.map(|scenario| Self::new(scenario.name(), reason)).collect()
    }

    /// A scenario and the reason it does not apply.
    #[must_use]
    pub fn new(scenario: &'static str, reason: &'static str) -> Self {
        Self { scenario, reason }
    }
}
