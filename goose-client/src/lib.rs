//! Put work in: the client of the Goose background job library.
//!
//! A program that enqueues jobs depends on this crate alone, with the feature of its broker. What runs the
//! jobs is `goose-worker`. The two meet in a type that implements [`JobArgs`].
//!
//! ```
//! use goose_client::{Client, JobArgs};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendEmail {
//!     to: String,
//! }
//! impl JobArgs for SendEmail {
//!     const NAME: &'static str = "send-email";
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> goose_client::Result<()> {
//! # use goose_sqlite::SqliteBroker; // with the feature `sqlite`: goose_client::sqlite::SqliteBroker
//! let client = Client::new(SqliteBroker::in_memory().await?);
//! let mail = |to: &str| SendEmail { to: to.to_owned() };
//!
//! client.perform_async(mail("ada@example.org")).await?;
//! client.perform_in(Duration::from_secs(900), mail("ada@example.org")).await?;
//! client.job(mail("ada@example.org")).queue("mail").retries(3).tag("vip").enqueue().await?;
//! let report = client.perform_bulk((0..5000).map(|n| mail(&format!("{n}@example.org")))).await?;
//! assert!(report.is_complete());
//! # let queues = client.broker().statistics().unwrap().queues().await?;
//! # let counts: Vec<_> = queues.iter().map(|q| (q.queue.as_str(), q.ready, q.scheduled.unwrap_or(0))).collect();
//! # assert_eq!(counts, [("default", 5001, 1), ("mail", 1, 0)]);
//! # Ok(()) }
//! ```
//!
//! # What `Ok` means
//!
//! At-least-once: when an enqueue returns `Ok`, the job is durable. It runs at least once, or stands in the
//! dead queue. When it returns an error, [`Error::kind`] says whether anything was written:
//! only [`ErrorKind::OutcomeUnknown`] leaves that open. Enqueuing the *same job id* again then does not make two
//! jobs, see [`Client::perform_async`] and [`JobBuilder::build`]; only one that has already finished in the meantime runs
//! once more.
//!
//! Bad input is found before anything is written: names, numbers, sizes and contradictions are checked
//! first, and a builder keeps its first mistake until [`JobBuilder::enqueue`].
//!
//! What goes wrong beside a call, such as a connection that broke, is told to `tracing`: a subscriber shows it, for instance
//! `tracing_subscriber::fmt::init()` of the crate `tracing-subscriber`.
//!
//! # Reading order
//!
//! - [`Client`] is the handle; [`ClientBuilder`] sets its defaults.
//! - [`JobBuilder`] says everything that can be said about one job.
//! - [`BulkReport`] is what became of many jobs.
//! - [`ArgsCodec`] turns arguments into bytes; read its page before you change a struct of arguments.
//! - [`EnqueueMiddleware`] sees, changes or refuses jobs on their way out.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `sqlite` | no | re-exports `goose-sqlite` as `goose_client::sqlite` |
//! | `redis` | no | re-exports `goose-redis` as `goose_client::redis` |
//! | `redis-tls` | no | the same, with TLS for `rediss://` |
//! | `rmq` | no | re-exports `goose-rmq` as `goose_client::rmq` |
//! | `rmq-tls` | no | the same, with TLS for `amqps://` |

mod bulk;
mod client;
mod codec;
mod job_builder;
mod middleware;
mod options;
mod validate;

#[cfg(test)]
mod recording_broker;

pub use bulk::BulkReport;
pub use client::Client;
pub use codec::ArgsCodec;
pub use job_builder::JobBuilder;
pub use middleware::{EnqueueMiddleware, EnqueueNext};
pub use options::ClientBuilder;

pub use goose_core::broker::{self, EnqueueVerdict};
pub use goose_core::{
    Backoff, BoxError, Clock, ContentType, Error, ErrorKind, Job, JobArgs, JobId, JobName, Payload, Priority,
    QueueName, Result, RetryPolicy, Schedule, SystemClock, Timestamp,
};

#[cfg(feature = "redis")]
pub use goose_redis as redis;
#[cfg(feature = "rmq")]
pub use goose_rmq as rmq;
#[cfg(feature = "sqlite")]
pub use goose_sqlite as sqlite;
