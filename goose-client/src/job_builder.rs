//! One job, said in full.

use std::time::Duration;

use goose_core::{Backoff, Error, Job, JobId, Priority, QueueName, Result, RetryPolicy, Schedule, Timestamp};

use crate::Client;

/// Everything that can be said about one job; made by [`Client::job`].
///
/// Setters never fail: the first mistake is kept and comes out of [`enqueue`](Self::enqueue) or
/// [`build`](Self::build), before anything is written.
///
/// ```
/// use goose_client::{Backoff, Client, JobArgs};
/// use std::time::Duration;
///
/// # #[derive(serde::Serialize)]
/// # struct Render { page: u32 }
/// # impl JobArgs for Render { const NAME: &'static str = "render"; }
/// # async fn example(client: Client) -> goose_client::Result<()> {
/// client
///     .job(Render { page: 7 })
///     .queue("render")
///     .retries(5)
///     .backoff(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)))
///     .retry_queue("render-slow")
///     .timeout(Duration::from_secs(30))
///     .expires_in(Duration::from_secs(3600))
///     .tag("customer-42")
///     .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
///     .enqueue()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a job is enqueued by `enqueue`"]
pub struct JobBuilder {
    client: Client,
    /// The job so far, or the first mistake.
    job: Result<Job>,
    /// Kept apart until the end, because it counts from a moment that other setters may move.
    expires_in: Option<Duration>,
}

impl JobBuilder {
    pub(crate) fn new(client: Client, job: Result<Job>) -> Self {
        Self { client, job, expires_in: None }
    }

    fn set(mut self, change: impl FnOnce(&mut Job)) -> Self {
        if let Ok(job) = &mut self.job {
            change(job);
        }
        self
    }

    fn set_queue<Q: TryInto<QueueName, Error: Into<Error>>>(
        mut self,
        queue: Q,
        change: impl FnOnce(&mut Job, QueueName),
    ) -> Self {
        self.job = self.job.and_then(|mut job| {
            change(&mut job, queue.try_into().map_err(Into::into)?);
            Ok(job)
        });
        self
    }

    /// The queue it waits in: a [`QueueName`] or a text. The client's default queue by default.
    pub fn queue<Q: TryInto<QueueName, Error: Into<Error>>>(self, queue: Q) -> Self {
        self.set_queue(queue, |job, queue| job.queue = queue)
    }

    /// How often it is tried *again* after a failure; 27 by default. `0` means dead at the first failure.
    pub fn retries(self, max_retries: u32) -> Self {
        self.set(|job| job.retry.max_retries = max_retries)
    }

