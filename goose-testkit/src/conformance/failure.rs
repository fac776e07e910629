//! Why a scenario failed: a sentence and the line that found it.

use std::fmt;
use std::panic::Location;

use goose_core::broker::SettleError;

/// What a broker did wrong, in words, and which check of the suite noticed.
#[derive(Debug, Clone)]
pub struct Failure {
    message: String,
    found_at: &'static Location<'static>,
}

impl Failure {
    #[track_caller]
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), found_at: Location::caller() }
    }

    /// What was expected, and what happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    found at {}", self.message, self.found_at)
    }
}

impl std::error::Error for Failure {}

/// A call of the broker failed where the scenario needs it to work.
impl From<goose_core::Error> for Failure {
    #[track_caller]
    fn from(error: goose_core::Error) -> Self {
        Self::new(format!("a call failed that must work ({:?}): {error:#}", error.kind()))
    }
}

/// A settle failed where the scenario needs it to work.
impl From<SettleError> for Failure {
    #[track_caller]
    fn from(error: SettleError) -> Self {
        Self::new(format!("a settle failed that must work: {error}"))
    }
}

/// How a scenario and its steps end.
pub(crate) type Checked<T = ()> = Result<T, Failure>;

/// Ends the scenario with a failure unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::conformance::failure::Failure::new(format!($($message)+)));
        }
    };
}

/// Ends the scenario with a failure unless what happened is what was expected; says what the value is.
macro_rules! ensure_eq {
    ($happened:expr, $expected:expr, $($what:tt)+) => {
        match (&$happened, &$expected) {
            (happened, expected) => {
                if *happened != *expected {
                    let what = format!($($what)+);
                    return Err($crate::conformance::failure::Failure::new(format!(
                        "{what}: expected {expected:?}, got {happened:?}"
                    )));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};
