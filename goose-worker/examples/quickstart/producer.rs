//! The process you start: it enqueues, has the jobs run by another process, and adds up.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_client::{Backoff, Client, JobId};
use goose_worker::broker::Broker;
use goose_worker::broker::capability::{QueueCounts, Totals, require};
use goose_worker::shutdown_signal;

use crate::Result;
use crate::files::Files;
use crate::jobs::{CountFile, Flaky, Hopeless, QUEUE};
use crate::options::Options;
use crate::place::Place;
use crate::progress::Progress;
use crate::summary::{self, Summary};
use crate::worker_process::WorkerProcess;

/// How many jobs go to the broker in one call.
const CHUNK: usize = 1000;
const FLAKY_JOBS: usize = 3;
/// Longer than a recovery takes. When nothing moves for this long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// The exit code of programs that were ended by ctrl-C; here also of those that were told to stop.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let place = Place::new(&options.queue)?;
    // Before anything is started: a folder that is not there is the most likely mistake.
    let files = Files::below(&options.dir, place.files_of_the_queue())?;
    let broker = place.address.open().await?;
    let mut run = Run {
        client: Client::builder(broker.clone()).default_queue(QUEUE).build()?,
        worker: WorkerProcess::start(&place)?,
        progress: Progress::new(),
        before: totals(&*broker).await?,
        hopeless: Vec::new(),
        broker,
        place,
    };
    let summary = tokio::select! {
        summary = run.work_off(files, options.crash) => Some(summary),
        () = shutdown_signal() => None,
    };
    run.progress.finish();
    let stopped = run.worker.stop();
    if matches!(summary, Some(Ok(_))) && run.place.is_on_a_server() {
        clear_up(&*run.broker, &run.hopeless).await?;
    }
    run.broker.close().await?;
    let Some(summary) = summary.transpose()? else {
        eprintln!("quickstart: interrupted; {}", run.place.what_is_left());
        return Ok(ExitCode::from(INTERRUPTED));
    };
    stopped?;
    println!("{summary}");
    if let Some(left) = run.place.what_stays() {
        println!("{left}");
    }
    Ok(if summary.all_accounted_for() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All that is needed from the first job to the last.
struct Run {
    place: Place,
    broker: Arc<dyn Broker>,
    client: Client,
    worker: WorkerProcess,
    progress: Progress,
    /// The broker's sums before us: the queue may have been used before.
    before: Totals,
    /// Jobs that are to die.
    hopeless: Vec<JobId>,
}

impl Run {
    async fn work_off(&mut self, files: Files, crash: bool) -> Result<Summary> {
        let started = Instant::now();
        let ids = self.enqueue(files).await?;
        if crash {
            self.wait_until(is_half_way, &ids).await?;
            self.replace_the_worker().await?;
        }
        self.wait_until(|counts, _| unfinished(counts) == 0, &ids).await?;
        let took = started.elapsed();
        summary::add_up(&ids, &self.place.results, &*self.broker, self.before, took).await
    }

    /// One job per file, in chunks, while the worker is already at work on those before; then a few that are trouble.
    async fn enqueue(&mut self, mut files: Files) -> Result<Vec<JobId>> {
        let mut ids = Vec::new();
        loop {
            let chunk: Vec<CountFile> = files.by_ref().take(CHUNK).map(|path| CountFile::new(&path)).collect();
            if chunk.is_empty() {
                break;
            }
            ids.extend(self.client.perform_bulk(chunk).await?.into_result()?);
            self.progress.show(0, count(&ids));
        }
        for place in files.unreadable() {
            self.progress.note(&format!("left out {place}"));
        }
        let short = Backoff::fixed(Duration::from_millis(200));
        for _ in 0..FLAKY_JOBS {
            ids.push(self.client.job(Flaky).backoff(short.clone()).retries(5).enqueue().await?);
        }
        self.hopeless.push(self.client.job(Hopeless).backoff(short).retries(2).enqueue().await?);
        ids.extend(&self.hopeless);
        self.progress.note(&format!(
            "{} files, one job each; and {FLAKY_JOBS} jobs that fail twice and 1 that always fails and dies, on purpose",
            ids.len() - FLAKY_JOBS - 1
        ));
        Ok(ids)
    }

    /// Looks at the queue again and again until it is as it should be.
    async fn wait_until(&mut self, is_reached: impl Fn(&QueueCounts, u64) -> bool, ids: &[JobId]) -> Result<()> {
        let total = count(ids);
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let (mut last_change, mut last_seen) = (Instant::now(), None);
        loop {
            look.tick().await;
            let counts = self.counts().await?;
            self.progress.show(total.saturating_sub(unfinished(&counts)), total);
            if is_reached(&counts, total) {
                return Ok(());
            }
            self.worker.expect_running()?;
            if last_seen.as_ref() != Some(&counts) {
                (last_change, last_seen) = (Instant::now(), Some(counts));
            } else if last_change.elapsed() > PATIENCE {
                return Err(format!("nothing has moved for {PATIENCE:?}: {counts:?}").into());
            }
        }
    }

    /// Kills the worker as the machine would, and starts another one. Nothing is told to the broker: it has to find
    /// out by itself that the claims of the first worker are worth nothing any more.
    async fn replace_the_worker(&mut self) -> Result<()> {
        let pid = self.worker.pid();
        // First of all: a moment later there may be nothing left in its hands.
        self.worker.kill()?;
        self.worker = WorkerProcess::start(&self.place)?;
        let in_hand = self.counts().await?.running;
        self.progress.note(&format!(
            "worker {pid} was killed with SIGKILL, with {in_hand} jobs in hand; worker {} takes over within 10 s",
            self.worker.pid()
        ));
        Ok(())
    }

    async fn counts(&self) -> Result<QueueCounts> {
        let statistics = require(&*self.broker, "statistics", self.broker.statistics())?;
        let ours = statistics.queues().await?.into_iter().find(|counts| counts.queue.as_str() == QUEUE);
        let mut ours = ours.ok_or_else(|| format!("the broker does not know the queue {QUEUE}"))?;
        if ours.scheduled.is_none() {
            // RabbitMQ only knows how many of all queues there are, and ours is the only one.
            let scheduled = require(&*self.broker, "scheduled jobs", self.broker.scheduled_jobs())?;
            ours.scheduled = Some(scheduled.size().await?);
        }
        Ok(ours)
    }
}

/// Removes the jobs that died, on purpose: on a server of yours each run would leave one more.
async fn clear_up(broker: &dyn Broker, hopeless: &[JobId]) -> Result<()> {
    let dead_jobs = require(broker, "dead jobs", broker.dead_jobs())?;
    for id in hopeless {
        dead_jobs.delete(*id).await?;
    }
    Ok(())
}

/// Half of the jobs are finished. Or, where there are few of them, all that is left are those that wait for a retry.
fn is_half_way(counts: &QueueCounts, total: u64) -> bool {
    let only_retries = counts.ready + counts.running == 0;
    unfinished(counts) * 2 <= total || only_retries
}

/// Jobs that are neither done nor dead.
fn unfinished(counts: &QueueCounts) -> u64 {
    counts.ready + counts.scheduled.unwrap_or(0) + counts.running
}

pub(crate) async fn totals(broker: &dyn Broker) -> Result<Totals> {
    Ok(require(broker, "statistics", broker.statistics())?.totals().await?)
}

fn count(ids: &[JobId]) -> u64 {
    u64::try_from(ids.len()).unwrap_or(u64::MAX)
}
