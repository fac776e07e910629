//! SIGSTOP of the only server: connections stay, nothing is answered.

use std::time::Duration;

use goose_tests::chore::Task;
use goose_tests::ensure;
use goose_tests::ledger::now;
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Setup, Topology};

use crate::load::{Load, for_a_while};
use crate::{BACK_WITHIN, is_long};

/// Shorter than any call waits.
pub(crate) async fn for_three_seconds_under_load() -> Outcome {
    paused(Duration::from_secs(3)).await
}

/// Longer than any call waits, and than any lease.
pub(crate) async fn for_longer_than_calls_wait_under_load() -> Outcome {
    paused(Duration::from_secs(if is_long() { 60 } else { 15 })).await
}

async fn paused(time: Duration) -> Outcome {
    let mut load = Load::idle(Setup::patient(Topology::Standalone), &[("concurrency", 25)]).await?;
    load.enqueue(Task::Nap(Duration::from_millis(30)), 4_000).await?;
    load.until_finished(500).await?;
    let from = now();
    load.lab.servers()?.node(0)?.pause();
    for_a_while(time).await;
    let back = now();
    load.lab.servers()?.node(0)?.resume();
    load.lab.note_outage("paused", from)?;
    let took = load.went_on(back, BACK_WITHIN).await?;
    eprintln!("paused for {time:?}: every worker went on {took:?} after the server did");
    let (findings, ..) = load.finish().await?;
    ensure!(findings.is_clean() && findings.ran == 4_000, "{findings}");
    ensure!(findings.doubled_by_outage == 0, "{findings}");
    Ok(Played::Done)
}
