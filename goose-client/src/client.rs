//! The handle that enqueues.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Broker, EnqueueVerdict};
use goose_core::{Clock, Error, ErrorKind, Job, JobArgs, JobId, JobName, QueueName, Result, RetryPolicy, Timestamp};
use serde::Serialize;

use crate::{ArgsCodec, BulkReport, ClientBuilder, EnqueueMiddleware, EnqueueNext, JobBuilder, bulk, validate};

/// Puts jobs into a broker. Cheap to clone; all clones share one broker handle.
///
/// ```
/// use goose_client::{Client, JobArgs};
///
/// # #[derive(serde::Serialize)]
/// # struct SendEmail { to: String }
/// # impl JobArgs for SendEmail { const NAME: &'static str = "send-email"; }
/// # async fn example(broker: impl goose_client::broker::Broker) -> goose_client::Result<()> {
/// let client = Client::new(broker);
/// let id = client.perform_async(SendEmail { to: "ada@example.org".to_owned() }).await?;
/// println!("job {id} was created at {}", id.created_at());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) queue: QueueName,
    pub(crate) retry: RetryPolicy,
    pub(crate) codec: ArgsCodec,
    pub(crate) max_job_size: usize,
    pub(crate) clock: Arc<dyn Clock>,
    /// Outermost first.
    pub(crate) middleware: Vec<Arc<dyn EnqueueMiddleware>>,
}

impl Client {
    /// A client with all defaults. Takes a broker handle or an `Arc` of one.
    #[must_use]
    pub fn new(broker: impl Broker) -> Self {
        Self::from_shared(ClientBuilder::defaults(Arc::new(broker)))
    }

