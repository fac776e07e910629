//! Says what a worker serves and how.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goose_client::Client;
use goose_core::broker::Broker;
use goose_core::{Error, ErrorKind, IntoOutcome, JobArgs, Metrics, Observer, QueueName, Result};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::context::Surroundings;
use crate::drain::{self, Drained};
use crate::engine::{Chain, Engine, Plan};
use crate::hooks::{HookRunner, Hooks};
use crate::log::Log;
use crate::metrics::MetricsObserver;
use crate::observers::Observers;
use crate::options::Options;
use crate::pool::PoolPlan;
use crate::registry::Registry;
use crate::state::StateMap;
use crate::{BlockingHandler, Death, FailedAttempt, Handler, Middleware, Pool, Worker};

/// Sets up a [`Worker`]; made by [`Worker::builder`].
///
/// Setters never fail: the first mistake comes out of [`start`](Self::start), before the broker is asked
/// for anything.
///
/// ```
/// use goose_worker::{Context, Death, FailedAttempt, JobArgs, Pool, Worker};
/// use std::time::Duration;
///
/// # #[derive(serde::Deserialize)]
/// # struct SendEmail { to: String }
/// # impl JobArgs for SendEmail { const NAME: &'static str = "send-email"; }
/// # async fn send_email(_: SendEmail, _: Context) {}
/// # struct Mailer;
/// # async fn example(broker: impl goose_worker::broker::Broker) -> goose_worker::Result<()> {
/// let worker = Worker::builder(broker)
///     .queue("mail")
///     .concurrency(50)
///     .pool(Pool::weighted([("reports", 3), ("cleaning", 1)]).concurrency(2))
///     .state(Mailer)
///     .handle(send_email)
///     .on_error(|failed: FailedAttempt| async move { eprintln!("{}: {}", failed.job.id, failed.error) })
///     .on_death(|death: Death| async move { eprintln!("{} died: {}", death.id, death.reason) })
///     .grace_period(Duration::from_secs(60))
///     .default_timeout(Duration::from_secs(600))
///     .start()
///     .await?;
/// # worker.stop().await }
/// ```
#[must_use = "a worker begins with `start`"]
pub struct WorkerBuilder {
    broker: Arc<dyn Broker>,
    client: Option<Client>,
    /// The queues of the pool that is set up on the builder itself, in strict order.
    queues: Vec<QueueName>,
    concurrency: Option<usize>,
    prefetch: Option<usize>,
    pools: Vec<Pool>,
    registry: Registry,
    middleware: Vec<Arc<dyn Middleware>>,
    state: StateMap,
    observers: Vec<Arc<dyn Observer>>,
    hooks: Hooks,
    options: Options,
    first_mistake: Option<Error>,
}

