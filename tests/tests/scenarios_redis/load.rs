//! What most scenarios here have in common: a producer and two workers at work while the servers are hurt.

use std::time::Duration;

use goose_core::{JobId, Timestamp};
use goose_tests::Result;
use goose_tests::child::Process;
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE, PREFIX};
use goose_tests::ledger::{Entry, now};
use goose_tests::oracle::Findings;
use goose_tests::servers::{Servers, Setup};

/// The queue of the lab.
const QUEUE: &str = "default";

/// Jobs that are there before the producer begins, and keep the workers busy: what is hurt holds jobs that could be lost.
const BACKLOG: usize = 3_000;

/// How many jobs there are in all, with those of the producer.
pub(crate) const ALL: usize = BACKLOG + 6_000;

pub(crate) struct Load {
    pub(crate) lab: Lab,
    workers: Vec<Process>,
    producer: Option<Process>,
}

impl Load {
    /// Two workers, a backlog, and a producer that needs some seconds.
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let mut load = Self::idle(setup, &[("concurrency", 25)]).await?;
        load.enqueue(Task::Nap(Duration::from_millis(30)), BACKLOG).await?;
        let jobs = u64::try_from(ALL - BACKLOG)?;
        load.producer = Some(load.lab.producer(&[("jobs", jobs), ("batch", 20), ("pause-ms", 10)])?);
        Ok(load)
    }

    /// Two workers.
    pub(crate) async fn idle(setup: Setup, worker: &[(&str, u64)]) -> Result<Self> {
        let lab = Lab::on(setup)?;
        let workers = vec![lab.worker(worker).await?, lab.worker(worker).await?];
        Ok(Self { lab, workers, producer: None })
    }

    /// Enqueues the same job many times.
    pub(crate) async fn enqueue(&self, task: Task, count: usize) -> Result<()> {
        let client = self.lab.client().await?;
        let ids = client.perform_bulk(vec![Chore { task }; count]).await?.into_result()?;
        self.lab.ledger()?.record_all(&acknowledged(ids))?;
        Ok(client.broker().close().await?)
    }

    /// Waits until so many jobs have finished.
    pub(crate) async fn until_finished(&mut self, count: usize) -> Result<()> {
        let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
        self.lab.until(PATIENCE, &format!("{count} finished jobs"), |entries| finished(entries) >= count).await
    }

    /// Waits until the producer has been told of something that it is there, since then.
    pub(crate) async fn until_acknowledged(&mut self, since: Timestamp) -> Result<()> {
        let has =
            |entries: &[Entry]| entries.iter().any(|e| matches!(e, Entry::Acknowledged { at, .. } if *at >= since));
        self.lab.until(PATIENCE, "an acknowledged job", has).await
    }

    /// Waits until so many jobs have been started.
    pub(crate) async fn until_started(&mut self, count: usize) -> Result<()> {
        let started = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Started { .. })).count();
        self.lab.until(PATIENCE, &format!("{count} started jobs"), |entries| started(entries) >= count).await
    }

    /// The place among the servers of the one with the jobs.
    pub(crate) fn primary(&mut self) -> Result<usize> {
        Ok(self.lab.servers()?.primary_of(PREFIX, QUEUE).ok_or("there is no primary of the queue")?)
    }

    /// Waits until the replica of this primary has taken over.
    ///
    /// It is asked itself, in a cluster: one that hangs would hold up whoever asks all. With Sentinels it is they whom
    /// everybody asks, and who tell it a little later.
    pub(crate) async fn until_failed_over(&mut self, from: usize) -> Result<()> {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        let servers = self.lab.servers()?;
        let failing_over = async {
            loop {
                again.tick().await;
                let has_taken_over = match servers {
                    Servers::Standalone(_) => return Err("one server alone has no replica".into()),
                    Servers::Sentinel(watched) => watched.primary_port() == Some(watched.replica.port()),
                    Servers::Cluster(cluster) => {
                        let replica = &cluster.nodes[from + cluster.nodes.len() / 2];
                        replica.try_ask(&["ROLE"]).is_ok_and(|role| role.starts_with("master"))
                    }
                };
                if has_taken_over {
                    return Result::Ok(());
                }
            }
        };
        tokio::time::timeout(PATIENCE, failing_over).await.map_err(|_| "no other server took over")?
    }

    /// Waits until every worker has started a job since then; returns how long the slower one took.
    pub(crate) async fn went_on(&mut self, since: Timestamp, limit: Duration) -> Result<Duration> {
        let pids: Vec<u32> = self.workers.iter().map(Process::pid).collect();
        let first = |entries: &[Entry], worker: u32| {
            let starts = entries.iter().filter_map(|entry| match entry {
                Entry::Started { pid, at, .. } if *pid == worker && *at >= since => Some(*at),
                _ => None,
            });
            starts.min()
        };
        let all = |entries: &[Entry]| pids.iter().all(|pid| first(entries, *pid).is_some());
        self.lab.until(limit + PATIENCE, "every worker to start a job", all).await?;
        let entries = self.lab.entries()?;
        let latest = pids.iter().filter_map(|pid| first(entries, *pid)).max().unwrap_or(since);
        let took = latest.since(since);
        ensure!(took <= limit, "a worker went on only {took:?} after the broker was back, {limit:?} is the limit");
        Ok(took)
    }

    /// Waits until all is done that can be, stops the workers, and judges. Returns the most warnings of a worker, too.
    pub(crate) async fn finish(mut self) -> Result<(Findings, Lab, u64)> {
        if let Some(mut producer) = self.producer.take() {
            let status = producer.wait(PATIENCE).await?;
            ensure!(status.success(), "the producer ended with {status}");
        }
        self.lab.until_idle(PATIENCE).await?;
        let mut warnings = 0;
        for mut worker in self.workers.drain(..) {
            worker.ask_to_stop();
            let line = worker.line(PATIENCE).await?;
            let count = line.strip_prefix("warnings ").ok_or_else(|| format!("a worker said {line:?} at its end"))?;
            warnings = warnings.max(count.parse()?);
            worker.stop(PATIENCE).await?;
        }
        let findings = self.lab.judge().await?;
        Ok((findings, self.lab, warnings))
    }
}

/// When lost jobs had been acknowledged, the first first.
pub(crate) fn acknowledged_when(lab: &mut Lab, lost: &[JobId]) -> Result<Vec<Timestamp>> {
    let mut times: Vec<Timestamp> = lab
        .entries()?
        .iter()
        .filter_map(|entry| match entry {
            Entry::Acknowledged { id, at } if lost.contains(id) => Some(*at),
            _ => None,
        })
        .collect();
    times.sort_unstable();
    Ok(times)
}

/// A moment before now.
pub(crate) fn before(moment: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(moment.as_millis().saturating_sub(millis))
}

/// Hurts nothing for a while.
pub(crate) async fn for_a_while(time: Duration) -> Timestamp {
    tokio::time::sleep(time).await;
    now()
}