    /// Sets defaults, codec, limits and middleware first.
    pub fn builder(broker: impl Broker) -> ClientBuilder {
        ClientBuilder::new(Arc::new(broker))
    }

    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Enqueues a job to run as soon as a worker is free.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], [`ErrorKind::Encode`] and [`ErrorKind::TooLarge`] before anything is
    /// written, [`ErrorKind::Rejected`] from middleware, and what the broker answers. After
    /// [`ErrorKind::OutcomeUnknown`] the job may be stored or not; [`Error::job_id`] is its id then, and enqueuing it again
    /// under that id makes no second job of it, unless the first has already finished:
    ///
    /// ```
    /// # use goose_client::{Client, JobArgs, JobId, Result};
    /// # #[derive(Clone, serde::Serialize)]
    /// # struct SendEmail { to: String }
    /// # impl JobArgs for SendEmail { const NAME: &'static str = "send-email"; }
    /// async fn send(client: &Client, email: SendEmail) -> Result<JobId> {
    ///     let error = match client.perform_async(email.clone()).await {
    ///         Ok(id) => return Ok(id),
    ///         Err(error) => error,
    ///     };
    ///     match error.job_id() {
    ///         Some(id) => client.job(email).id(id).enqueue().await,
    ///         None => Err(error), // nothing was written
    ///     }
    /// }
    /// ```
    pub async fn perform_async<A: JobArgs + Serialize>(&self, args: A) -> Result<JobId> {
        self.job(args).enqueue().await
    }

    /// Enqueues a job to run after a pause. The broker adds it to its own clock: it does not matter what
    /// time this machine believes it is.
    ///
    /// # Errors
    /// As [`perform_async`](Self::perform_async).
    pub async fn perform_in<A: JobArgs + Serialize>(&self, delay: Duration, args: A) -> Result<JobId> {
        self.job(args).run_in(delay).enqueue().await
    }

    /// Enqueues a job to run at a time on the broker's clock: a [`Timestamp`] or a
    /// [`SystemTime`](std::time::SystemTime). A time in the past means now, at the front of the queue.
    ///
    /// # Errors
    /// As [`perform_async`](Self::perform_async).
    pub async fn perform_at<A: JobArgs + Serialize>(&self, time: impl Into<Timestamp>, args: A) -> Result<JobId> {
        self.job(args).run_at(time).enqueue().await
    }

    /// Enqueues many jobs of one type, in order.
    ///
    /// All are encoded and validated first; one bad job fails the call, and nothing is written. Then they
    /// go to the broker in chunks of at most 1,000: see [`enqueue_jobs`](Self::enqueue_jobs) for what
    /// becomes of them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], [`ErrorKind::Encode`] and [`ErrorKind::TooLarge`], with the place of
    /// the bad job.
    pub async fn perform_bulk<A: JobArgs + Serialize>(&self, args: impl IntoIterator<Item = A>) -> Result<BulkReport> {
        let jobs = args.into_iter().map(|args| self.job(args).into_job()).enumerate();
        let jobs = jobs.map(|(index, job)| job.map_err(|error| bulk::at(index, error))).collect::<Result<Vec<_>>>()?;
        self.enqueue_jobs(jobs).await
    }

    /// Starts a job with options of its own.
    #[expect(clippy::needless_pass_by_value, reason = "enqueuing arguments uses them up, and reads better without `&`")]
    pub fn job<A: JobArgs + Serialize>(&self, args: A) -> JobBuilder {
        let job = JobName::of::<A>().and_then(|name| {
            let mut job = Job::new(name, self.shared.queue.clone(), self.shared.codec.encode(&args)?);
            job.enqueued_at = self.shared.clock.now();
            job.retry = self.shared.retry.clone();
            Ok(job)
        });
        JobBuilder::new(self.clone(), job)
    }

    /// Enqueues jobs that were made by [`JobBuilder::build`], of any types, in order.
    ///
    /// All are validated first; one bad job fails the call, and nothing is written. Then they go to the
    /// broker in chunks of at most 1,000. Each chunk is one call: whether it can be stored in part depends on
    /// the broker. When a call fails, its jobs and all after them are reported as failed; chunks before it
    /// are stored. **Look at the report**: an `Ok` of this call does not say that every job is stored.
    ///
    /// A job whose id the broker still holds is left as it is and counts as enqueued, so the same jobs can be
    /// enqueued again after [`ErrorKind::OutcomeUnknown`]. One that has already finished by then is no longer
    /// known, and runs once more.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] and [`ErrorKind::TooLarge`], with the place of the bad job.
    pub async fn enqueue_jobs(&self, jobs: Vec<Job>) -> Result<BulkReport> {
        for (index, job) in jobs.iter().enumerate() {
            self.validate(job).map_err(|error| bulk::at(index, error))?;
        }
        Ok(bulk::enqueue_in_chunks(self, jobs).await)
    }

    /// The broker handle, for instance for [`Broker::dead_jobs`].
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.shared.broker
    }

    pub(crate) fn validate(&self, job: &Job) -> Result<()> {
        validate::job(job, self.shared.max_job_size)
    }

    /// Enqueues one valid job.
    pub(crate) async fn enqueue_one(&self, job: Job) -> Result<JobId> {
        let (id, name, queue) = (job.id, job.name.clone(), job.queue.clone());
        let stored = self.hand_over(vec![job]).await.and_then(|mut verdicts| {
            // `hand_over` has compared the lengths.
            verdicts.pop().ok_or_else(|| wrong_number(0, 1)).and_then(EnqueueVerdict::into_result)
        });
        let id = stored.map_err(|error| if_unknown(id, error))?;
        tracing::debug!(job.id = %id, job.name = %name, job.queue = %queue, "enqueued");
        Ok(id)
    }

    /// One call: through the middleware to the broker. One verdict per job, or an error.
    pub(crate) async fn hand_over(&self, jobs: Vec<Job>) -> Result<Vec<EnqueueVerdict>> {
        let expected = jobs.len();
        let verdicts = if self.shared.middleware.is_empty() {
            self.shared.broker.enqueue(jobs).await
        } else {
            EnqueueNext::first(Arc::clone(&self.shared)).run(jobs).await
        };
        match &verdicts {
            Ok(verdicts) if verdicts.len() != expected => return Err(wrong_number(verdicts.len(), expected)),
            Ok(_) => tracing::trace!(jobs = expected, broker = self.shared.broker.name(), "the broker took jobs"),
            Err(error) => tracing::debug!(jobs = expected, error = format!("{error:#}"), "enqueue failed"),
        }
        verdicts
    }
}

impl Shared {
    /// The last step after middleware, which may have changed anything.
    pub(crate) async fn hand_over_valid(&self, jobs: Vec<Job>) -> Result<Vec<EnqueueVerdict>> {
        let checks: Vec<_> = jobs.iter().map(|job| validate::job(job, self.max_job_size)).collect();
        let valid: Vec<_> =
            jobs.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(job, _)| job).collect();
        let expected = valid.len();
        let stored = if valid.is_empty() { Vec::new() } else { self.broker.enqueue(valid).await? };
        if stored.len() != expected {
            return Err(wrong_number(stored.len(), expected));
        }
        let mut stored = stored.into_iter();
        let verdicts = checks.into_iter().map(|check| match check {
            Ok(()) => stored.next(),
            Err(error) => Some(EnqueueVerdict::Failed(error)),
        });
        Ok(verdicts.flatten().collect())
    }
}

