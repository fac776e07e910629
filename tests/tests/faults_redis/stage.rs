//! What scenarios share: a server behind a link, a job whose runs are counted, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use goose_client::{Client, Job};
use goose_core::broker::Broker;
use goose_core::broker::capability::require;
use goose_core::{ErrorKind, JobArgs, JobId, QueueName};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Proxy, Server};
use goose_tests::Result;
use goose_worker::{Context, Worker, WorkerBuilder};
use serde::{Deserialize, Serialize};

use crate::ensure;

/// For what should take no time at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server of one's own and a link to it.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) link: Proxy,
    pub(crate) runs: Runs,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Server::start())
    }

    pub(crate) fn with(server: Server) -> Self {
        let link = Proxy::to(server.port());
        Self { server, link, runs: Runs::default() }
    }

    /// Through the link.
    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::new(self.link.url())
    }

    /// Through the link.
    pub(crate) async fn broker(&self) -> Result<RedisBroker> {
        Ok(self.options().open().await?)
    }

    /// Straight to the server.
    pub(crate) async fn beside(&self) -> Result<RedisBroker> {
        Ok(RedisBroker::connect(&self.server.url()).await?)
    }

    /// A worker for chores whose runs are counted.
    pub(crate) fn worker(&self, broker: &RedisBroker) -> WorkerBuilder {
        Worker::builder(broker.clone()).state(self.runs.clone()).handle(work)
    }

    /// All of these have run.
    pub(crate) async fn have_run(&self, limit: Duration, ids: &[JobId]) -> Result<()> {
        let runs = &self.runs;
        until(limit, "all jobs have run", async || Ok(runs.missing(ids) == 0)).await.map_err(|error| {
            let missing = runs.missing(ids);
            format!("{error}; {missing} of {} have not", ids.len()).into()
        })
    }
}

/// A job that takes its time and has a size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Chore {
    pub(crate) nap_ms: u64,
    pub(crate) padding: String,
}

impl JobArgs for Chore {
    const NAME: &'static str = "faults/chore";
}

impl Chore {
    pub(crate) fn nap(nap: Duration) -> Self {
        Self { nap_ms: u64::try_from(nap.as_millis()).unwrap_or(u64::MAX), ..Self::default() }
    }

    pub(crate) fn of_size(bytes: usize) -> Self {
        Self { padding: "x".repeat(bytes), ..Self::default() }
    }
}

pub(crate) async fn work(chore: Chore, cx: Context) -> Result<()> {
    let runs = cx.state::<Runs>()?;
    runs.note(cx.job_id());
    if cx.recoveries() > 0 {
        runs.lock().recovered.insert(cx.job_id());
    }
    if chore.nap_ms > 0 {
        tokio::time::sleep(Duration::from_millis(chore.nap_ms)).await;
    }
    runs.lock().ended += 1;
    Ok(())
}

/// Which jobs ran, and how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    begun: BTreeMap<JobId, Vec<Instant>>,
    recovered: BTreeSet<JobId>,
    ended: usize,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins.
    pub(crate) fn note(&self, id: JobId) {
        self.lock().begun.entry(id).or_default().push(Instant::now());
    }

    /// How many different jobs have begun.
    pub(crate) fn count(&self) -> usize {
        self.lock().begun.len()
    }

    /// How many runs came to their end.
    pub(crate) fn ended(&self) -> usize {
        self.lock().ended
    }

    /// How often a job has begun.
    pub(crate) fn of(&self, id: JobId) -> usize {
        self.lock().begun.get(&id).map_or(0, Vec::len)
    }

    /// When a job first began.
    pub(crate) fn first(&self, id: JobId) -> Option<Instant> {
        self.lock().begun.get(&id).and_then(|times| times.first()).copied()
    }

    /// When each job first began, the first one first.
    pub(crate) fn firsts(&self) -> Vec<Instant> {
        let mut firsts: Vec<Instant> = self.lock().begun.values().filter_map(|times| times.first()).copied().collect();
        firsts.sort();
        firsts
    }

    /// How long it was between the first two runs of a job.
    pub(crate) fn between(&self, id: JobId) -> Option<Duration> {
        let log = self.lock();
        let times = log.begun.get(&id)?;
        Some(*times.get(1)? - *times.first()?)
    }

    pub(crate) fn missing(&self, ids: &[JobId]) -> usize {
        let log = self.lock();
        ids.iter().filter(|id| !log.begun.contains_key(id)).count()
    }

    /// The jobs that ran more than once.
    pub(crate) fn doubles(&self) -> BTreeSet<JobId> {
        self.lock().begun.iter().filter(|(_, times)| times.len() > 1).map(|(id, _)| *id).collect()
    }

    /// How many jobs were taken from a session that was held for dead.
    pub(crate) fn recovered(&self) -> usize {
        self.lock().recovered.len()
    }
}

