//! Work under which something happens: a backlog, two workers, and a producer that adds to it.

use std::time::Duration;

use goose_core::JobId;
use goose_services::rabbit::Rabbit;
use goose_tests::Result;
use goose_tests::brokers::Kind;
use goose_tests::child::Process;
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::Entry;
use goose_tests::oracle::Findings;
use goose_tests::scenario::{Outcome, Played};

/// Of the workers, in ms.
const HEARTBEAT: u64 = 2_000;

/// How many jobs there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Those that are there before the producer begins.
    pub(crate) backlog: usize,
    /// How long each of them takes.
    pub(crate) nap: Duration,
    /// Those of the producer, most of which take no time.
    pub(crate) more: usize,
    /// How long it rests after each twenty, in ms.
    pub(crate) pause_ms: u64,
}

/// Some seconds of work.
pub(crate) const SOME: Size = Size { backlog: 1_500, nap: Duration::from_millis(30), more: 3_000, pause_ms: 10 };

const NONE: Size = Size { backlog: 0, nap: Duration::ZERO, more: 0, pause_ms: 0 };

/// Two workers, and perhaps a producer.
pub(crate) struct Load {
    pub(crate) lab: Lab,
    pub(crate) workers: Vec<Process>,
    producer: Option<Process>,
    size: Size,
}

impl Load {
    /// Workers that have nothing to do.
    pub(crate) async fn idle(kind: Kind) -> Result<Self> {
        Self::idle_in(Lab::new(kind)?).await
    }

    /// The same in a lab that is there.
    pub(crate) async fn idle_in(lab: Lab) -> Result<Self> {
        let mut load = Self { lab, workers: Vec::new(), producer: None, size: NONE };
        load.add_worker().await?;
        load.add_worker().await?;
        Ok(load)
    }

    /// One more worker.
    pub(crate) async fn add_worker(&mut self) -> Result<()> {
        self.workers.push(self.lab.worker(&[("concurrency", 25), ("lease-ms", HEARTBEAT)]).await?);
        Ok(())
    }

    /// Workers and a producer at work.
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        Self::start_in(Lab::new(kind)?, SOME).await
    }

    /// The same in a lab that is there, with so many jobs.
    pub(crate) async fn start_in(lab: Lab, size: Size) -> Result<Self> {
        let mut load = Self { size, ..Self::idle_in(lab).await? };
        load.enqueue(Task::Nap(size.nap), size.backlog).await?;
        let jobs = ("jobs", u64::try_from(size.more)?);
        let flags = [jobs, ("batch", 20), ("pause-ms", size.pause_ms), ("lease-ms", HEARTBEAT)];
        load.producer = Some(load.lab.producer(&flags)?);
        Ok(load)
    }

    /// Enqueues jobs from here.
    pub(crate) async fn enqueue(&self, task: Task, count: usize) -> Result<Vec<JobId>> {
        let client = self.lab.client().await?;
        let ids = client.perform_bulk(vec![Chore { task }; count]).await?.into_result()?;
        self.lab.ledger()?.record_all(&acknowledged(ids.clone()))?;
        client.broker().close().await?;
        Ok(ids)
    }

    /// The same in the middle of the work, as a part of it.
    pub(crate) async fn enqueue_more(&mut self, count: usize) -> Result<()> {
        self.size.backlog += count;
        self.enqueue(Task::Nap(self.size.nap), count).await.map(drop)
    }

    /// The server.
    pub(crate) fn rabbit(&mut self) -> Result<&mut Rabbit> {
        Ok(self.lab.rabbit().ok_or("no server of RabbitMQ")?)
    }

    /// How many jobs have come to an end, of those that are written down.
    pub(crate) fn finished(&mut self) -> Result<usize> {
        Ok(self.lab.entries()?.iter().filter(|entry| matches!(entry, Entry::Finished { .. })).count())
    }

    /// Waits for so many.
    pub(crate) async fn until_finished(&mut self, count: usize) -> Result<()> {
        let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
        self.lab.until(PATIENCE, &format!("{count} finished jobs"), |entries| finished(entries) >= count).await
    }

    /// Waits until everything is done, and judges it.
    pub(crate) async fn finish(mut self) -> Result<(Findings, Lab)> {
        if let Some(mut producer) = self.producer.take() {
            let status = producer.wait(PATIENCE).await?;
            ensure!(status.success(), "the producer ended with {status}");
        }
        if let Err(error) = self.lab.until_idle(PATIENCE).await {
            let mut queues = self.lab.rabbit_queues();
            queues.retain(|queue| queue.messages > 0 && queue.kind != "stream");
            return Err(format!("{error}; {queues:?}").into());
        }
        for worker in self.workers.drain(..) {
            worker.stop(PATIENCE).await?;
        }
        Ok((self.lab.judge().await?, self.lab))
    }

    /// The same, and whether everything ran, and only twice what may.
    pub(crate) async fn loses_nothing(self) -> Outcome {
        let all = self.size.backlog + self.size.more;
        let (findings, mut lab) = self.finish().await?;
        let suspects: Vec<_> = findings.doubled_without_fault.iter().chain(&findings.lost).take(2).copied().collect();
        let about = lab.entries()?.iter().filter(|entry| entry.job().is_none_or(|id| suspects.contains(&id)));
        let about = about.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        ensure!(findings.is_clean() && findings.ran == all, "{findings}\n{about}");
        Ok(Played::Done)
    }
}