/// Whoever enqueued one job by its arguments does not know the id yet, and needs it to do so again.
fn if_unknown(id: JobId, error: Error) -> Error {
    if error.kind() != ErrorKind::OutcomeUnknown {
        return error;
    }
    let message =
        format!("job {id} may be stored or not; enqueue it again with this id, which does not make two of it");
    Error::new(ErrorKind::OutcomeUnknown, message).with_job_id(id).with_source(error)
}

fn wrong_number(verdicts: usize, jobs: usize) -> Error {
    let plural = if jobs == 1 { "" } else { "s" };
    let message = format!("client middleware or broker answered {verdicts} verdicts for {jobs} job{plural}");
    Error::new(ErrorKind::Internal, message)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("broker", &self.shared.broker)
            .field("queue", &self.shared.queue)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_broker::{Ping, RecordingBroker};
    use goose_core::Schedule;
    use std::time::SystemTime;

    #[tokio::test]
    async fn the_verbs_set_the_schedule() {
        let broker = RecordingBroker::default();
        let client = Client::new(broker.clone());
        let id = client.perform_async(Ping(1)).await.unwrap();
        client.perform_in(Duration::from_secs(5), Ping(2)).await.unwrap();
        client.perform_at(Timestamp::from_millis(7), Ping(3)).await.unwrap();
        client.perform_at(SystemTime::UNIX_EPOCH, Ping(4)).await.unwrap();

        let jobs = broker.jobs();
        let schedules: Vec<_> = jobs.iter().map(|job| job.schedule).collect();
        let at = |millis| Schedule::At(Timestamp::from_millis(millis));
        // A pause stays a pause: it is never turned into a time on this machine's clock.
        assert_eq!(schedules, [Schedule::Now, Schedule::In(Duration::from_secs(5)), at(7), at(0)]);
        assert_eq!((jobs[0].id, jobs[0].name.as_str()), (id, "ping"));
    }

    #[tokio::test]
    async fn an_arc_of_a_broker_is_a_broker_and_clones_share_it() {
        let broker = RecordingBroker::default();
        let shared: Arc<dyn Broker> = Arc::new(broker.clone());
        let client = Client::new(shared);
        client.clone().perform_async(Ping(1)).await.unwrap();
        client.perform_async(Ping(2)).await.unwrap();
        assert_eq!(broker.jobs().len(), 2);
        assert_eq!(client.broker().name(), "recording");
    }

    #[tokio::test]
    async fn a_bad_job_name_is_refused_before_the_broker() {
        #[derive(serde::Serialize)]
        struct Nameless;
        impl JobArgs for Nameless {
            const NAME: &'static str = "";
        }
        let broker = RecordingBroker::default();
        let error = Client::new(broker.clone()).perform_async(Nameless).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, "job name is empty"));
        assert_eq!(broker.calls(), 0);
    }

    #[tokio::test]
    async fn the_brokers_error_comes_through() {
        let broker = RecordingBroker::default();
        broker.fail_calls_from(0);
        let error = Client::new(broker).perform_async(Ping(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn an_unknown_outcome_says_so_and_carries_the_id_to_enqueue_it_again_with() {
        let broker = RecordingBroker::default();
        let client = Client::new(broker.clone());
        broker.lose_next_answer();
        let error = client.perform_async(Ping(1)).await.unwrap_err();
        let id = error.job_id().unwrap();
        let text = format!(
            "job {id} may be stored or not; enqueue it again with this id, which does not make two of it: no answer in time"
        );
        assert_eq!((error.kind(), format!("{error:#}")), (ErrorKind::OutcomeUnknown, text));
        assert_eq!(client.job(Ping(1)).id(id).enqueue().await.unwrap(), id);
        assert_eq!(broker.jobs().iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
        // Where nothing was written there is nothing to be careful with.
        broker.fail_calls_from(0);
        assert_eq!(client.perform_async(Ping(1)).await.unwrap_err().job_id(), None);
    }

    #[test]
    fn futures_can_be_spawned() {
        fn assert_send<T: Send>(_: T) {}
        let client = Client::new(RecordingBroker::default());
        assert_send(client.perform_async(Ping(1)));
        assert_send(client.perform_bulk([Ping(1)]));
        assert_send(client.job(Ping(1)).enqueue());
    }
}
