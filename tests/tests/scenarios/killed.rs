//! kill -9.

use std::time::{Duration, Instant};

use goose_core::broker::capability::require;
use goose_tests::brokers::{Address, Kind};
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::Entry;
use goose_tests::oracle::Leftovers;

use crate::{Outcome, Played, ensure};

/// What `SqliteOptions` promises at default settings.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn a_worker_with_one_job_in_flight() -> Outcome {
    a_worker_with_jobs_in_flight(1).await
}

pub(crate) async fn a_worker_with_fifty_jobs_in_flight() -> Outcome {
    a_worker_with_jobs_in_flight(50).await
}

/// How many jobs a process has started.
fn started_by(entries: &[Entry], worker: u32) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Started { pid, .. } if *pid == worker)).count()
}

async fn a_worker_with_jobs_in_flight(count: usize) -> Outcome {
    let mut lab = Lab::new(Kind::Sqlite)?;
    let mut victim = lab.worker(&[("concurrency", 50)]).await?;
    let client = lab.client().await?;
    let hour = Duration::from_secs(3_600);
    let chores = (0..count).map(|_| Chore { task: Task::NapUnlessRecovered(hour) });
    let ids = client.perform_bulk(chores).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids))?;
    let doomed = victim.pid();
    lab.until(PATIENCE, "the victim to start all", |entries| started_by(entries, doomed) == count).await?;

    let heir = lab.worker(&[("concurrency", 50)]).await?;
    lab.kill(&mut victim)?;
    let killed = Instant::now();
    let live = heir.pid();
    lab.until(RECOVERED_WITHIN, "the heir to start all", |entries| started_by(entries, live) == count).await?;
    eprintln!("{count} jobs of a killed worker ran elsewhere after {:.2} s", killed.elapsed().as_secs_f64());
    heir.stop(PATIENCE).await?;

    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == count && findings.doubled_by_fault == count, "{findings}");
    Ok(Played::Done)
}

pub(crate) async fn a_producer_in_mid_bulk() -> Outcome {
    let mut lab = Lab::new(Kind::Sqlite)?;
    let mut producer = lab.producer(&[("jobs", 1_000_000), ("batch", 1_000)])?;
    let count = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::Acknowledged { .. })).count();
    lab.until(PATIENCE, "3000 acknowledged jobs", |entries| count(entries) >= 3_000).await?;
    lab.kill(&mut producer)?;

    let broker = lab.broker().await?;
    let left = Leftovers::of(&*broker).await?;
    let lost = lab.entries()?.iter().filter(|e| matches!(e, Entry::Acknowledged { id } if !left.present.contains(id)));
    ensure!(lost.count() == 0, "acknowledged jobs are not there");
    // What was stored without having been acknowledged is whole: every job could be read and is counted.
    let queues = require(&*broker, "statistics", broker.statistics())?.queues().await?;
    let counted: u64 = queues.iter().map(|counts| counts.ready).sum();
    ensure!(counted == u64::try_from(left.present.len())?, "{counted} counted, {} read", left.present.len());
    broker.close().await?;
    let Address::Sqlite(path) = lab.address();
    let check: String = rusqlite::Connection::open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "integrity check: {check}");
    Ok(Played::Done)
}
