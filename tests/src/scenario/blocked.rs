//! Handlers that block every thread of the async runtime, as one CPU-bound loop without an `.await` does.

use std::time::Duration;

use crate::brokers::Kind;
use crate::chore::{Chore, Task, acknowledged};
use crate::ensure;
use crate::lab::{Lab, PATIENCE};
use crate::ledger::Entry;
use crate::scenario::{Outcome, Played};

/// The jobs of blocking handlers are not taken from them.
///
/// # Errors
/// What did not hold.
pub async fn handlers_that_block_every_thread_keep_their_claims(kind: Kind) -> Outcome {
    let mut lab = Lab::new(kind)?;
    let client = lab.client().await?;
    // As many as there are threads, for five times the default lease.
    let block = Chore { task: Task::Block(Duration::from_secs(30)) };
    let ids = client.perform_bulk(vec![block; 2]).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids))?;
    let blocked = lab.worker(&[("threads", 2), ("concurrency", 2)]).await?;
    let started = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Started { .. })).count();
    lab.until(PATIENCE, "both handlers to block", |entries| started(entries) == 2).await?;

    // A rival that would take the jobs if their claims were lost.
    let rival = lab.worker(&[]).await?;
    let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
    lab.until(PATIENCE, "both handlers to come back", |entries| finished(entries) == 2).await?;
    blocked.stop(PATIENCE).await?;
    rival.stop(PATIENCE).await?;
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == 2 && findings.doubled_by_fault == 0, "{findings}");
    ensure!(started(lab.entries()?) == 2, "a blocking handler was started twice");
    Ok(Played::Done)
}
