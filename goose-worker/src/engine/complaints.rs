//! How often a trouble that lasts is told: at once, and then less and less often.

use std::time::Duration;

use tokio::time::Instant;

/// Between the first warning and the second; each further pause is twice as long.
const FIRST_GAP: Duration = Duration::from_secs(1);
/// Whoever reads the log an hour later still finds one near every moment.
const LONGEST_GAP: Duration = Duration::from_secs(30);
/// After so long without a failure the next one is another trouble. Longer than any call to a broker takes to fail.
const CALM: Duration = Duration::from_secs(60);

/// The warnings about one thing that fails again and again.
#[derive(Debug)]
pub(super) struct Complaints {
    last_failure: Option<Instant>,
    next: Instant,
    gap: Duration,
}

impl Complaints {
    pub(super) fn new() -> Self {
        Self { last_failure: None, next: Instant::now(), gap: FIRST_GAP }
    }

    /// Whether the failure that has just happened is to be told.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        if self.last_failure.replace(now).is_none_or(|last| now.duration_since(last) > CALM) {
            (self.next, self.gap) = (now, FIRST_GAP);
        }
        if now < self.next {
            return false;
        }
        self.next = now + self.gap;
        self.gap = (self.gap * 2).min(LONGEST_GAP);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_less_and_less_often_and_anew_after_a_calm() {
        let mut complaints = Complaints::new();
        let fail_for = async |complaints: &mut Complaints, seconds: u32| {
            let mut told = 0;
            for _ in 0..seconds * 2 {
                told += u32::from(complaints.is_due());
                tokio::time::advance(Duration::from_millis(500)).await;
            }
            told
        };
        assert_eq!(fail_for(&mut complaints, 1).await, 1);
        assert_eq!(fail_for(&mut complaints, 31).await, 5);
        assert_eq!(fail_for(&mut complaints, 300).await, 10);
        tokio::time::advance(CALM).await;
        assert_eq!(fail_for(&mut complaints, 1).await, 1);
    }
}
