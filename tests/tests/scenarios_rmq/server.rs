//! What can happen to the server, under load.

use std::collections::HashSet;
use std::time::Duration;

use goose_core::JobId;
use goose_services::rabbit::Rabbit;
use goose_tests::Result;
use goose_tests::brokers::Kind;
use goose_tests::child::Process;
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::{Entry, now};
use goose_tests::oracle::Findings;
use goose_tests::scenario::{Outcome, Played};

/// Jobs that are there before the producer begins.
const BACKLOG: usize = 1_500;
/// Those of the producer.
const MORE: u64 = 3_000;
const ALL: usize = 4_500;

/// Two workers, and perhaps a producer.
struct Load {
    lab: Lab,
    workers: Vec<Process>,
    producer: Option<Process>,
}

impl Load {
    async fn idle(kind: Kind) -> Result<Self> {
        let lab = Lab::new(kind)?;
        let flags = [("concurrency", 25), ("lease-ms", 2_000)];
        let workers = vec![lab.worker(&flags).await?, lab.worker(&flags).await?];
        Ok(Self { lab, workers, producer: None })
    }

    async fn start(kind: Kind) -> Result<Self> {
        let mut load = Self::idle(kind).await?;
        load.enqueue(Task::Nap(Duration::from_millis(30)), BACKLOG).await?;
        load.producer = Some(load.lab.producer(&[("jobs", MORE), ("batch", 20), ("pause-ms", 10)])?);
        Ok(load)
    }

    async fn enqueue(&self, task: Task, count: usize) -> Result<Vec<JobId>> {
        let client = self.lab.client().await?;
        let ids = client.perform_bulk(vec![Chore { task }; count]).await?.into_result()?;
        self.lab.ledger()?.record_all(&acknowledged(ids.clone()))?;
        client.broker().close().await?;
        Ok(ids)
    }

    fn rabbit(&mut self) -> Result<&mut Rabbit> {
        Ok(self.lab.rabbit().ok_or("no server of RabbitMQ")?)
    }

    fn finished(&mut self) -> Result<usize> {
        Ok(self.lab.entries()?.iter().filter(|entry| matches!(entry, Entry::Finished { .. })).count())
    }

    async fn until_finished(&mut self, count: usize) -> Result<()> {
        let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
        self.lab.until(PATIENCE, &format!("{count} finished jobs"), |entries| finished(entries) >= count).await
    }

    async fn finish(mut self) -> Result<(Findings, Lab)> {
        if let Some(mut producer) = self.producer.take() {
            let status = producer.wait(PATIENCE).await?;
            ensure!(status.success(), "the producer ended with {status}");
        }
        if let Err(error) = self.lab.until_idle(PATIENCE).await {
            let mut queues = self.rabbit()?.queues();
            queues.retain(|queue| queue.messages > 0 && queue.kind != "stream");
            return Err(format!("{error}; {queues:?}").into());
        }
        for worker in self.workers.drain(..) {
            worker.stop(PATIENCE).await?;
        }
        Ok((self.lab.judge().await?, self.lab))
    }

    async fn loses_nothing(self) -> Outcome {
        let (findings, mut lab) = self.finish().await?;
        let suspects: Vec<_> = findings.doubled_without_fault.iter().chain(&findings.lost).take(2).copied().collect();
        let about = lab.entries()?.iter().filter(|entry| match entry {
            Entry::Fault { .. } | Entry::Outage { .. } => true,
            Entry::Acknowledged { id, .. } | Entry::Started { id, .. } | Entry::Finished { id, .. } => {
                suspects.contains(id)
            }
        });
        let about = about.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        ensure!(findings.is_clean() && findings.ran == ALL, "{findings}\n{about}");
        Ok(Played::Done)
    }
}

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
    load.enqueue(Task::Nap(Duration::from_millis(30)), BACKLOG).await?;
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
