//! What a handler may say: the whole vocabulary between a job and the worker that ran it.

use std::fmt;
use std::time::Duration;

use crate::BoxError;

/// How an attempt ended.
///
/// | outcome | counts as | what happens next |
/// |---|---|---|
/// | `Done` | success | the job is removed |
/// | `Retry` | failure | again after the backoff of its policy, or dead when no retry is left |
/// | `RetryIn` | failure | again after the given pause, or dead when no retry is left |
/// | `Snooze` | neither | again after the given pause; no retry is used |
/// | `Discard` | neither | the job is removed; the reason is reported |
/// | `Bury` | failure | dead at once, whatever retries are left |
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It worked.
    Done,
    /// It failed; try again as the job's policy says.
    Retry(BoxError),
    /// It failed; try again after this long, as far as the policy leaves retries.
    RetryIn(Duration, BoxError),
    /// Not yet; come back after this long. Not a failure.
    Snooze(Duration),
    /// No longer worth doing. Not a failure.
    Discard(String),
    /// Hopeless; keep it among the dead for a human.
    Bury(String),
}

impl Outcome {
    /// A failure, from any error or text.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::Retry(error.into())
    }

    /// A failure with its own pause, from any error or text.
    pub fn retry_in(pause: Duration, error: impl Into<BoxError>) -> Self {
        Self::RetryIn(pause, error.into())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Retry(error) => write!(f, "failed: {error}"),
            Self::RetryIn(pause, error) => write!(f, "failed, retry in {pause:?}: {error}"),
            Self::Snooze(pause) => write!(f, "snoozed for {pause:?}"),
            Self::Discard(reason) => write!(f, "discarded: {reason}"),
            Self::Bury(reason) => write!(f, "buried: {reason}"),
        }
    }
}

/// What a handler may return: `()`, an [`Outcome`], or a `Result` of either with any error.
///
/// An `Err` is [`Outcome::Retry`], so `?` works with every error type that turns into a boxed error.
///
/// ```
/// use goose_core::{IntoOutcome, Outcome};
///
/// let failed: Result<(), std::io::Error> = Err(std::io::Error::other("no route to host"));
/// assert!(matches!(failed.into_outcome(), Outcome::Retry(_)));
/// let later: Result<Outcome, std::io::Error> = Ok(Outcome::Snooze(std::time::Duration::from_secs(60)));
/// assert!(matches!(later.into_outcome(), Outcome::Snooze(_)));
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "expected `()`, `Outcome`, or a `Result` of them",
    note = "the error of a `Result` must convert into `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait IntoOutcome {
    /// Turns the value into an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<T: IntoOutcome, E: Into<BoxError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(value) => value.into_outcome(),
            Err(error) => Outcome::Retry(error.into()),
        }
    }
}
