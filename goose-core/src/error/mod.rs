//! One error type for every crate of the family: a kind to decide by, a sentence to read, a source to dig in.

mod kind;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

pub use kind::ErrorKind;

use crate::JobId;

/// Any error, as handlers return it and as sources are kept.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The result of everything that can fail in Goose.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: decide by [`Error::kind`], show the text to people.
///
/// The text is one lower-case clause that says what to do where that is known. It does not repeat its cause;
/// follow [`source`](std::error::Error::source), or print with `{:#}` to get the whole chain on one line. `{:?}` is the same
/// with the kind, so that a `main` that returns it says something to people.
///
/// ```
/// use goose_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "cannot reach the broker")
///     .with_source(std::io::Error::other("connection refused"));
/// assert!(error.is_retryable());
/// assert_eq!(error.to_string(), "cannot reach the broker");
/// assert_eq!(format!("{error:#}"), "cannot reach the broker: connection refused");
/// ```
// Boxed, so that a `Result` stays one word wide on the hot path.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    job_id: Option<JobId>,
    source: Option<BoxError>,
}

impl Error {
    /// An error of a kind, with one lower-case clause and no full stop.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), job_id: None, source: None }))
    }

    /// The same error with the job it is about.
    #[must_use]
    pub fn with_job_id(mut self, id: JobId) -> Self {
        self.0.job_id = Some(id);
        self
    }

    /// The same error with its cause. Do not repeat the cause in the message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The error of a broker that lacks a capability.
    #[must_use]
    pub fn unsupported(broker: &str, capability: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("broker {broker:?} does not support {capability}"))
    }

    /// What class of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anyone changing anything; see [`ErrorKind::is_retryable`].
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// The id of the one job that may be stored or not: with [`ErrorKind::OutcomeUnknown`] from an enqueue of a single
    /// job, so that it can be enqueued again under the same id, which makes no second job of it where an id is kept once (on
    /// RabbitMQ it is not). `None` with all else.
    #[must_use]
    pub fn job_id(&self) -> Option<JobId> {
        self.0.job_id
    }

    /// The sentence without the chain of causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if f.alternate() {
            let mut cause = self.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// As `{:#}`, with the kind behind it: this is what a `main` that returns a [`Result`] prints, and what a failed `unwrap`
/// shows. `{:#?}` shows the parts.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{self:#} ({:?})", self.0.kind);
        }
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("job_id", &self.0.job_id)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What cannot happen needs no words; this lets a [`QueueName`](crate::QueueName) stand where a text may.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_does_not_repeat_the_cause_and_alternate_prints_the_chain_once() {
        let inner = Error::new(ErrorKind::Full, "disk is full").with_source("28");
        let error = Error::new(ErrorKind::Full, "cannot enqueue 3 jobs").with_source(inner);
        assert_eq!(error.to_string(), "cannot enqueue 3 jobs");
        assert_eq!(format!("{error:#}"), "cannot enqueue 3 jobs: disk is full: 28");
        assert_eq!(error.source().unwrap().to_string(), "disk is full");
    }

    #[test]
    fn debug_reads_like_a_sentence_and_alternate_shows_the_parts() {
        let error = Error::new(ErrorKind::Unavailable, "cannot reach the broker").with_source("connection refused");
        assert_eq!(format!("{error:?}"), "cannot reach the broker: connection refused (Unavailable)");
        assert!(format!("{error:#?}").contains("source: Some("), "{error:#?}");
    }

    #[test]
    fn unsupported_names_broker_and_capability() {
        let error = Error::unsupported("rmq", "listing enqueued jobs");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "broker \"rmq\" does not support listing enqueued jobs");
    }

    #[test]
    fn a_result_stays_small() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
