//! An assertion about what was enqueued, with a message that says what was enqueued instead.

use std::fmt::{self, Debug, Write};
use std::future::Future;
use std::panic::Location;

use goose_client::{Job, JobArgs, Timestamp};
use goose_core::broker::Broker;
use goose_core::broker::capability::JobFilter;
use serde::de::DeserializeOwned;

use super::enqueued::{decode, waiting};

/// The most jobs a failure lists.
const LISTED: usize = 30;

type Condition<A> = Box<dyn Fn(&A) -> bool + Send + Sync>;

/// How many jobs with arguments `A` should wait, and what they should be like.
#[must_use = "pass it to `assert_enqueued`"]
pub struct Expected<A> {
    times: Times,
    condition: Option<Condition<A>>,
    queue: Option<String>,
    tag: Option<String>,
    /// `Some(false)` for jobs that are ready, `Some(true)` for those that wait for their time.
    scheduled: Option<bool>,
    due_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    AtLeastOnce,
    Exactly(usize),
}

impl<A> Expected<A> {
    fn times_of(times: Times) -> Self {
        Self { times, condition: None, queue: None, tag: None, scheduled: None, due_at: None }
    }

    /// At least one such job.
    pub fn any() -> Self {
        Self::times_of(Times::AtLeastOnce)
    }

    /// Exactly one such job.
    pub fn once() -> Self {
        Self::times_of(Times::Exactly(1))
    }

    /// Exactly so many such jobs.
    pub fn times(times: usize) -> Self {
        Self::times_of(Times::Exactly(times))
    }

    /// No such job.
    pub fn none() -> Self {
        Self::times_of(Times::Exactly(0))
    }

    /// Whose arguments fulfil a condition.
    pub fn matching(mut self, condition: impl Fn(&A) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// In this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Ready to run.
    pub fn ready(mut self) -> Self {
        self.scheduled = Some(false);
        self
    }

    /// Waiting for its time, whatever time that is.
    pub fn scheduled(mut self) -> Self {
        self.scheduled = Some(true);
        self
    }

    /// Waiting for exactly this time.
    pub fn due_at(mut self, time: impl Into<Timestamp>) -> Self {
        self.due_at = Some(time.into());
        self
    }

    fn matches(&self, args: &A, job: &Job, due_at: Option<Timestamp>) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition(args))
            && self.queue.as_ref().is_none_or(|queue| job.ready_queue().as_str() == queue)
            && self.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
            && self.scheduled.is_none_or(|scheduled| scheduled == due_at.is_some())
            && self.due_at.is_none_or(|time| due_at == Some(time))
    }

    fn is_met_by(&self, count: usize) -> bool {
        match self.times {
            Times::AtLeastOnce => count > 0,
            Times::Exactly(times) => count == times,
        }
    }
}

impl<A: JobArgs> fmt::Display for Expected<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.times {
            Times::AtLeastOnce => write!(f, "at least one job {:?}", A::NAME)?,
            Times::Exactly(0) => write!(f, "no job {:?}", A::NAME)?,
            Times::Exactly(1) => write!(f, "one job {:?}", A::NAME)?,
            Times::Exactly(times) => write!(f, "{times} jobs {:?}", A::NAME)?,
        }
        if let Some(queue) = &self.queue {
            write!(f, " in queue {queue}")?;
        }
        if let Some(tag) = &self.tag {
            write!(f, " with tag {tag:?}")?;
        }
        match (self.due_at, self.scheduled) {
            (Some(time), _) => write!(f, " due at {time}")?,
            (None, Some(true)) => f.write_str(" waiting for its time")?,
            (None, Some(false)) => f.write_str(" ready to run")?,
            (None, None) => {}
        }
        if self.condition.is_some() {
            f.write_str(" matching the condition")?;
        }
        Ok(())
    }
}

impl<A: JobArgs> Debug for Expected<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expected({self})")
    }
}

/// Checks what waits in a broker. Works with every broker that can list its jobs.
///
/// ```
/// # use goose_client::JobArgs;
/// # use goose_testkit::testing::{Expected, TestBroker, assert_enqueued};
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)] struct SendEmail { to: String }
/// # impl JobArgs for SendEmail { const NAME: &'static str = "send-email"; }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> goose_client::Result<()> {
/// let test = TestBroker::new().await?;
/// test.client().job(SendEmail { to: "ada@example.org".to_owned() }).queue("mail").enqueue().await?;
///
/// let to_ada = Expected::<SendEmail>::once().matching(|email| email.to.starts_with("ada@")).queue("mail").ready();
/// assert_enqueued(&test, to_ada).await;
/// assert_enqueued(&test, Expected::<SendEmail>::none().queue("spam")).await;
/// # Ok(()) }
/// ```
///
/// # Panics
/// When the number of such jobs is another one. The message lists what does wait, with the arguments of jobs
/// of this kind. Also when the broker cannot list jobs or fails.
#[track_caller]
pub fn assert_enqueued<'a, A>(broker: &'a dyn Broker, expected: Expected<A>) -> impl Future<Output = ()> + Send + 'a
where
    A: JobArgs + DeserializeOwned + Debug,
{
    let asserted_at = Location::caller();
    async move {
        if let Err(complaint) = check(broker, &expected).await {
            #[expect(clippy::panic, reason = "an assertion for tests")]
            {
                panic!("{complaint}\nasserted at {asserted_at}");
            }
        }
    }
}

async fn check<A>(broker: &dyn Broker, expected: &Expected<A>) -> Result<(), String>
where
    A: JobArgs + DeserializeOwned + Debug,
{
    let waiting = waiting(broker, &JobFilter::default()).await;
    let waiting = waiting.map_err(|error| format!("cannot look for {expected}: {error:#}"))?;
    let (mut count, mut list) = (0, String::new());
    for (index, (job, due_at)) in waiting.iter().enumerate() {
        let args = (job.name.as_str() == A::NAME).then(|| decode::<A>(&job.args));
        if let Some(Ok(args)) = &args {
            count += usize::from(expected.matches(args, job, *due_at));
        }
        if index < LISTED {
            describe(&mut list, job, *due_at, args).map_err(|error| error.to_string())?;
        }
    }
    if expected.is_met_by(count) {
        return Ok(());
    }
    let found = if waiting.is_empty() { "nothing waits at all".to_owned() } else { format!("waiting are:{list}") };
    let more = waiting.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Err(format!("expected {expected}, found {count}; {found}{more}"))
}

fn describe<A: Debug>(
    list: &mut String,
    job: &Job,
    due_at: Option<Timestamp>,
    args: Option<goose_client::Result<A>>,
) -> fmt::Result {
    write!(list, "\n  {} in queue {}", job.name, job.ready_queue())?;
    if let Some(time) = due_at {
        write!(list, " due at {time}")?;
    }
    if !job.tags.is_empty() {
        write!(list, " with tags {:?}", job.tags)?;
    }
    match args {
        Some(Ok(args)) => write!(list, ": {args:?}"),
        Some(Err(error)) => write!(list, ": {error:#}"),
        None => Ok(()),
    }
}
