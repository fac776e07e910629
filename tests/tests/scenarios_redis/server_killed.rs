//! kill -9 of the only server, under load.

use std::time::Duration;

use goose_core::broker::capability::require;
use goose_tests::chore::Task;
use goose_tests::ensure;
use goose_tests::ledger::now;
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Fsync, Setup, Topology};

use crate::load::{ALL, Load, acknowledged_when, before, for_a_while};
use crate::{BACK_WITHIN, is_long};

/// With `appendfsync always` an answer means that the write is on disk.
pub(crate) async fn with_every_write_on_disk_loses_nothing() -> Outcome {
    let mut load = Load::start(Setup::patient(Topology::Standalone)).await?;
    for round in 1..=3 {
        load.until_finished(round * 700).await?;
        let from = now();
        load.lab.servers()?.node(0)?.restart();
        load.lab.note_outage("killed", from)?;
    }
    let (findings, ..) = load.finish().await?;
    ensure!(findings.is_clean() && findings.ran == ALL, "{findings}");
    Ok(Played::Done)
}

/// With `appendfsync everysec` the last writes before a crash may be gone: one second of them, two when the disk is
/// slow. (What the server has handed to the operating system survives `kill -9` all the same; only a crash of the
/// machine takes that. So usually none are.) What is older must be there.
pub(crate) async fn with_a_flush_each_second_loses_nothing_older_than_two_seconds() -> Outcome {
    const MAY_BE_LOST: Duration = Duration::from_secs(2);
    let setup = Setup { fsync: Fsync::EverySecond, ..Setup::patient(Topology::Standalone) };
    let mut load = Load::start(setup).await?;
    load.until_finished(1_000).await?;
    let killed = now();
    load.lab.servers()?.node(0)?.restart();
    load.lab.note_outage("killed", before(killed, MAY_BE_LOST))?;
    let (findings, mut lab, _) = load.finish().await?;
    let lost = acknowledged_when(&mut lab, &findings.lost)?;
    let older = lost.iter().filter(|at| **at < before(killed, MAY_BE_LOST)).count();
    eprintln!("everysec: of {} acknowledged jobs {} younger than 2 s were lost", findings.acknowledged, lost.len());
    ensure!(older == 0, "{older} jobs that had been acknowledged more than 2 s before were lost: {findings}");
    ensure!(findings.is_in_order() && findings.doubled_without_fault.is_empty(), "{findings}");
    Ok(Played::Done)
}

/// All leases are over when the server comes back. Everybody is given the time to say that they live.
pub(crate) async fn for_longer_than_the_lease_recovers_nobody() -> Outcome {
    let lease = [("lease-ms", 1_000), ("concurrency", 25)];
    let mut load = Load::idle(Setup::patient(Topology::Standalone), &lease).await?;
    // More than there are hands, so that there is something to claim afterwards as well.
    load.enqueue(Task::NapUnlessRecovered(Duration::from_secs(6)), 50).await?;
    load.until_started(50).await?;
    load.enqueue(Task::Nothing, 200).await?;
    let from = now();
    load.lab.servers()?.node(0)?.kill();
    for_a_while(Duration::from_secs(4)).await;
    load.lab.servers()?.node(0)?.restart();
    load.lab.note_outage("killed", from)?;
    let (findings, lab, _) = load.finish().await?;
    let broker = lab.broker().await?;
    let totals = require(&*broker, "statistics", broker.statistics())?.totals().await?;
    ensure!(totals.recovered == 0, "{} jobs were taken from workers that live", totals.recovered);
    ensure!(findings.is_clean() && findings.doubled_by_outage == 0 && findings.ran == 250, "{findings}");
    Ok(Played::Done)
}

/// However long it was away, and however often workers have tried in vain.
pub(crate) async fn for_twenty_seconds_and_workers_go_on_at_once() -> Outcome {
    let time = if is_long() { 120 } else { 20 };
    workers_go_on_after(Duration::from_secs(time)).await
}

/// A short outage.
pub(crate) async fn for_three_seconds_and_workers_go_on_at_once() -> Outcome {
    workers_go_on_after(Duration::from_secs(3)).await
}

async fn workers_go_on_after(outage: Duration) -> Outcome {
    let mut load = Load::idle(Setup::patient(Topology::Standalone), &[("concurrency", 25)]).await?;
    load.enqueue(Task::Nap(Duration::from_millis(30)), 4_000).await?;
    load.until_finished(500).await?;
    let from = now();
    load.lab.servers()?.node(0)?.kill();
    for_a_while(outage).await;
    load.lab.servers()?.node(0)?.restart();
    let back = now();
    load.lab.note_outage("killed", from)?;
    let took = load.went_on(back, BACK_WITHIN).await?;
    eprintln!("killed for {outage:?}: every worker went on {took:?} after the server was back");
    let (findings, ..) = load.finish().await?;
    ensure!(findings.is_clean() && findings.ran == 4_000, "{findings}");
    Ok(Played::Done)
}
