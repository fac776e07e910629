//! The slot of a queue moves to another node of the cluster, under load.

use std::time::Duration;

use goose_tests::ensure;
use goose_tests::lab::PREFIX;
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Servers, Setup, Topology};

use crate::load::{ALL, Load};

/// While its keys are on two nodes (about a second here) calls are told to try again; afterwards they are told where the
/// queue is now. Neither is an error to anyone, and nothing runs twice: no connection breaks, no answer is lost.
pub(crate) async fn of_the_slot_of_the_queue() -> Outcome {
    let mut load = Load::start(Setup::patient(Topology::Cluster)).await?;
    for round in 1..=3 {
        load.until_finished(round * 1_500).await?;
        let from = load.primary()?;
        let Servers::Cluster(cluster) = load.lab.servers()? else { return Err("not a cluster".into()) };
        let to = (from + 1) % 3;
        let slot = cluster.slot_of(&format!("{PREFIX}:{{default}}:jobs"));
        cluster.move_slot(slot, from, to, Duration::from_millis(80));
        ensure!(load.primary()? == to, "the slot did not move");
    }
    let (findings, ..) = load.finish().await?;
    ensure!(findings.is_clean() && findings.ran == ALL, "{findings}");
    ensure!(findings.doubled_by_fault == 0 && findings.unacknowledged == 0, "{findings}");
    Ok(Played::Done)
}
