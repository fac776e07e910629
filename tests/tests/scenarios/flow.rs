//! Many jobs, many processes.

use std::time::Duration;

use goose_core::broker::capability::require;
use goose_tests::brokers::Kind;
use goose_tests::chaos::{Run, play};
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::Entry;

use crate::{Outcome, Played, ensure};

pub(crate) async fn twenty_thousand_jobs_on_two_workers() -> Outcome {
    let findings = play(&Run { faults: 0, ..Run::default() }, |_| {}).await?;
    ensure!(findings.is_clean() && findings.doubled_by_fault == 0, "{findings}");
    ensure!(findings.acknowledged == 20_000 && findings.ran == 20_000, "{findings}");
    ensure!(findings.unacknowledged == 0, "{findings}");
    Ok(Played::Done)
}

pub(crate) async fn five_thousand_jobs_with_faults() -> Outcome {
    let run = Run { jobs: 5_000, seed: 7, faults: 5, lease: Duration::from_secs(1), ..Run::default() };
    let findings = play(&run, |_| {}).await?;
    ensure!(findings.is_clean() && findings.ran == findings.acknowledged, "{findings}");
    Ok(Played::Done)
}

pub(crate) async fn fifteen_graceful_stops() -> Outcome {
    const JOBS: usize = 1_000;
    let mut lab = Lab::new(Kind::Sqlite)?;
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
