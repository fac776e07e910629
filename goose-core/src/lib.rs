//! Words and contracts of Goose, a background job library.
//!
//! This crate has no dependencies and does no I/O. It says what a job is, what a handler may answer, what an
//! error is, and what a broker must do; `goose-client` and `goose-worker` build on it and re-export what
//! their users need. Depend on it directly to write a broker, a metrics backend or a tool.
//!
//! Reading order:
//! - [`Job`]: the record that travels. [`JobId`], [`JobName`], [`Payload`], [`Schedule`], [`Attempts`] are its parts.
//! - [`JobArgs`] ties a Rust type to a job name; [`QueueName`] is where jobs wait.
//! - [`RetryPolicy`] and [`Backoff`]: how often and how late.
//! - [`Outcome`]: what a handler may say.
//! - [`Error`]: what can go wrong, by [`ErrorKind`].
//! - [`broker`]: the contract between the engine and a broker.
//! - [`Event`], [`Metric`]: what happened, as values and as numbers.
//! - `codec` (feature `codec`): the stored form of a job.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `codec` | no | the versioned MessagePack envelope of `docs/wire-format.md` |

mod args;
mod clock;
mod error;
mod event;
mod future;
mod job;
mod metrics;
mod name;
mod outcome;
mod queue;
mod random;
mod retry;
mod time;

pub mod broker;
#[cfg(feature = "codec")]
pub mod codec;

pub use args::JobArgs;
pub use clock::{Clock, SystemClock};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use event::{Event, Observer};
pub use future::BoxFuture;
pub use job::{
    Attempts, ContentType, Failure, Job, JobId, JobName, Parked, Payload, Priority, Schedule, UnknownFields,
};
pub use metrics::{Labels, Metric, Metrics};
pub use outcome::{IntoOutcome, Outcome};
pub use queue::QueueName;
pub use retry::{Backoff, RetryPolicy};
pub use time::Timestamp;