/// Waits for a condition.
pub(crate) async fn until(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        if holds().await? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nothing is claimed, nothing is left, and all counts agree.
pub(crate) async fn all_done(broker: &RedisBroker) -> Result<()> {
    let statistics = require(broker, "statistics", broker.statistics())?;
    let mut last = String::new();
    let done = until(PATIENCE, "nothing is left", async || {
        let queues = statistics.queues().await?;
        last = format!("{queues:?}");
        Ok(queues.iter().all(|counts| {
            let scheduled = counts.scheduled.unwrap_or(0);
            counts.ready + scheduled + counts.running + counts.dead == 0
        }))
    });
    if let Err(error) = done.await {
        return Err(format!("{error}: {last}").into());
    }
    in_order(broker).await
}

/// All counts agree.
pub(crate) async fn in_order(broker: &RedisBroker) -> Result<()> {
    let complaints = broker.check_consistency().await?;
    ensure!(complaints.is_empty(), "the queues contradict themselves: {complaints:?}");
    Ok(())
}

/// How many jobs are in line in the default queue.
pub(crate) async fn ready(broker: &RedisBroker) -> Result<u64> {
    let enqueued = require(broker, "enqueued jobs", broker.enqueued_jobs())?;
    Ok(enqueued.size(&QueueName::default()).await?)
}

/// How many jobs were taken from dead sessions, as the server counts.
pub(crate) async fn recovered(broker: &RedisBroker) -> Result<u64> {
    Ok(require(broker, "statistics", broker.statistics())?.totals().await?.recovered)
}

/// Enqueues without a pause until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    producers: Vec<tokio::task::JoinHandle<Result<Taken>>>,
}

/// What producers know in the end.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Those that were acknowledged.
    pub(crate) ids: Vec<JobId>,
    /// Those that had to be enqueued again because the outcome was unknown.
    pub(crate) repeated: BTreeSet<JobId>,
    /// How often an enqueue failed without having done anything.
    pub(crate) refusals: usize,
    /// How long the slowest took, repetitions included.
    pub(crate) slowest: Duration,
}

impl Load {
    /// From so many producers, each with a pause between its enqueues.
    pub(crate) fn start(broker: &RedisBroker, producers: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let produce = || tokio::spawn(produce(Client::new(broker.clone()), Arc::clone(&stop), pause));
        Self { producers: (0..producers).map(|_| produce()).collect(), stop }
    }

    /// Ends it; every job that was begun is acknowledged then.
    pub(crate) async fn stop(self) -> Result<Taken> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Taken::default();
        for producer in self.producers {
            let taken = producer.await??;
            all.ids.extend(taken.ids);
            all.repeated.extend(taken.repeated);
            all.refusals += taken.refusals;
            all.slowest = all.slowest.max(taken.slowest);
        }
        Ok(all)
    }
}

async fn produce(client: Client, stop: Arc<AtomicBool>, pause: Duration) -> Result<Taken> {
    let mut taken = Taken::default();
    while !stop.load(Ordering::Relaxed) {
        let job = client.job(Chore::default()).build()?;
        let begun = Instant::now();
        put(&client, job, &mut taken).await?;
        taken.slowest = taken.slowest.max(begun.elapsed());
        tokio::time::sleep(pause).await;
    }
    Ok(taken)
}

/// Enqueues one job, again and again where that is allowed.
pub(crate) async fn put(client: &Client, job: Job, taken: &mut Taken) -> Result<()> {
    let id = job.id;
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        match client.enqueue_jobs(vec![job.clone()]).await?.into_result() {
            Ok(_) => {
                taken.ids.push(id);
                return Ok(());
            }
            Err(error) if error.is_retryable() && Instant::now() < end => {
                if error.kind() == ErrorKind::OutcomeUnknown {
                    taken.repeated.insert(id);
                } else {
                    taken.refusals += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
