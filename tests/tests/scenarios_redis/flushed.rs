//! FLUSHALL: somebody throws everything away, under load.

use std::collections::HashSet;

use goose_core::JobId;
use goose_tests::ensure;
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Setup, Topology};

use crate::BACK_WITHIN;
use crate::load::{Load, acknowledged_when};

/// More than this from one worker would be a storm.
const WARNINGS: u64 = 20;

/// What was there is gone, that is what the command is for. What comes afterwards must run: workers notice
/// that they are unknown, say who they are, and go on, without a flood of complaints.
pub(crate) async fn under_load_and_workers_go_on() -> Outcome {
    let mut load = Load::start(Setup::patient(Topology::Standalone)).await?;
    load.until_finished(1_000).await?;
    load.lab.servers()?.node(0)?.ask(&["FLUSHALL"]);
    let flushed = now();
    let (findings, mut lab, warnings) = load.finish().await?;
    let lost = acknowledged_when(&mut lab, &findings.lost)?;
    let came_later: HashSet<JobId> = lab
        .entries()?
        .iter()
        .filter_map(|entry| match entry {
            Entry::Acknowledged { id, at } if *at > flushed => Some(*id),
            _ => None,
        })
        .collect();
    ensure!(came_later.len() > 1_000, "only {} jobs were enqueued after the command", came_later.len());
    // Not those that workers held already.
    let starts = lab.entries()?.iter().filter_map(|entry| match entry {
        Entry::Started { id, at, .. } if came_later.contains(id) => Some(*at),
        _ => None,
    });
    let took = starts.min().unwrap_or(now()).since(flushed);
    eprintln!("FLUSHALL: new jobs ran {took:?} later, {} were thrown away, {warnings} warnings", lost.len());
    ensure!(took <= BACK_WITHIN, "workers went on only {took:?} after the command");
    ensure!(!lost.is_empty(), "there was nothing to throw away: {findings}");
    // An answer from before the command may be written down a little after it.
    let late = lost.iter().filter(|at| at.since(flushed).as_millis() > 100).count();
    ensure!(late == 0, "{late} jobs that were enqueued afterwards are lost: {findings}");
    ensure!(findings.is_in_order() && findings.doubled_without_fault.is_empty(), "{findings}");
    ensure!(warnings <= WARNINGS, "a worker warned {warnings} times");
    Ok(Played::Done)
}
