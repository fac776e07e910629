//! FLUSHALL: somebody throws everything away, under load.

use goose_tests::ensure;
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Setup, Topology};

use crate::load::{Jobs, Load, acknowledged_when};

/// More than this from one worker would be a storm.
const WARNINGS: u64 = 50;

/// What was there is gone, that is what the command is for. What comes afterwards must run: workers notice
/// that they are unknown, say who they are, and go on, without a flood of complaints.
pub(crate) async fn under_load_and_workers_go_on() -> Outcome {
    let mut load = Load::start(Setup::patient(Topology::Standalone), Jobs(6_000), &[]).await?;
    load.until_finished(2_000).await?;
    load.lab.servers()?.node(0)?.ask(&["FLUSHALL"]);
    let flushed = now();
    let took = load.went_on(flushed, crate::BACK_WITHIN).await?;
    let (findings, mut lab, warnings) = load.finish().await?;
    let lost = acknowledged_when(&mut lab, &findings.lost)?;
    eprintln!(
        "FLUSHALL: every worker went on {took:?} later, {} jobs were thrown away, {warnings} warnings",
        lost.len()
    );
    // An answer from before the command may be written down a little after it.
    let late = lost.iter().filter(|at| at.since(flushed).as_millis() > 100).count();
    ensure!(late == 0, "{late} jobs that were enqueued afterwards are lost: {findings}");
    let came_later = |entry: &&Entry| matches!(entry, Entry::Acknowledged { at, .. } if *at > flushed);
    ensure!(lab.entries()?.iter().filter(came_later).count() > 1_000, "nothing was enqueued after the command");
    ensure!(findings.is_in_order() && findings.doubled_without_fault.is_empty(), "{findings}");
    ensure!(warnings <= WARNINGS, "a worker warned {warnings} times");
    Ok(Played::Done)
}
