//! What has happened to a job so far.

use crate::Timestamp;

/// The counters and the history of a job's attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Attempts {
    /// Retries used. It counts retries, not executions: `max_retries = 5` allows six executions.
    pub retry_count: u32,
    /// When the first failure happened.
    pub first_failed_at: Option<Timestamp>,
    /// When the last retry was started.
    pub last_retried_at: Option<Timestamp>,
    /// The last failures, oldest first, at most [`Attempts::HISTORY`].
    pub failures: Vec<Failure>,
    /// Set while no worker knows the job's name.
    pub parked: Option<Parked>,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// When it failed.
    pub at: Timestamp,
    /// Which execution it was, from 1.
    pub attempt: u32,
    /// The error with its causes, cut to [`Failure::MAX_ERROR_LEN`] bytes.
    pub error: String,
}

/// How long a job has been waiting for a worker that knows its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// When a worker first met the job without knowing its name.
    pub since: Timestamp,
    /// How often it was handed back so far.
    pub times: u32,
}

impl Attempts {
    /// How many failures are kept.
    pub const HISTORY: usize = 10;

    /// Which execution comes next, from 1.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        self.retry_count.saturating_add(1)
    }

    /// The last failure.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failures.last()
    }

    /// Notes a failure of the current attempt; forgets the oldest one beyond [`Attempts::HISTORY`].
    /// Does not touch `retry_count`: that is for whoever decides whether there is a retry.
    pub fn record_failure(&mut self, at: Timestamp, error: impl Into<String>) {
        self.first_failed_at.get_or_insert(at);
        let surplus = (self.failures.len() + 1).saturating_sub(Self::HISTORY);
        self.failures.drain(..surplus);
        let attempt = self.next_attempt();
        self.failures.push(Failure::new(at, attempt, error));
    }

    /// Notes that no worker knew the name at `at`.
    pub fn record_parking(&mut self, at: Timestamp) {
        let parked = self.parked.get_or_insert(Parked { since: at, times: 0 });
        parked.times = parked.times.saturating_add(1);
    }
}

impl Failure {
    /// The longest error text kept, in bytes: enough for a chain of causes, too little to bloat a queue.
    pub const MAX_ERROR_LEN: usize = 2048;

    /// A failure; cuts the text where it is too long.
    #[must_use]
    pub fn new(at: Timestamp, attempt: u32, error: impl Into<String>) -> Self {
        let mut error = error.into();
        error.truncate(error.floor_char_boundary_at(Self::MAX_ERROR_LEN));
        Self { at, attempt, error }
    }
}

impl Parked {
    /// Parking since a time, so often.
    #[must_use]
    pub fn new(since: Timestamp, times: u32) -> Self {
        Self { since, times }
    }
}

/// `str::floor_char_boundary`, which our minimum Rust does not have yet.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        if index >= self.len() {
            return self.len();
        }
        (0..=index).rev().find(|i| self.is_char_boundary(*i)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_failures_and_the_time_of_the_first() {
        let mut attempts = Attempts::default();
        for n in 0..25 {
            attempts.record_failure(Timestamp::from_millis(n), format!("error {n}"));
            attempts.retry_count += 1;
        }
        assert_eq!(attempts.failures.len(), Attempts::HISTORY);
        assert_eq!(attempts.first_failed_at, Some(Timestamp::from_millis(0)));
        assert_eq!(attempts.failures[0].error, "error 15");
        let last = attempts.last_failure().unwrap();
        assert_eq!((last.attempt, last.error.as_str()), (25, "error 24"));
    }

    #[test]
    fn long_errors_are_cut_at_a_character() {
        let failure = Failure::new(Timestamp::EPOCH, 1, "ö".repeat(3000));
        assert_eq!(failure.error.len(), Failure::MAX_ERROR_LEN);
        assert!(failure.error.chars().all(|c| c == 'ö'));
    }

    #[test]
    fn parking_keeps_its_first_time() {
        let mut attempts = Attempts::default();
        attempts.record_parking(Timestamp::from_millis(7));
        attempts.record_parking(Timestamp::from_millis(9));
        assert_eq!(attempts.parked, Some(Parked { since: Timestamp::from_millis(7), times: 2 }));
    }
}
