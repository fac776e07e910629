//! The RabbitMQ broker of Goose: jobs on any stock RabbitMQ from 3.10 to 4.3, on classic or on quorum queues, without a
//! plugin.
//!
//! `docs/brokers/rabbitmq.md` says what is guaranteed, what to set on the server, and which queues and exchanges there are.
//!
//! ```no_run
//! # async fn f() -> goose_core::Result<()> {
//! use goose_rmq::RmqBroker;
//!
//! let broker = RmqBroker::connect("amqp://localhost").await?;
//! # Ok(()) }
//! ```
//!
//! Reading order: [`RmqOptions`] says what to connect to; `amqp` is the seam to the client library and keeps connections
//! alive on a thread of our own (`runtime`); `topology` has every queue and exchange, `delay` the arithmetic of
//! the cascade that delays jobs, `message` the stored form of a job; `enqueue` takes jobs in, `outbox` hands them to `publisher`, which
//! sends and waits for confirms; `session`
//! receives, holds and settles; `log` is the control log, on which pausing and deleting rest; `dead` the dead jobs; `journal` the journal of what waits;
//! `capability` the optional powers; `broker` the handle.

mod again;
mod amqp;
mod broker;
mod capability;
mod copy_id;
mod dead;
mod delay;
mod enqueue;
mod error;
#[cfg(feature = "fault-injection")]
mod fault_injection;
mod hooks;
mod journal;
mod log;
mod message;
mod options;
mod outbox;
mod publisher;
mod runtime;
mod session;
mod strays;
mod stream;
mod topology;

pub use broker::RmqBroker;
pub use hooks::{ConnectionEnd, FailedJob, FailureReason};
pub use options::{QueueType, RmqOptions};
