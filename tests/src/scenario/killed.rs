//! kill -9.

use std::time::{Duration, Instant};

use goose_core::broker::capability::require;

use crate::brokers::{self, Kind};
use crate::chore::{Chore, Task, acknowledged};
use crate::ensure;
use crate::lab::{Lab, PATIENCE};
use crate::ledger::Entry;
use crate::oracle::Leftovers;
use crate::scenario::{Outcome, Played};

/// What brokers promise at default settings.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

/// One job comes back.
///
/// # Errors
/// What did not hold.
pub async fn a_worker_with_one_job_in_flight(kind: Kind) -> Outcome {
    a_worker_with_jobs_in_flight(kind, 1).await
}

/// A full worker's jobs come back.
///
/// # Errors
/// What did not hold.
pub async fn a_worker_with_twenty_five_jobs_in_flight(kind: Kind) -> Outcome {
    a_worker_with_jobs_in_flight(kind, 25).await
}

/// Many jobs come back, all of them.
///
/// # Errors
/// What did not hold.
pub async fn a_worker_with_fifty_jobs_in_flight(kind: Kind) -> Outcome {
    a_worker_with_jobs_in_flight(kind, 50).await
}

/// How many jobs a process has started.
fn started_by(entries: &[Entry], worker: u32) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Started { pid, .. } if *pid == worker)).count()
}

async fn a_worker_with_jobs_in_flight(kind: Kind, count: usize) -> Outcome {
    let mut lab = Lab::new(kind)?;
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

/// What was acknowledged is there, and nothing is half there.
///
/// # Errors
/// What did not hold.
pub async fn a_producer_in_mid_bulk(kind: Kind) -> Outcome {
    let mut lab = Lab::new(kind)?;
    let mut producer = lab.producer(&[("jobs", 1_000_000), ("batch", 1_000)])?;
    let count = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::Acknowledged { .. })).count();
    lab.until(PATIENCE, "3000 acknowledged jobs", |entries| count(entries) >= 3_000).await?;
    lab.kill(&mut producer)?;

    let broker = lab.broker().await?;
    let left = Leftovers::of(&*broker).await?;
    let lost =
        lab.entries()?.iter().filter(|e| matches!(e, Entry::Acknowledged { id, .. } if !left.present.contains(id)));
    ensure!(lost.count() == 0, "acknowledged jobs are not there");
    // What was stored without having been acknowledged is whole: every job could be read and is counted.
    let queues = require(&*broker, "statistics", broker.statistics())?.queues().await?;
    let counted: u64 = queues.iter().map(|counts| counts.ready).sum();
    ensure!(counted == u64::try_from(left.present.len())?, "{counted} counted, {} read", left.present.len());
    broker.close().await?;
    let complaints = brokers::complaints(lab.address()).await?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(Played::Done)
}
