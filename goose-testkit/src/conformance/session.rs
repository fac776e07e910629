//! A consumer with a deadline on everything, and the ways to settle that scenarios use.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Consumer, DeathCause, DeathReason, Delivery, Receipt, SettleError, Settlement, Verdict};
use goose_core::{Job, Timestamp};

use super::failure::{Checked, Failure, ensure, ensure_eq};
use super::job::{number, numbers};
use super::stage::{QUIET, Stage};
use super::witness::{Seen, Witness};

/// One claim-holding session of a scenario.
#[derive(Debug)]
pub(crate) struct Session {
    stage: Stage,
    pub(crate) consumer: Box<dyn Consumer>,
    witness: Arc<Witness>,
}

impl Session {
    pub(crate) fn new(stage: Stage, consumer: Box<dyn Consumer>, witness: Arc<Witness>) -> Self {
        Self { stage, consumer, witness }
    }

    /// Fetches until `n` jobs are there, which should be at once.
    pub(crate) async fn take(&self, n: usize) -> Checked<Vec<Delivery>> {
        self.take_within(self.stage.harness().patience(), n).await
    }

    /// Fetches until `n` jobs are there.
    pub(crate) async fn take_within(&self, limit: Duration, n: usize) -> Checked<Vec<Delivery>> {
        let mut taken = Vec::with_capacity(n);
        let taking = async {
            while taken.len() < n {
                let wanted = n - taken.len();
                let more = self.consumer.fetch(wanted).await?;
                ensure!(!more.is_empty(), "a fetch of {wanted} returned nothing instead of waiting");
                ensure!(more.len() <= wanted, "a fetch of {wanted} returned {} jobs", more.len());
                taken.extend(more);
            }
            Ok::<(), Failure>(())
        };
        match self.stage.within(limit, &format!("{n} jobs"), taking).await {
            Ok(result) => result?,
            Err(late) => {
                let got: Vec<_> = taken.iter().map(|delivery| number(&delivery.job).unwrap_or(u64::MAX)).collect();
                return Err(Failure::new(format!("{}, got {}: {got:?}", late.message(), got.len())));
            }
        }
        Ok(taken)
    }

    /// Fetches one job, which should be there at once.
    pub(crate) async fn take_one(&self) -> Checked<Delivery> {
        self.take(1).await?.pop().ok_or_else(|| Failure::new("a fetch returned nothing instead of waiting"))
    }

    /// Fetches the numbered jobs one expects next, in this order, and leaves them claimed.
    pub(crate) async fn expect(&self, expected: &[u64]) -> Checked<Vec<Delivery>> {
        let taken = self.take(expected.len()).await?;
        ensure_eq!(numbers(&taken)?, expected, "the jobs that came");
        Ok(taken)
    }

    /// Checks that no job comes for a while.
    pub(crate) async fn expect_nothing(&self) -> Checked {
        match tokio::time::timeout(QUIET, self.consumer.fetch(1)).await {
            Err(_) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(jobs)) => Err(Failure::new(format!("expected no job, got {jobs:?}"))),
        }
    }

    /// Settles one claim.
    pub(crate) async fn settle(&self, receipt: Receipt, verdict: Verdict) -> Checked<Result<(), SettleError>> {
        let mut answers = self.settle_all(vec![Settlement::new(receipt, verdict)]).await?;
        answers.pop().ok_or_else(|| Failure::new("a settle of one claim gave no answer"))
    }

    /// Settles claims in one call.
    pub(crate) async fn settle_all(&self, settlements: Vec<Settlement>) -> Checked<Vec<Result<(), SettleError>>> {
        let settle = self.consumer.settle(&settlements);
        let answers = self.stage.promptly("the answers of a settle", settle).await?;
        ensure_eq!(answers.len(), settlements.len(), "the number of answers of a settle");
        Ok(answers)
    }

    /// Settles claims in one call, each of which must work.
    pub(crate) async fn must_settle(&self, deliveries: &[Delivery], verdict: impl Fn(&Delivery) -> Verdict) -> Checked {
        let settlement = |delivery: &Delivery| Settlement::new(delivery.receipt, verdict(delivery));
        for answer in self.settle_all(deliveries.iter().map(settlement).collect()).await? {
            answer?;
        }
        Ok(())
    }

    /// Settles claims as done, each of which must work.
    pub(crate) async fn done(&self, deliveries: &[Delivery]) -> Checked {
        self.must_settle(deliveries, |_| Verdict::Done).await
    }

    /// Settles a claim that must be stale.
    pub(crate) async fn must_be_fenced(&self, receipt: Receipt, verdict: Verdict) -> Checked {
        let what = format!("{verdict:?}");
        match self.settle(receipt, verdict).await? {
            Err(SettleError::Fenced) => Ok(()),
            other => {
                Err(Failure::new(format!("a stale receipt was settled with {what}; expected Fenced, got {other:?}")))
            }
        }
    }

    pub(crate) async fn stop(&self) -> Checked {
        self.stage.promptly("a session to stop", self.consumer.stop()).await?.map_err(Failure::from)
    }

    /// Whether the broker told this session's observer of something.
    pub(crate) fn saw(&self, seen: &Seen) -> bool {
        self.witness.saw(seen)
    }

    /// Waits until the broker has told this session's observer of something.
    pub(crate) async fn must_see(&self, seen: &Seen) -> Checked {
        let limit = self.stage.harness().patience();
        let seen_by_now = || async { Ok(self.saw(seen)) };
        self.stage
            .eventually(limit, &format!("the observer to be told {seen:?}"), seen_by_now)
            .await
            .map_err(|late| Failure::new(format!("{}; it was told {:?}", late.message(), self.witness)))
    }
}

/// The verdict of an attempt that failed now and is tried again.
pub(crate) fn retry(delivery: &Delivery, delay: Duration, error: &str) -> Verdict {
    let mut job = failed(&delivery.job, error);
    job.attempts.retry_count += 1;
    Verdict::Retry { job: Box::new(job), delay }
}

/// The verdict of an attempt that failed for good.
pub(crate) fn bury(delivery: &Delivery, error: &str) -> Verdict {
    let reason = DeathReason::new(DeathCause::RetriesExhausted, error);
    Verdict::Bury { job: Box::new(failed(&delivery.job, error)), reason }
}

/// The verdict of a job that asks to come back.
pub(crate) fn snooze(delivery: &Delivery, delay: Duration) -> Verdict {
    Verdict::Snooze { job: Box::new(delivery.job.clone()), delay }
}

fn failed(job: &Job, error: &str) -> Job {
    let mut job = job.clone();
    // Any time will do; a round one is easier to compare.
    job.attempts.record_failure(Timestamp::from_millis(1_767_225_600_000), error);
    job
}
