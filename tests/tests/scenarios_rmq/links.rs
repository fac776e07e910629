//! What can happen to the connections of workers and producers while they are at work, and their server is well.

use std::time::Duration;

use goose_services::{Mode, within};
use goose_tests::Result;
use goose_tests::brokers::Kind;
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};

use crate::cluster::until_all_go_on;
use crate::load::{Load, SOME, Size};

/// Enough for several faults in a row.
const MORE: Size = Size { backlog: 3_000, more: 9_000, ..SOME };

async fn behind_a_link(kind: Kind, size: Size) -> Result<Load> {
    let mut load = Load::start_in(Lab::new(kind)?.behind_a_link(), size).await?;
    load.until_finished(300).await?;
    // Whoever is connecting in that moment waits longer than heartbeats do.
    let of_producer = |entries: &[Entry]| {
        let acknowledged = entries.iter().filter(|entry| matches!(entry, Entry::Acknowledged { .. })).count();
        acknowledged > size.backlog
    };
    load.lab.until(PATIENCE, "the producer to be at work", of_producer).await?;
    Ok(load)
}

/// All connections are reset, again and again. What is on its way is lost, in both directions.
pub(crate) async fn cut_again_and_again(kind: Kind) -> Outcome {
    let mut load = behind_a_link(kind, MORE).await?;
    for _ in 0..4 {
        let from = now();
        load.lab.link()?.abort();
        until_all_go_on(&mut load, "connections cut", from).await?;
    }
    load.loses_nothing().await
}

/// The server closes all connections, again and again, as an operator does who wants them to go elsewhere.
pub(crate) async fn closed_by_the_server_again_and_again(kind: Kind) -> Outcome {
    let mut load = Load::start_in(Lab::new(kind)?, MORE).await?;
    load.until_finished(300).await?;
    for _ in 0..4 {
        let from = now();
        load.rabbit()?.close_connections();
        until_all_go_on(&mut load, "connections closed", from).await?;
    }
    load.loses_nothing().await
}

/// Nothing gets through for longer than heartbeats wait, and neither side is told. What was on its way arrives late.
pub(crate) async fn down_for_longer_than_heartbeats(kind: Kind) -> Outcome {
    let mut load = behind_a_link(kind, SOME).await?;
    let from = now();
    load.lab.link()?.set(Mode::Hold);
    tokio::time::sleep(Duration::from_secs(8)).await;
    load.lab.link()?.set(Mode::Pass);
    until_all_go_on(&mut load, "link down", from).await?;
    load.loses_nothing().await
}

/// Requests get through and answers do not, until somebody notices.
pub(crate) async fn without_answers(kind: Kind) -> Outcome {
    let mut load = behind_a_link(kind, MORE).await?;
    for _ in 0..2 {
        let from = now();
        let link = load.lab.link()?;
        link.swallow_answers();
        within(PATIENCE, "everybody has noticed", || link.unnoticed() == 0);
        until_all_go_on(&mut load, "no answers", from).await?;
    }
    load.loses_nothing().await
}

/// 50 ms there and back and a narrow link: everything takes longer, and no connection is given up.
pub(crate) async fn slow(kind: Kind) -> Outcome {
    let mut load = Load::start_in(Lab::new(kind)?.behind_a_link(), SOME).await?;
    let connections = load.lab.link()?.accepted();
    load.lab.link()?.delay(Duration::from_millis(25));
    load.lab.link()?.rate(256 * 1024);
    load.until_finished(1_000).await?;
    let (findings, lab) = load.finish().await?;
    let again = lab.link()?.accepted() - connections;
    ensure!(findings.is_clean() && findings.doubled_by_outage == 0, "{findings}");
    ensure!(findings.ran == SOME.backlog + SOME.more && findings.doubled_by_fault == 0, "{findings}");
    ensure!(again <= 3, "{again} connections were made while the link was slow");
    Ok(Played::Done)
}
