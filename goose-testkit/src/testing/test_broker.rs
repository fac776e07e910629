//! A broker in memory with a clock that the test moves.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_client::{Client, JobArgs, Result};
use goose_core::broker::capability::{DeadJobs, EnqueuedJobs, PausedQueues, ScheduledJobs, Statistics};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, EnqueueVerdict};
use goose_core::{BoxFuture, Clock, IntoOutcome, Job, Outcome};
use goose_sqlite::{SqliteBroker, SqliteOptions};
use goose_worker::{Context, Handler, Worker, WorkerBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ManualClock;
use super::enqueued::decode;

/// The embedded broker in memory, with a [`ManualClock`]. Every test has its own; clones share it.
///
/// It is a real broker, not a recording: what passes here has been stored, fetched and settled.
#[derive(Debug, Clone)]
pub struct TestBroker {
    broker: SqliteBroker,
    clock: ManualClock,
    client: Client,
}

impl TestBroker {
    /// A broker without jobs, at 2026-01-01T00:00:00Z.
    ///
    /// # Errors
    /// SQLite cannot be started.
    pub async fn new() -> Result<Self> {
        Self::with_clock(ManualClock::new()).await
    }

    /// A broker without jobs on a clock of yours.
    ///
    /// # Errors
    /// SQLite cannot be started.
    pub async fn with_clock(clock: ManualClock) -> Result<Self> {
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let broker = SqliteOptions::in_memory().clock(Arc::clone(&shared)).open().await?;
        let client = Client::builder(broker.clone()).clock(shared).build()?;
        Ok(Self { broker, clock, client })
    }

    /// The clock that decides what is due.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Lets time pass: moves the clock so that every job that was to wait for `delay` or less is due.
    ///
    /// That is one millisecond more than `delay`. Clocks tell whole milliseconds, so a broker that must never be early
    /// counts from the end of the one it reads.
    pub fn advance(&self, delay: Duration) {
        self.clock.advance(delay.saturating_add(Duration::from_millis(1)));
    }

    /// A client on this broker and this clock, with all other defaults.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A worker on this broker: add handlers, then [`drain`](WorkerBuilder::drain) it.
    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.broker.clone()).client(self.client.clone())
    }

    /// Calls a handler once with arguments that were encoded and decoded as on their way through a broker. Nothing is
    /// enqueued, except by the handler: its [`Context::client`] is [`Self::client`].
    ///
    /// ```
    /// # use goose_client::JobArgs;
    /// # use goose_testkit::testing::TestBroker;
    /// use goose_core::Outcome;
    ///
    /// # #[derive(Debug, serde::Serialize, serde::Deserialize)] struct Divide(i32, i32);
    /// # impl JobArgs for Divide { const NAME: &'static str = "divide"; }
    /// async fn divide(Divide(a, b): Divide) -> Result<(), &'static str> {
    ///     a.checked_div(b).map(drop).ok_or("division by zero")
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> goose_client::Result<()> {
    /// let test = TestBroker::new().await?;
    /// assert!(matches!(test.perform_inline(divide, Divide(6, 3)).await?, Outcome::Done));
    /// let failed = test.perform_inline(divide, Divide(1, 0)).await?;
    /// assert_eq!(failed.to_string(), "failed: division by zero");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The arguments cannot be encoded or decoded, or are more than the client allows.
    pub async fn perform_inline<S, H>(&self, handler: H, args: H::Args) -> Result<Outcome>
    where
        H: Handler<S>,
        H::Args: JobArgs + Serialize + DeserializeOwned,
        <H::Attempt as Future>::Output: IntoOutcome,
    {
        let job = self.client.job(args).build()?;
        let args = decode(&job.args)?;
        Ok(handler.call(args, Context::detached(job, self.client.clone())).await.into_outcome())
    }

    /// As [`perform_inline`](Self::perform_inline), for a handler that asks its context for state.
    ///
    /// # Errors
    /// As [`perform_inline`](Self::perform_inline).
    pub async fn perform_inline_with<S, H, T>(&self, state: T, handler: H, args: H::Args) -> Result<Outcome>
    where
        H: Handler<S>,
        H::Args: JobArgs + Serialize + DeserializeOwned,
        <H::Attempt as Future>::Output: IntoOutcome,
        T: Send + Sync + 'static,
    {
        let job = self.client.job(args).build()?;
        let args = decode(&job.args)?;
        let cx = Context::detached(job, self.client.clone()).with_state(state);
        Ok(handler.call(args, cx).await.into_outcome())
    }
}

// A method forgotten here would silently fall back to its default.
#[deny(clippy::missing_trait_methods)]
impl Broker for TestBroker {
    fn name(&self) -> &'static str {
        self.broker.name()
    }
    fn enqueue(&self, jobs: Vec<Job>) -> BoxFuture<'_, Result<Vec<EnqueueVerdict>>> {
        self.broker.enqueue(jobs)
    }
    fn consume(&self, options: ConsumerOptions) -> BoxFuture<'_, Result<Box<dyn Consumer>>> {
        self.broker.consume(options)
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.broker.close()
    }
    fn enqueued_jobs(&self) -> Option<&dyn EnqueuedJobs> {
        self.broker.enqueued_jobs()
    }
    fn scheduled_jobs(&self) -> Option<&dyn ScheduledJobs> {
        self.broker.scheduled_jobs()
    }
    fn dead_jobs(&self) -> Option<&dyn DeadJobs> {
        self.broker.dead_jobs()
    }
    fn paused_queues(&self) -> Option<&dyn PausedQueues> {
        self.broker.paused_queues()
    }
    fn statistics(&self) -> Option<&dyn Statistics> {
        self.broker.statistics()
    }
}
