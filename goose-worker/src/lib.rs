//! Take work out: the worker of the Goose background job library.
//!
//! A program that runs jobs depends on this crate alone, with the feature of its broker. What enqueues them
//! is `goose-client`, which is re-exported as [`client`].
//!
//! ```
//! use goose_worker::{Context, JobArgs, Outcome, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail {
//!     to: String,
//! }
//! impl JobArgs for SendEmail {
//!     const NAME: &'static str = "send-email";
//! }
//!
//! async fn send_email(email: SendEmail, cx: Context) -> std::io::Result<Outcome> {
//!     if email.to.is_empty() {
//!         return Ok(Outcome::Discard("no address".to_owned()));
//!     }
//!     println!("to {}, attempt {}", email.to, cx.attempt());
//!     Ok(Outcome::Done)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> goose_worker::Result<()> {
//! # use goose_sqlite::SqliteBroker; // with the feature `sqlite`: goose_worker::sqlite::SqliteBroker
//! let broker = SqliteBroker::in_memory().await?;
//! # let client = goose_worker::Client::new(broker.clone());
//! # client.job(SendEmail { to: "ada@example.org".to_owned() }).queue("mail").enqueue().await?;
//! # let drained = Worker::builder(broker.clone()).queue("mail").handle(send_email).drain().await?;
//! # assert_eq!(drained.succeeded, 1);
//! let worker = Worker::builder(broker).queue("mail").concurrency(25).handle(send_email).start().await?;
//! worker.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # The promise
//!
//! At-least-once, fenced. A job whose enqueue returned `Ok` runs at least once or stands in the dead queue.
//! A worker that lost its claim cannot change the job any more. *At least once* means that a job can run
//! twice: when its worker is killed, cut off, or cannot store the outcome in time. Make handlers idempotent, for
//! instance by [`Context::job_id`].
//!
//! # Reading order
//!
//! - [`WorkerBuilder`] says what a worker serves and how; [`Pool`] is a set of queues with its own concurrency.
//! - [`Handler`] and [`BlockingHandler`] are what runs jobs; [`Context`] is what they may ask; [`Outcome`]
//!   is what they may say.
//! - [`Middleware`] stands around each attempt; [`FailedAttempt`] and [`Death`] go to hooks; [`Observer`]
//!   hears of every [`Event`].
//! - [`Worker`] is the running thing; [`Health`] is how it is doing. [`shutdown_signal`] waits for whoever wants it to stop.
//!
//! # What you see of it
//!
//! Everything a worker does is told to `tracing`: a span `job` of level `INFO` around each attempt, failures as
//! `WARN`, deaths as `ERROR`, all else as `DEBUG` or `INFO`. **Without a subscriber nothing is seen**, of a handler that
//! fails each time neither. With the crate `tracing-subscriber`, this is the first line of `main`:
//!
//! ```
//! tracing_subscriber::fmt::init();
//! ```
//!
//! [`WorkerBuilder::on_error`] and [`WorkerBuilder::on_death`] tell your own code.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `sqlite` | no | re-exports `goose-sqlite` as `goose_worker::sqlite` |
//! | `redis` | no | re-exports `goose-redis` as `goose_worker::redis` |
//! | `redis-tls` | no | the same, with TLS for `rediss://` |
//! | `rmq` | no | re-exports `goose-rmq` as `goose_worker::rmq` |
//! | `rmq-tls` | no | the same, with TLS for `amqps://` |

mod builder;
mod cancellation;
mod codec;
mod context;
mod drain;
mod engine;
mod handler;
mod hooks;
mod log;
mod metrics;
mod middleware;
mod observers;
mod options;
mod pool;
mod registry;
mod shutdown_signal;
mod state;
mod worker;

#[cfg(test)]
mod queue_broker;
#[cfg(test)]
mod queue_faults;
#[cfg(test)]
mod test_bench;

pub use builder::WorkerBuilder;
pub use context::Context;
pub use drain::Drained;
pub use engine::{Health, WorkerLoop};
pub use handler::{BlockingHandler, Handler};
pub use hooks::{Death, FailedAttempt};
pub use middleware::{Middleware, Next};
pub use pool::Pool;
pub use shutdown_signal::shutdown_signal;
pub use worker::Worker;

pub use goose_client::{self as client, BulkReport, Client, ClientBuilder, JobBuilder};
pub use goose_core::broker;
pub use goose_core::{
    Attempts, Backoff, BoxError, Clock, Error, ErrorKind, Event, Failure, IntoOutcome, Job, JobArgs, JobId, JobName,
    Labels, Metric, Metrics, Observer, Outcome, Payload, Priority, QueueName, Result, RetryPolicy, Schedule,
    SystemClock, Timestamp,
};

#[cfg(feature = "redis")]
pub use goose_redis as redis;
#[cfg(feature = "rmq")]
pub use goose_rmq as rmq;
#[cfg(feature = "sqlite")]
pub use goose_sqlite as sqlite;

/// The programs in pages for users are compiled with the tests, as a user has them: through this crate.
#[cfg(all(doctest, feature = "sqlite", feature = "redis"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/brokers/sqlite.md")]
    struct Sqlite;
    #[doc = include_str!("../../docs/brokers/redis.md")]
    struct Redis;
}
