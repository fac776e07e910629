//! What can happen to the server, under load.

use std::collections::HashSet;
use std::time::Duration;

use goose_core::JobId;
use goose_services::rabbit::Rabbit;
use goose_tests::brokers::Kind;
use goose_tests::chore::Task;
use goose_tests::ensure;
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};

use crate::load::{Load, SOME};

/// `kill -9`, and a restart, in the middle of publishing and of consuming.
pub(crate) async fn killed_twice(kind: Kind) -> Outcome {
    let mut load = Load::start(kind).await?;
    for round in 1..=2 {
        load.until_finished(round * 700).await?;
        let from = now();
        let rabbit = load.rabbit()?;
        // See `docs/brokers/rabbitmq.md`: what it would otherwise forget are whole queues that are younger than two seconds.
        rabbit.eval("catch mnesia:sync_log()");
        rabbit.save_names();
        rabbit.restart();
        load.lab.note_outage("killed", from)?;
    }
    load.loses_nothing().await
}

/// SIGSTOP: connections stay, nothing is answered, longer than heartbeats wait.
pub(crate) async fn paused_for_longer_than_heartbeats(kind: Kind) -> Outcome {
    let mut load = Load::start(kind).await?;
    load.until_finished(500).await?;
    let from = now();
    load.rabbit()?.pause();
    tokio::time::sleep(Duration::from_secs(8)).await;
    load.rabbit()?.resume();
    load.lab.note_outage("paused", from)?;
    load.loses_nothing().await
}

/// It takes in nothing more: producers wait, workers go on, and nothing runs twice.
pub(crate) async fn out_of_memory(kind: Kind) -> Outcome {
    alarm(kind, Rabbit::memory_alarm).await
}

/// The same.
pub(crate) async fn out_of_disk(kind: Kind) -> Outcome {
    alarm(kind, Rabbit::disk_alarm).await
}

async fn alarm(kind: Kind, set: fn(&Rabbit, bool)) -> Outcome {
    let mut load = Load::start(kind).await?;
    load.until_finished(300).await?;
    set(load.rabbit()?, true);
    let finished = load.finished()?;
    // There is a backlog.
    load.until_finished(finished + 500).await?;
    set(load.rabbit()?, false);
    load.loses_nothing().await
}

/// What was in it is gone. What comes afterwards runs.
pub(crate) async fn its_queue_deleted(kind: Kind) -> Outcome {
    let mut load = Load::idle(kind).await?;
    load.enqueue(Task::Nap(SOME.nap), SOME.backlog).await?;
    load.until_finished(300).await?;
    load.rabbit()?.delete_queue("lab/v1/queue/default");
    let later: HashSet<JobId> = load.enqueue(Task::Nothing, 300).await?.into_iter().collect();
    let (findings, mut lab) = load.finish().await?;
    let ran = |id: &JobId, entry: &Entry| matches!(entry, Entry::Finished { id: finished, .. } if finished == id);
    let entries = lab.entries()?;
    let missing = later.iter().filter(|id| !entries.iter().any(|entry| ran(id, entry))).count();
    ensure!(missing == 0, "{missing} jobs that were enqueued afterwards did not run: {findings}");
    ensure!(!findings.lost.is_empty() && findings.is_in_order(), "{findings}");
    ensure!(findings.doubled_without_fault.is_empty(), "{findings}");
    Ok(Played::Done)
}
