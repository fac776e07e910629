//! Another server takes the place of the primary, under load.
//!
//! Redis replicates after it has answered. A primary that dies may take writes with it which it had acknowledged and
//! not yet passed on; Goose cannot mend that, and `docs/brokers/redis.md` says what a server can be told against it. So
//! what was acknowledged a second or more before the fault must be there, and what is lost of the last second is
//! reported. Nothing may be claimed for ever, and workers must find the new primary by themselves.

use std::time::Duration;

use goose_tests::ensure;
use goose_tests::ledger::now;
use goose_tests::scenario::{Outcome, Played};
use goose_tests::servers::{Setup, Topology};

use crate::BACK_WITHIN;
use crate::load::{Load, acknowledged_when, before};

/// Replicas on the same machine are not further behind.
const REPLICATED: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Paused,
}

pub(crate) async fn from_a_killed_primary(topology: Topology) -> Outcome {
    // A closed connection tells at once.
    from_a_primary(topology, Fault::Killed).await
}

/// The primary hangs, another one takes over, and later the old one goes on as if nothing had happened.
///
/// Nobody hangs up. Heartbeats find it out, within 3 s.
pub(crate) async fn from_a_paused_primary(topology: Topology) -> Outcome {
    from_a_primary(topology, Fault::Paused).await
}

async fn from_a_primary(topology: Topology, fault: Fault) -> Outcome {
    // Those who decide on the failover are given as long as heartbeats need, which is less than in most installations.
    // With much less, nodes of a cluster on a busy machine give each other up.
    let setup = Setup { failover_after_ms: 3_000, ..Setup::patient(topology) };
    let mut load = Load::start(setup).await?;
    load.until_finished(500).await?;
    let old = load.primary()?;
    let from = now();
    match fault {
        Fault::Killed => load.lab.servers()?.node(old)?.kill(),
        Fault::Paused => load.lab.servers()?.node(old)?.pause(),
    }
    load.until_failed_over(old).await?;
    let back = now();
    let took = load.went_on(back, BACK_WITHIN).await?;
    // Until then the old one could still tell the producer that it has its jobs.
    load.until_acknowledged(back).await?;
    let name = if fault == Fault::Killed { "killed" } else { "paused" };
    eprintln!(
        "{topology:?}, primary {name}: another took over after {:?}, and every worker went on {took:?} after that",
        back.since(from)
    );
    // It comes back, and must not be taken for the primary that it was.
    match fault {
        Fault::Killed => load.lab.servers()?.node(old)?.restart(),
        Fault::Paused => load.lab.servers()?.node(old)?.resume(),
    }
    load.lab.note_outage(name, before(from, REPLICATED))?;
    let (findings, mut lab, _) = load.finish().await?;
    let lost = acknowledged_when(&mut lab, &findings.lost)?;
    let older = lost.iter().filter(|at| **at < before(from, REPLICATED)).count();
    let after = lost.iter().filter(|at| **at > from).count();
    eprintln!("{topology:?}, primary {name}: {} jobs of the last second were lost", lost.len());
    ensure!(older == 0, "{older} jobs were lost that had long been acknowledged: {findings}");
    let latest = lost.last().map(|at| at.since(from));
    ensure!(
        after == 0,
        "{after} lost jobs had been acknowledged after the fault, until {latest:?} after it: {findings}"
    );
    ensure!(findings.is_in_order() && findings.doubled_without_fault.is_empty(), "{findings}");
    Ok(Played::Done)
}
