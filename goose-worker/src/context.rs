//! What a running job may ask about itself, and reach.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use goose_client::Client;
use goose_core::{Job, JobId, Result};

use crate::cancellation::Cancellation;
use crate::state::StateMap;

/// The surroundings of one attempt. Cheap to clone; clones may outlive the attempt.
///
/// ```
/// use goose_worker::{Context, JobArgs};
///
/// # #[derive(serde::Deserialize)]
/// # struct Import { url: String }
/// # impl JobArgs for Import { const NAME: &'static str = "import"; }
/// # #[derive(serde::Serialize)]
/// # struct Notify { text: String }
/// # impl JobArgs for Notify { const NAME: &'static str = "notify"; }
/// struct Database;
///
/// async fn import(import: Import, cx: Context) -> goose_worker::Result<()> {
///     let database = cx.state::<Database>()?;
///     if cx.attempt() > 1 {
///         println!("attempt {} of {} for {}", cx.attempt(), cx.max_attempts(), import.url);
///     }
///     cx.client().perform_async(Notify { text: "imported".to_owned() }).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Context {
    attempt: Arc<Attempt>,
}

/// One attempt; one allocation per job.
struct Attempt {
    job: Arc<Job>,
    number: u32,
    recoveries: u32,
    deadline: Option<Instant>,
    cancellation: Cancellation,
    /// Whether a blocking handler has begun or is kept from beginning.
    decided: AtomicBool,
    surroundings: Arc<Surroundings>,
}

/// What all jobs of a worker share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) client: Client,
    pub(crate) state: StateMap,
}

impl Context {
    pub(crate) fn new(
        job: Arc<Job>,
        recoveries: u32,
        deadline: Option<Instant>,
        surroundings: Arc<Surroundings>,
    ) -> Self {
        let number = job.attempts.next_attempt();
        let cancellation = Cancellation::default();
        let decided = AtomicBool::new(false);
        Self { attempt: Arc::new(Attempt { job, number, recoveries, deadline, cancellation, decided, surroundings }) }
    }

    /// A context without a worker, to call a handler in a unit test.
    ///
    /// ```
    /// use goose_worker::{Client, Context, Job, JobArgs, Outcome, Result};
    ///
    /// # struct Import { url: String }
    /// # impl JobArgs for Import { const NAME: &'static str = "import"; }
    /// async fn import(import: Import, cx: Context) -> Result<Outcome> {
    ///     let allowed = cx.state::<String>()?;
    ///     Ok(if import.url.starts_with(&*allowed) { Outcome::Done } else { Outcome::Discard("foreign".into()) })
    /// }
    ///
    /// # async fn example(job: Job, client: Client) -> Result<()> {
    /// let cx = Context::detached(job, client).with_state("https://example.org".to_owned());
    /// let outcome = import(Import { url: "ftp://example.org".to_owned() }, cx).await?;
    /// assert!(matches!(outcome, Outcome::Discard(_)));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn detached(job: Job, client: Client) -> Self {
        Self::new(Arc::new(job), 0, None, Arc::new(Surroundings { client, state: StateMap::default() }))
    }

    /// A fresh context of the same job with one more value of state, or another one of its type. For unit tests;
    /// a worker gets its state from [`WorkerBuilder::state`](crate::WorkerBuilder::state).
    #[must_use]
    pub fn with_state<T: Send + Sync + 'static>(self, value: T) -> Self {
        let Surroundings { client, state } = &*self.attempt.surroundings;
        let (client, mut state) = (client.clone(), state.clone());
        state.replace(value);
        let Attempt { job, recoveries, deadline, .. } = &*self.attempt;
        Self::new(Arc::clone(job), *recoveries, *deadline, Arc::new(Surroundings { client, state }))
    }

    /// The job's id: the same in all its attempts, so a key for work that must not be done twice.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        self.attempt.job.id
    }

    /// The whole job as it was claimed.
    #[must_use]
    pub fn job(&self) -> &Arc<Job> {
        &self.attempt.job
    }

    /// Which attempt this is, from 1. Failures count; snoozes, and attempts that died with their worker, do not.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// How many attempts the job has in all: its retries and the first one.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.attempt.job.retry.max_retries.saturating_add(1)
    }

    /// How often the job was taken from a dead worker before: more than zero means that an earlier attempt
    /// may have stopped anywhere.
    #[must_use]
    pub fn recoveries(&self) -> u32 {
        self.attempt.recoveries
    }

    /// When this attempt will be cut, by its timeout or by the job's deadline, whichever comes first.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.attempt.deadline
    }

    /// The job's tags.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.attempt.job.tags
    }

    /// One of the job's headers.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.attempt.job.headers.get(name).map(String::as_str)
    }

    /// Whether the attempt should end: it timed out, or the worker stops and will not wait any longer.
    /// Blocking handlers ask in their loops. An async handler is cut at its next `.await`; tasks it has
    /// spawned may ask.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.attempt.cancellation.is_cancelled()
    }

    /// Waits until [`is_cancelled`](Self::is_cancelled) is true.
    pub async fn cancelled(&self) {
        self.attempt.cancellation.cancelled().await;
    }

    /// The value of type `T` that was given to [`WorkerBuilder::state`](crate::WorkerBuilder::state).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the type, when there is none.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        self.attempt.surroundings.state.get()
    }

    /// A client on the worker's broker, so that jobs can enqueue jobs.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.attempt.surroundings.client
    }

    pub(crate) fn cancel(&self) {
        self.attempt.cancellation.cancel();
    }

    /// Decides whether a blocking handler begins; the first to call this does, and hears `true`. The handler's
    /// thread calls it to begin, the executor to cut an attempt that still waits for a thread.
    pub(crate) fn decide_start(&self) -> bool {
        !self.attempt.decided.swap(true, Ordering::AcqRel)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job", &self.attempt.job.id)
            .field("attempt", &self.attempt.number)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
