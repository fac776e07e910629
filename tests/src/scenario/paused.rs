//! SIGSTOP: a process that is asleep for longer than its lease, as in a suspended virtual machine.

use std::time::Duration;

use goose_core::broker::capability::require;

use crate::brokers::Kind;
use crate::chore::{Chore, Task, acknowledged};
use crate::ensure;
use crate::lab::{Lab, PATIENCE};
use crate::ledger::Entry;
use crate::scenario::{Outcome, Played};

const LEASE: u64 = 1_000;

fn started_by(entries: &[Entry], worker: u32) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Started { pid, .. } if *pid == worker)).count()
}

fn finished_by(entries: &[Entry], worker: u32) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Finished { pid, .. } if *pid == worker)).count()
}

/// Its late settlements change nothing, and it goes on working.
///
/// # Errors
/// What did not hold.
pub async fn a_worker_that_slept_longer_than_its_lease(kind: Kind) -> Outcome {
    let mut lab = Lab::new(kind)?;
    let flags = [("concurrency", 5), ("lease-ms", LEASE)];
    let sleeper = lab.worker(&flags).await?;
    let client = lab.client().await?;
    let nap = Chore { task: Task::NapUnlessRecovered(Duration::from_secs(2)) };
    let ids = client.perform_bulk(vec![nap; 5]).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids))?;
    lab.until(PATIENCE, "the sleeper to start all", |entries| started_by(entries, sleeper.pid()) == 5).await?;

    sleeper.pause()?;
    let heir = lab.worker(&flags).await?;
    lab.until(PATIENCE, "the heir to finish all", |entries| finished_by(entries, heir.pid()) == 5).await?;
    heir.stop(PATIENCE).await?;

    // Its handlers come to their ends and its late settles arrive. They must change nothing.
    sleeper.resume()?;
    lab.note_fault(sleeper.pid(), "paused")?;
    lab.until(PATIENCE, "the sleeper to wake up", |entries| finished_by(entries, sleeper.pid()) == 5).await?;

    // It goes on working, with a new lease.
    let ids = client.perform_bulk(vec![Chore { task: Task::Nothing }; 20]).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids))?;
    lab.until(PATIENCE, "the sleeper to work again", |entries| finished_by(entries, sleeper.pid()) == 25).await?;
    sleeper.stop(PATIENCE).await?;

    let totals = require(&**client.broker(), "statistics", client.broker().statistics())?.totals().await?;
    ensure!(totals.recovered == 5, "recovered once each: {totals:?}");
    ensure!(totals.succeeded == 25 && totals.failed == 0, "late settles counted: {totals:?}");
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.doubled_by_fault == 5, "{findings}");
    Ok(Played::Done)
}
