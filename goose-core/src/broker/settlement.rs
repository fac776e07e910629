//! How a claim ends.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Receipt;
use crate::{Error, ErrorKind, Job};

/// The end of one claim: which, and how.
///
/// Non-exhaustive on purpose: results to keep and jobs to add in the same atomic step will come here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settlement {
    /// The claim.
    pub receipt: Receipt,
    /// Its end.
    pub verdict: Verdict,
}

impl Settlement {
    /// The end of a claim.
    #[must_use]
    pub fn new(receipt: Receipt, verdict: Verdict) -> Self {
        Self { receipt, verdict }
    }
}

/// What a broker does with a job whose claim ends.
///
/// Where a verdict carries a job, that record replaces the stored one: its attempt state has changed. The
/// id is the same. Delays are added to the broker's clock.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verdict {
    /// It ran. Remove it, count a success.
    Done,
    /// It is not worth running any more (discarded, expired, or dead with `skip_dead_queue`). Remove it, count a discard.
    Discard,
    /// It failed and has a retry left: due after `delay` in its [`ready_queue`](Job::ready_queue), at the front.
    Retry {
        /// The job with the failure in its attempt state.
        job: Box<Job>,
        /// The pause; zero means at once.
        delay: Duration,
    },
    /// Not now: due after `delay`, at the front. Not a failure.
    Snooze {
        /// The job.
        job: Box<Job>,
        /// The pause; zero means at once.
        delay: Duration,
    },
    /// It failed for good: keep it among the dead.
    Bury {
        /// The job with the failure in its attempt state.
        job: Box<Job>,
        /// Why.
        reason: DeathReason,
    },
    /// It was not run: back to the front of its queue, as it was. Several releases of one call keep the order in
    /// which the jobs were claimed.
    Release,
}

/// Why a job is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeathReason {
    /// The class, to filter by.
    pub cause: DeathCause,
    /// The last error or the handler's words.
    pub detail: String,
}

impl DeathReason {
    /// A reason.
    #[must_use]
    pub fn new(cause: DeathCause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl fmt::Display for DeathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { write!(f, "{}", self.cause) } else { write!(f, "{}: {}", self.cause, self.detail) }
    }
}

/// The classes of death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeathCause {
    /// It failed and no retry was left.
    RetriesExhausted,
    /// The handler said so.
    Buried,
    /// Its worker died while holding it, too often: it is probably what kills them.
    Poison,
    /// Its stored bytes are not a job.
    Undecodable,
    /// No worker knew its name for too long.
    Unhandled,
    /// Its deadline passed.
    DeadlineExceeded,
}

impl DeathCause {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::RetriesExhausted, "retries-exhausted"),
        (Self::Buried, "buried"),
        (Self::Poison, "poison"),
        (Self::Undecodable, "undecodable"),
        (Self::Unhandled, "unhandled"),
        (Self::DeadlineExceeded, "deadline-exceeded"),
    ];
}

impl fmt::Display for DeathCause {
    /// The stored form, in kebab case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(cause, _)| cause == self).map_or("unknown", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for DeathCause {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(cause, _)| *cause);
        known.ok_or_else(|| Error::new(ErrorKind::Decode, format!("{text:?} is not a cause of death")))
    }
}

/// Why one settlement did nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum SettleError {
    /// The claim is no longer this session's: the job was recovered, deleted, or settled before.
    /// Nothing was changed and nothing needs to be done.
    Fenced,
    /// The broker failed. If the error is retryable, settle again.
    Broker(Error),
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("the claim was lost"),
            Self::Broker(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for SettleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fenced => None,
            Self::Broker(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_death_read_back() {
        for (cause, name) in DeathCause::NAMES {
            assert_eq!(cause.to_string(), name);
            assert_eq!(name.parse::<DeathCause>().unwrap(), cause);
        }
        assert_eq!("old age".parse::<DeathCause>().unwrap_err().kind(), ErrorKind::Decode);
        assert_eq!(DeathReason::new(DeathCause::Poison, "3 crashes").to_string(), "poison: 3 crashes");
    }
}
