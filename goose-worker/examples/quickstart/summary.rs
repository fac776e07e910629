//! What became of every job, and whether any is lost.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use goose_client::JobId;
use goose_worker::broker::Broker;
use goose_worker::broker::capability::{Totals, require};

use crate::Result;
use crate::producer::totals;
use crate::results::{self, Finding};

/// The numbers that are printed at the end.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    jobs: u64,
    files: u64,
    lines: u64,
    words: u64,
    bytes: u64,
    done: u64,
    discarded: u64,
    dead: u64,
    lost: Vec<JobId>,
    retried: u64,
    recovered: u64,
    took: Duration,
    /// From enqueue to start, of every file; sorted.
    waits: Vec<Duration>,
    /// Why files were not counted, for a few of them.
    reasons: Vec<String>,
}

/// How many reasons are shown.
const REASONS: usize = 5;

/// Goes through the ids that `enqueue` has answered: each must have left a result, or stand in the dead queue.
pub(crate) async fn add_up(
    ids: &[JobId],
    results: &Path,
    broker: &dyn Broker,
    before: Totals,
    took: Duration,
) -> Result<Summary> {
    let results = results::read(results)?;
    let dead_jobs = require(broker, "dead jobs", broker.dead_jobs())?;
    let mut sum = Summary { took, ..Summary::default() };
    for id in ids {
        sum.jobs += 1;
        match results.get(id) {
            Some((waited, finding)) => sum.add(*waited, finding),
            None if dead_jobs.find_by_id(*id).await?.is_some() => sum.dead += 1,
            None => sum.lost.push(*id),
        }
    }
    let after = totals(broker).await?;
    sum.retried = (after.failed - before.failed).saturating_sub(sum.dead);
    sum.recovered = after.recovered - before.recovered;
    sum.waits.sort_unstable();
    Ok(sum)
}

impl Summary {
    pub(crate) fn all_accounted_for(&self) -> bool {
        self.lost.is_empty()
    }

    fn add(&mut self, waited: Duration, finding: &Finding) {
        match finding {
            Finding::Counted { lines, words, bytes, .. } => {
                self.done += 1;
                self.files += 1;
                self.lines += lines;
                self.words += words;
                self.bytes += bytes;
                self.waits.push(waited);
            }
            Finding::Unreadable { path, reason } => {
                self.discarded += 1;
                self.waits.push(waited);
                if self.reasons.len() < REASONS {
                    self.reasons.push(format!("{path}: {reason}"));
                }
            }
            Finding::Worked { .. } => self.done += 1,
        }
    }

    /// The wait that this share of the jobs did not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.waits.len() * percent).div_ceil(100);
        self.waits.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn jobs_per_second(&self) -> u128 {
        u128::from(self.jobs) * 1000 / self.took.as_millis().max(1)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<22}{value:>14}");
        row("files", &self.files)?;
        row("lines", &self.lines)?;
        row("words", &self.words)?;
        row("bytes", &self.bytes)?;
        row("jobs done", &self.done)?;
        row("retried", &self.retried)?;
        row("discarded", &self.discarded)?;
        row("dead", &self.dead)?;
        row("recovered", &self.recovered)?;
        row("jobs/s", &self.jobs_per_second())?;
        row("enqueue to start, p50", &format!("{} ms", self.percentile(50).as_millis()))?;
        row("enqueue to start, p99", &format!("{} ms", self.percentile(99).as_millis()))?;
        for reason in &self.reasons {
            writeln!(f, "discarded {reason}")?;
        }
        for id in &self.lost {
            writeln!(f, "LOST {id}")?;
        }
        let lost = u64::try_from(self.lost.len()).unwrap_or(u64::MAX);
        write!(f, "quickstart: {} jobs, {} accounted for, {lost} lost", self.jobs, self.jobs - lost)
    }
}