impl WorkerBuilder {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            client: None,
            queues: Vec::new(),
            concurrency: None,
            prefetch: None,
            pools: Vec::new(),
            registry: Registry::default(),
            middleware: Vec::new(),
            state: StateMap::default(),
            observers: vec![Arc::new(Log)],
            hooks: Hooks::default(),
            options: Options::default(),
            first_mistake: None,
        }
    }

    fn note(&mut self, step: Result<()>) {
        if let Err(mistake) = step {
            self.first_mistake.get_or_insert(mistake);
        }
    }

    /// Serves a queue; `default` if none is named and no [`pool`](Self::pool) is added. Called again, it adds
    /// a queue that is looked at when those before it are empty.
    pub fn queue<Q: TryInto<QueueName, Error: Into<Error>>>(mut self, queue: Q) -> Self {
        let added = queue.try_into().map(|queue| self.queues.push(queue)).map_err(Into::into);
        self.note(added);
        self
    }

    /// How many jobs of these queues run at once; 25 by default.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// How many jobs of these queues may be held claimed but not started; see [`Pool::prefetch`].
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Adds a set of queues with a concurrency of its own.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pools.push(pool);
        self
    }

    /// Runs jobs with an async function; see [`Handler`] for what it may look like.
    pub fn handle<S, H>(mut self, handler: H) -> Self
    where
        S: 'static,
        H: Handler<S>,
        H::Args: JobArgs + DeserializeOwned,
        H::Attempt: Send + 'static,
        <H::Attempt as Future>::Output: IntoOutcome,
    {
        let added = self.registry.add_async(handler);
        self.note(added);
        self
    }

    /// Runs jobs with a function that blocks its thread; see [`BlockingHandler`] for what that means.
    pub fn handle_blocking<S, H>(mut self, handler: H) -> Self
    where
        S: 'static,
        H: BlockingHandler<S>,
        H::Args: JobArgs + DeserializeOwned,
        H::Returned: IntoOutcome,
    {
        let added = self.registry.add_blocking(handler);
        self.note(added);
        self
    }

    /// Gives handlers a value, which [`Context::state`](crate::Context::state) finds by its type.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        let added = self.state.insert(value);
        self.note(added);
        self
    }

    /// Adds code around each attempt. What is added first is outermost.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Adds somebody who hears of every [`Event`](crate::Event), at once and on the spot.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Reports numbers: jobs processed, succeeded, failed, recovered, how long they ran and waited.
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.observers.push(Arc::new(MetricsObserver(Arc::new(metrics))));
        self
    }

    /// Calls an async function for each failed attempt, in a task of its own: it may be slow, fail or panic
    /// without hurting the worker. At most 1,000 such calls run at once; beyond that they are left out, with
    /// a warning in the log.
    pub fn on_error<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.on_error(hook);
        self
    }

    /// Calls an async function for each job that died: of its own failures, or buried by the broker because
    /// it kills its workers or cannot be decoded. Otherwise as [`on_error`](Self::on_error).
    pub fn on_death<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Death) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.on_death(hook);
        self
    }

    /// How long a stop waits for running jobs; 30 seconds by default.
    pub fn grace_period(mut self, grace_period: Duration) -> Self {
        self.options.grace_period = grace_period;
        self
    }

    /// The longest one attempt may take, for jobs that do not say it themselves. `None`, the default, means
    /// as long as it likes.
    pub fn default_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.default_timeout = timeout.into();
        self
    }

    /// What to do with jobs of a name that no handler was given for. They are not killed, for during a
    /// rolling deploy another worker may know them: they are put off by `delay`, 30 seconds by default,
    /// again and again, and are dead when that has gone on for longer than `patience`, 24 hours by default.
    pub fn unknown_jobs(mut self, delay: Duration, patience: Duration) -> Self {
        self.options.unknown_delay = delay;
        self.options.unknown_patience = patience;
        self
    }

    /// The client that [`Context::client`](crate::Context::client) gives to handlers; by default one with all
    /// defaults on the same broker.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Starts the worker on the current tokio runtime. Returns when it holds its session and takes jobs.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for the first mistake: a bad queue name, a concurrency of zero, two handlers
    /// for one job, no handler at all, two states of one type, or no tokio runtime. Otherwise what the broker
    /// answers.
    pub async fn start(self) -> Result<Worker> {
        Ok(Worker::running(Engine::start(self.plan()?).await?))
    }

    /// Starts the worker, runs it until `shutdown` is done, and stops it gracefully. For ctrl-C and SIGTERM give it
    /// [`shutdown_signal`](crate::shutdown_signal):
    ///
    /// ```
    /// # use goose_worker::{JobArgs, Worker};
    /// # #[derive(serde::Deserialize)]
    /// # struct Ping(u32);
    /// # impl JobArgs for Ping { const NAME: &'static str = "ping"; }
    /// # async fn example(broker: impl goose_worker::broker::Broker) -> goose_worker::Result<()> {
    /// use goose_worker::shutdown_signal;
    ///
    /// Worker::builder(broker).handle(|Ping(n)| async move { println!("{n}") }).run_until(shutdown_signal()).await
    /// # }
    /// ```
    ///
    /// `Ok` says that the worker has ended cleanly, and not that every job has: handlers that outlive the grace period and
    /// cannot be cut (blocking ones, and async ones that do not reach an `.await`) are named in the log as
    /// warnings, and their jobs run again elsewhere when the lease ends.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Worker::stop`].
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let worker = self.start().await?;
        shutdown.await;
        worker.stop().await
    }

    /// Runs every job that is ready, and those they enqueue, until nothing is ready and nothing is running;
    /// then stops. For tests: jobs whose time has not come, retries among them, stay where they are.
    ///
    /// Looks at the queues of this worker only. Ends when nothing has happened for a twentieth of a second;
    /// never ends while a job is snoozed for no time over and over, or somebody keeps enqueuing.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`ErrorKind::Unsupported`] when the broker does not count jobs.
    pub async fn drain(mut self) -> Result<Drained> {
        let counts = Arc::new(drain::Counts::default());
        self.observers.push(Arc::clone(&counts) as _);
        let broker = Arc::clone(&self.broker);
        let plan = self.plan()?;
        let queues = plan.pools.iter().flat_map(|pool| pool.queues.names().cloned()).collect();
        drain::drain(&*broker, plan, queues, &counts).await
    }

    /// Everything without mistakes.
    fn plan(mut self) -> Result<Plan> {
        let pools = self.pool_plans();
        if let Some(mistake) = self.first_mistake {
            return Err(mistake);
        }
        let pools = pools?;
        if self.registry.is_empty() {
            return Err(invalid("the worker has no handler, add one with `handle` or `handle_blocking`"));
        }
        if self.options.default_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(invalid("default timeout is zero, use `None` for no timeout"));
        }
        if self.options.unknown_delay.is_zero() {
            return Err(invalid("unknown jobs are put off by zero, use a longer delay"));
        }
        let runtime =
            Handle::try_current().map_err(|error| invalid("a worker starts on a tokio runtime").with_source(error))?;
        let hooks = (!self.hooks.is_empty()).then(|| Arc::new(HookRunner::new(self.hooks, runtime.clone())));
        if let Some(hooks) = &hooks {
            self.observers.push(Arc::clone(hooks) as _);
        }
        let client = self.client.unwrap_or_else(|| Client::new(Arc::clone(&self.broker)));
        Ok(Plan {
            broker: self.broker,
            pools,
            registry: self.registry,
            middleware: Chain(self.middleware.into()),
            surroundings: Surroundings { client, state: self.state },
            observers: Observers::new(self.observers),
            hooks,
            options: self.options,
            runtime,
        })
    }

    /// The pool set up on the builder itself, if there is one, and the others.
    fn pool_plans(&mut self) -> Result<Vec<PoolPlan>> {
        let mut pools = std::mem::take(&mut self.pools);
        if self.queues.is_empty() && !pools.is_empty() {
            if self.concurrency.or(self.prefetch).is_some() {
                return Err(invalid("concurrency or prefetch is set without a queue, set it on the pools"));
            }
        } else {
            let queues = std::mem::take(&mut self.queues);
            let mut own = if queues.is_empty() { Pool::queue(QueueName::default()) } else { Pool::strict(queues) };
            if let Some(concurrency) = self.concurrency {
                own = own.concurrency(concurrency);
            }
            if let Some(prefetch) = self.prefetch {
                own = own.prefetch(prefetch);
            }
            pools.insert(0, own);
        }
        pools.into_iter().map(Pool::plan).collect()
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("broker", &self.broker)
            .field("queues", &self.queues)
            .field("pools", &self.pools)
            .field("handlers", &self.registry)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_bench::{Number, TestBench};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn mistakes_come_out_of_start_before_the_broker_is_asked() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.consumes_allowed = Some(0));
        let handled = || bench.worker().handle(|_: Number| async {});
        for (worker, message) in [
            (bench.worker(), "the worker has no handler, add one with `handle` or `handle_blocking`"),
            (handled().handle_blocking(|_: Number| {}), "job \"number\" has two handlers"),
            (handled().concurrency(0), "concurrency is zero, use at least 1"),
            (handled().queue("a").queue("a"), "queue a is named twice in one pool"),
            (handled().queue(""), "queue name is empty"),
            (handled().pool(Pool::queue("a").concurrency(0)), "concurrency is zero, use at least 1"),
            (
                handled().pool(Pool::queue("a")).concurrency(3),
                "concurrency or prefetch is set without a queue, set it on the pools",
            ),
            (handled().default_timeout(Duration::ZERO), "default timeout is zero, use `None` for no timeout"),
            (handled().unknown_jobs(Duration::ZERO, SECOND), "unknown jobs are put off by zero, use a longer delay"),
            (
                handled().state(1_u8).state(2_u8),
                "state of type `u8` is given twice, wrap one of them in a type of its own",
            ),
        ] {
            let error = worker.start().await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
        }
        assert_eq!(handled().start().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_session_that_cannot_be_opened_closes_those_before_it() {
        let bench = TestBench::new();
        bench.broker.faults(|faults| faults.consumes_allowed = Some(2));
        let worker = bench.worker().queue("a").pool(Pool::queue("b")).pool(Pool::queue("c"));
        let error = worker.handle(|_: Number| async {}).start().await.unwrap_err();
        assert_eq!((error.kind(), bench.broker.seen().stops), (ErrorKind::Unavailable, 2));
    }

    #[tokio::test]
    async fn two_pools_may_serve_one_queue() {
        let bench = TestBench::new();
        bench.enqueue(0..10).await;
        let pool = || Pool::queue("default").concurrency(1);
        let worker = bench.worker().pool(pool()).pool(pool()).handle(|_: Number| async {});
        let worker = worker.start().await.unwrap();
        bench.events.wait(10, "succeeded").await;
        let pools = worker.health().loops.into_iter().filter(|each| each.health.name == "poller").count();
        worker.stop().await.unwrap();
        assert_eq!((pools, bench.broker.seen().done.len()), (2, 10));
    }

    #[test]
    fn no_runtime_is_a_mistake_like_any_other() {
        let builder = Worker::builder(crate::queue_broker::QueueBroker::new()).handle(|_: Number| async {});
        let error = builder.plan().err().unwrap();
        assert_eq!(error.to_string(), "a worker starts on a tokio runtime");
    }
}
