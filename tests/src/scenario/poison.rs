//! A job that takes its whole process with it, every time.

use std::time::Duration;

use goose_core::broker::DeathCause;
use goose_core::broker::capability::require;

use crate::brokers::Kind;
use crate::chore::{Chore, Task, acknowledged};
use crate::ensure;
use crate::lab::{Lab, PATIENCE};
use crate::ledger::Entry;
use crate::scenario::{Outcome, Played};

/// The default: taken from dead workers three times, the fourth crash buries it.
const CRASHES: u32 = 4;

/// The fourth crash buries it.
///
/// # Errors
/// What did not hold.
pub async fn a_job_that_kills_its_workers_dies_and_the_others_live(kind: Kind) -> Outcome {
    let mut lab = Lab::new(kind)?;
    let client = lab.client().await?;
    let mut chores = vec![Chore { task: Task::Nap(Duration::from_millis(5)) }; 300];
    chores[100].task = Task::Abort;
    let ids = client.perform_bulk(chores).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids.clone()))?;
    let poison = ids[100];

    let dead = require(&**client.broker(), "dead jobs", client.broker().dead_jobs())?;
    let mut crashes = 0;
    let death = tokio::time::timeout(PATIENCE, async {
        let flags = [("concurrency", 5), ("lease-ms", 600)];
        let mut worker = lab.worker(&flags).await?;
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            if let Some(death) = dead.find_by_id(poison).await? {
                worker.stop(PATIENCE).await?;
                return crate::Result::Ok(death);
            }
            // Whoever runs workers in production restarts them.
            if worker.ended()?.is_some() {
                lab.note_fault(worker.pid(), "aborted")?;
                crashes += 1;
                worker = lab.worker(&flags).await?;
            }
        }
    });
    let death = death.await.map_err(|_| format!("still not dead after {crashes} crashes"))??;
    ensure!(death.reason.cause == DeathCause::Poison, "cause of death: {}", death.reason);
    ensure!(crashes == CRASHES, "dead after {crashes} crashes");

    // One more worker for what is left.
    let worker = lab.worker(&[("lease-ms", 600)]).await?;
    let finished = |entries: &[Entry]| {
        let finished = |wanted: &_| entries.iter().any(|e| matches!(e, Entry::Finished { id, .. } if id == wanted));
        ids.iter().filter(|id| finished(id)).count()
    };
    let others = lab.until(Duration::from_secs(20), "all others to finish", |entries| finished(entries) == 299).await;
    let died = dead.size().await?;
    ensure!(died == 1, "{} jobs that did nothing are dead too", died - 1);
    others?;
    worker.stop(PATIENCE).await?;
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == 299 && findings.present == 1, "{findings}");
    Ok(Played::Done)
}
