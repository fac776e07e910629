//! Many jobs, many processes.

use std::time::Duration;

use goose_core::broker::capability::require;

use crate::brokers::Kind;
use crate::chaos::{Run, play};
use crate::chore::{Chore, Task, acknowledged};
use crate::ensure;
use crate::lab::{Lab, PATIENCE};
use crate::ledger::Entry;
use crate::scenario::{Outcome, Played};

/// Many jobs, and nothing goes wrong.
///
/// # Errors
/// What did not hold.
pub async fn twenty_thousand_jobs_on_two_workers(kind: Kind) -> Outcome {
    let findings = play(&Run { broker: kind, faults: 0, ..Run::default() }, |_| {}).await?;
    ensure!(findings.is_clean() && findings.doubled_by_fault == 0, "{findings}");
    ensure!(findings.acknowledged == 20_000 && findings.ran == 20_000, "{findings}");
    ensure!(findings.unacknowledged == 0, "{findings}");
    Ok(Played::Done)
}

/// A short chaos run.
///
/// # Errors
/// What did not hold.
pub async fn five_thousand_jobs_with_faults(kind: Kind) -> Outcome {
    let run = Run { broker: kind, jobs: 5_000, seed: 7, faults: 5, lease: Duration::from_secs(1), ..Run::default() };
    let findings = play(&run, |_| {}).await?;
    ensure!(findings.is_clean() && findings.ran == findings.acknowledged, "{findings}");
    Ok(Played::Done)
}

/// A worker that is asked to stop leaves nothing behind.
///
/// # Errors
/// What did not hold.
pub async fn fifteen_graceful_stops(kind: Kind) -> Outcome {
    const JOBS: usize = 1_000;
    let mut lab = Lab::new(kind)?;
    let client = lab.client().await?;
    let chores = vec![Chore { task: Task::Nap(Duration::from_millis(5)) }; JOBS];
    let ids = client.perform_bulk(chores).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids))?;
    let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
    for round in 1..=15 {
        let worker = lab.worker(&[("prefetch", 20)]).await?;
        lab.until(PATIENCE, "some jobs to finish", |entries| finished(entries) >= round * 40).await?;
        worker.stop(PATIENCE).await?;
    }
    let worker = lab.worker(&[]).await?;
    // Whatever a stop had left claimed would not come back before its lease ran out.
    lab.until(Duration::from_secs(5), "all jobs to finish", |entries| finished(entries) >= JOBS).await?;
    worker.stop(PATIENCE).await?;

    let broker = client.broker();
    ensure!(require(&**broker, "dead jobs", broker.dead_jobs())?.size().await? == 0, "a stop buried jobs");
    let totals = require(&**broker, "statistics", broker.statistics())?.totals().await?;
    ensure!(totals.recovered == 0 && totals.failed == 0, "{totals:?}");
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == JOBS && findings.doubled_by_fault == 0, "{findings}");
    Ok(Played::Done)
}
