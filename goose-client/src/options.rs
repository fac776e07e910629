//! What a client is told once, at its start.

use std::fmt;
use std::sync::Arc;

use goose_core::broker::Broker;
use goose_core::{Clock, Error, ErrorKind, QueueName, Result, RetryPolicy, SystemClock};

use crate::client::Shared;
use crate::{ArgsCodec, Client, EnqueueMiddleware};

/// Sets the defaults of a [`Client`]; made by [`Client::builder`].
///
/// Setters never fail: the first mistake comes out of [`build`](Self::build).
///
/// ```
/// use goose_client::{ArgsCodec, Backoff, Client, RetryPolicy};
/// use std::time::Duration;
///
/// # fn example(broker: impl goose_client::broker::Broker) -> goose_client::Result<()> {
/// let mut patient = RetryPolicy::default();
/// patient.backoff = Backoff::exponential(Duration::from_secs(30), Duration::from_secs(3600));
/// let client = Client::builder(broker)
///     .default_queue("reports")
///     .default_retry_policy(patient)
///     .args_codec(ArgsCodec::Json)
///     .max_job_size(64 * 1024)
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use = "nothing is built before `build`"]
pub struct ClientBuilder {
    broker: Arc<dyn Broker>,
    queue: Result<QueueName>,
    retry: RetryPolicy,
    codec: ArgsCodec,
    max_job_size: usize,
    clock: Arc<dyn Clock>,
    middleware: Vec<Arc<dyn EnqueueMiddleware>>,
}

impl ClientBuilder {
    /// The default of [`max_job_size`](Self::max_job_size): 1 MiB.
    pub const DEFAULT_MAX_JOB_SIZE: usize = 1024 * 1024;

    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            queue: Ok(QueueName::default()),
            retry: RetryPolicy::default(),
            codec: ArgsCodec::default(),
            max_job_size: Self::DEFAULT_MAX_JOB_SIZE,
            clock: Arc::new(SystemClock),
            middleware: Vec::new(),
        }
    }

    /// The queue of jobs that name none; `default` by default.
    pub fn default_queue<Q: TryInto<QueueName, Error: Into<Error>>>(mut self, queue: Q) -> Self {
        self.queue = self.queue.and_then(|_| queue.try_into().map_err(Into::into));
        self
    }

    /// The retry policy of jobs that set nothing else; 27 retries over about 30 days by default.
    pub fn default_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How arguments are encoded; [`ArgsCodec::MessagePack`] by default.
    pub fn args_codec(mut self, codec: ArgsCodec) -> Self {
        self.codec = codec;
        self
    }

    /// The largest job, in bytes: encoded arguments, tags, headers and names together; 1 MiB by default.
    /// Larger ones are refused with [`ErrorKind::TooLarge`].
    pub fn max_job_size(mut self, bytes: usize) -> Self {
        self.max_job_size = bytes;
        self
    }

    /// What tells the time at which jobs were created; the system clock by default. Whether a job is due is
    /// decided by the broker's clock, so this is of use in tests only.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds code around each enqueue. What is added first is outermost.
    pub fn middleware(mut self, middleware: impl EnqueueMiddleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// The client. Does not talk to the broker.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a bad queue name, a retry policy that makes no sense, or a size limit of zero.
    pub fn build(self) -> Result<Client> {
        self.retry.backoff.validate()?;
        if self.max_job_size == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "largest job size is zero, use at least 1 byte"));
        }
        Ok(Client::from_shared(Shared {
            broker: self.broker,
            queue: self.queue?,
            retry: self.retry,
            codec: self.codec,
            max_job_size: self.max_job_size,
            clock: self.clock,
            middleware: self.middleware,
        }))
    }

    /// What [`Client::new`] is made of: all defaults, which cannot be wrong.
    pub(crate) fn defaults(broker: Arc<dyn Broker>) -> Shared {
        let Self { broker, retry, codec, max_job_size, clock, middleware, .. } = Self::new(broker);
        Shared { broker, queue: QueueName::default(), retry, codec, max_job_size, clock, middleware }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("broker", &self.broker)
            .field("queue", &self.queue)
            .field("retry", &self.retry)
            .field("codec", &self.codec)
            .field("max_job_size", &self.max_job_size)
            .field("middleware", &self.middleware.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording_broker::{Ping, RecordingBroker};
    use goose_core::{Backoff, ContentType};
    use std::time::Duration;

    fn builder() -> ClientBuilder {
        Client::builder(RecordingBroker::default())
    }

    #[test]
    fn mistakes_come_out_of_build() {
        let mut policy = RetryPolicy::default();
        policy.backoff = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1));
        for (builder, message) in [
            (
                builder().default_queue("no spaces").default_queue("fine"),
                "queue name \"no spaces\" has the character ' '",
            ),
            (builder().default_retry_policy(policy), "backoff cap 1s is below its base 2s"),
            (builder().max_job_size(0), "largest job size is zero, use at least 1 byte"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }

    #[tokio::test]
    async fn jobs_start_from_the_defaults() {
        let broker = RecordingBroker::default();
        let mut policy = RetryPolicy::default();
        policy.max_retries = 2;
        let client = Client::builder(broker.clone())
            .default_queue("reports")
            .default_retry_policy(policy)
            .args_codec(ArgsCodec::Json)
            .build()
            .unwrap();
        client.perform_async(Ping(7)).await.unwrap();
        let job = &broker.jobs()[0];
        assert_eq!((job.queue.as_str(), job.retry.max_retries), ("reports", 2));
        assert_eq!((&job.args.content_type, job.args.bytes.as_slice()), (&ContentType::Json, b"7".as_slice()));
    }

    #[tokio::test]
    async fn the_size_limit_holds() {
        let broker = RecordingBroker::default();
        let client = Client::builder(broker.clone()).max_job_size(12).build().unwrap();
        // One byte of arguments, `ping` and `default`.
        client.perform_async(Ping(7)).await.unwrap();
        let error = client.job(Ping(7)).tag("x").enqueue().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(broker.jobs().len(), 1);
    }
}