    /// How long to wait before each retry; [`Backoff::Ancestor`] by default.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.set(|job| job.retry.backoff = backoff)
    }

    /// The queue that retries run in; the job's own by default.
    pub fn retry_queue<Q: TryInto<QueueName, Error: Into<Error>>>(self, queue: Q) -> Self {
        self.set_queue(queue, |job, queue| job.retry.retry_queue = Some(queue))
    }

    /// Forgets the job after its last retry instead of keeping it among the dead. `false` by default.
    pub fn skip_dead_queue(self, skip: bool) -> Self {
        self.set(|job| job.retry.skip_dead_queue = skip)
    }

    /// The whole retry policy at once, in place of the client's default.
    pub fn retry_policy(self, policy: RetryPolicy) -> Self {
        self.set(|job| job.retry = policy)
    }

    /// The longest one attempt may take; then it is cut and counts as failed. By default the worker's.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set(|job| job.timeout = Some(timeout))
    }

    /// The time by which it must be *finished*: then a running attempt is cut and the job is dead, whatever
    /// retries are left. None by default.
    pub fn deadline(self, deadline: impl Into<Timestamp>) -> Self {
        self.set(|job| job.deadline = Some(deadline.into()))
    }

    /// The time after which it is not *started* any more, but discarded. None by default.
    pub fn expires_at(mut self, time: impl Into<Timestamp>) -> Self {
        self.expires_in = None;
        self.set(|job| job.expires_at = Some(time.into()))
    }

    /// Discards it when it could not be started within this long after it became due: after now, or after the
    /// time given to [`run_in`](Self::run_in) or [`run_at`](Self::run_at).
    ///
    /// The end is computed on this machine's clock; where it differs from the broker's by more than
    /// a small part of `time`, use [`expires_at`](Self::expires_at) with a time you can rely on.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Adds a word to find it by. At most 50, each at most 200 bytes.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.set(|job| job.tags.push(tag.into()))
    }

    /// Adds words to find it by.
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.set(|job| job.tags.extend(tags.into_iter().map(Into::into)))
    }

    /// Adds a pair for whoever is around the job, such as trace context; the last value of a name counts.
    /// At most 50, names of at most 128 bytes, values of at most 8 KiB.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(|job| {
            job.headers.insert(name.into(), value.into());
        })
    }

    /// Adds pairs for whoever is around the job.
    pub fn headers<K: Into<String>, V: Into<String>>(self, headers: impl IntoIterator<Item = (K, V)>) -> Self {
        self.set(|job| job.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value.into()))))
    }

    /// Puts it before everything that already waits in its queue. With [`run_in`](Self::run_in) or [`run_at`](Self::run_at)
    /// it changes nothing: a job whose time has come goes to the front anyway.
    pub fn front(self) -> Self {
        self.set(|job| job.priority = Priority::Front)
    }

    /// Runs it after a pause, which the broker adds to its own clock.
    pub fn run_in(self, delay: Duration) -> Self {
        self.set(|job| job.schedule = Schedule::In(delay))
    }

    /// Runs it at a time on the broker's clock. A time in the past means now, at the front of the queue.
    pub fn run_at(self, time: impl Into<Timestamp>) -> Self {
        self.set(|job| job.schedule = Schedule::At(time.into()))
    }

    /// The id, instead of a new one. While the broker holds a job of this id, enqueuing another one with it
    /// changes nothing and answers `Ok`.
    pub fn id(self, id: JobId) -> Self {
        self.set(|job| job.id = id)
    }

    /// The job, validated and not enqueued. Keep a clone to be able to enqueue it again when the outcome of
    /// the first time is unknown. That makes no second job, unless the first has already finished:
    ///
    /// ```
    /// use goose_client::{Client, ErrorKind, JobArgs};
    ///
    /// # async fn example(client: Client, args: impl JobArgs + serde::Serialize) -> goose_client::Result<()> {
    /// let job = client.job(args).queue("billing").build()?;
    /// while let Err(error) = client.enqueue_jobs(vec![job.clone()]).await?.into_result() {
    ///     if error.kind() != ErrorKind::OutcomeUnknown {
    ///         return Err(error);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first mistake: [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput),
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) or [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge).
    pub fn build(self) -> Result<Job> {
        let client = self.client.clone();
        let job = self.into_job()?;
        client.validate(&job)?;
        Ok(job)
    }

    /// Enqueues it.
    ///
    /// # Errors
    /// As [`build`](Self::build), [`ErrorKind::Rejected`](crate::ErrorKind::Rejected) from middleware, and
    /// what the broker answers.
    pub async fn enqueue(self) -> Result<JobId> {
        let client = self.client.clone();
        client.enqueue_one(self.build()?).await
    }

    /// The job without its last checks, for callers that make them for many jobs at once.
    pub(crate) fn into_job(self) -> Result<Job> {
        let mut job = self.job?;
        if let Some(time) = self.expires_in {
            job.expires_at = Some(job.run_at().unwrap_or(job.enqueued_at).saturating_add(time));
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_broker::{Ping, RecordingBroker};
    use goose_core::{ErrorKind, JobArgs};
    use serde::ser::Error as _;
    use serde::{Serialize, Serializer};

    const SECOND: Duration = Duration::from_secs(1);

    fn builder() -> JobBuilder {
        Client::new(RecordingBroker::default()).job(Ping(1))
    }

    #[test]
    fn every_setter_reaches_the_job() {
        let id = JobId::new();
        let job = builder()
            .queue("q")
            .retries(3)
            .backoff(Backoff::fixed(SECOND))
            .retry_queue(String::from("again"))
            .skip_dead_queue(true)
            .timeout(SECOND)
            .deadline(Timestamp::from_millis(253_402_300_799_998))
            .expires_at(Timestamp::from_millis(253_402_300_799_999))
            .tag("a")
            .tags(["b", "c"])
            .header("k", "v")
            .headers([("l", "w")])
            .front()
            .run_in(SECOND)
            .id(id)
            .build()
            .unwrap();
        assert_eq!((job.id, job.queue.as_str(), job.priority), (id, "q", Priority::Front));
        let retry = &job.retry;
        assert_eq!((retry.max_retries, &retry.backoff, retry.skip_dead_queue), (3, &Backoff::fixed(SECOND), true));
        assert_eq!(retry.retry_queue.as_ref().unwrap().as_str(), "again");
        assert_eq!((job.timeout, job.schedule), (Some(SECOND), Schedule::In(SECOND)));
        assert_eq!(job.deadline.unwrap().as_millis() + 1, job.expires_at.unwrap().as_millis());
        assert_eq!(job.tags, ["a", "b", "c"]);
        assert_eq!(job.headers, [("k".into(), "v".into()), ("l".into(), "w".into())].into());
    }

    #[test]
    fn a_queue_name_is_taken_as_it_is_and_a_policy_replaces_all() {
        let mut policy = RetryPolicy::default();
        policy.max_retries = 1;
        let job =
            builder().queue(QueueName::new("q").unwrap()).retries(9).retry_policy(policy.clone()).build().unwrap();
        assert_eq!((job.queue.as_str(), job.retry), ("q", policy));
    }

    #[test]
    fn the_first_mistake_comes_out_and_nothing_panics() {
        let error = builder().queue("a b").retry_queue("").queue("fine").tag("").build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "queue name \"a b\" has the character ' ', use A-Z a-z 0-9 _ . - only");
        let error = builder().retry_queue("").build().unwrap_err();
        assert_eq!(error.to_string(), "queue name is empty");
        let error = builder().timeout(Duration::ZERO).build().unwrap_err();
        assert_eq!(error.to_string(), "timeout is zero, leave it out for no timeout");
    }

    #[test]
    fn expiry_counts_from_when_the_job_may_run_whatever_the_order_of_calls() {
        let minute = SECOND * 60;
        for job in [builder().expires_in(SECOND).run_in(minute), builder().run_in(minute).expires_in(SECOND)] {
            let job = job.build().unwrap();
            assert_eq!(job.expires_at.unwrap().since(job.enqueued_at), minute + SECOND);
        }
        let job = builder().expires_in(SECOND).build().unwrap();
        assert_eq!(job.expires_at.unwrap().since(job.enqueued_at), SECOND);
        assert_eq!(builder().expires_in(Duration::ZERO).build().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn what_cannot_be_encoded_is_refused_before_the_broker() {
        struct Secret;
        impl JobArgs for Secret {
            const NAME: &'static str = "secret";
        }
        impl Serialize for Secret {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("keys stay at home"))
            }
        }
        let broker = RecordingBroker::default();
        let error = Client::new(broker.clone()).job(Secret).queue("q").enqueue().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert!(format!("{error:#}").ends_with("Secret: keys stay at home"), "{error:#}");
        assert_eq!(broker.calls(), 0);
    }

    #[tokio::test]
    async fn the_same_job_can_be_enqueued_again() {
        let broker = RecordingBroker::default();
        let client = Client::new(broker.clone());
        let job = client.job(Ping(1)).build().unwrap();
        for _ in 0..2 {
            assert_eq!(client.enqueue_jobs(vec![job.clone()]).await.unwrap().into_result().unwrap(), [job.id]);
        }
        assert_eq!(broker.jobs().len(), 1);
    }
}
