//! The engine over the embedded broker: the main paths of a job, as a user of this crate takes them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what these helpers meet is the test's failure")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use goose_sqlite::SqliteBroker;
use goose_worker::broker::{Broker, DeathCause};
use goose_worker::{
    Backoff, Client, Context, Error, ErrorKind, Event, JobArgs, Observer, Outcome, Pool, QueueName, Worker,
    WorkerBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize, Deserialize)]
struct Count {
    n: u32,
}
impl JobArgs for Count {
    const NAME: &'static str = "count";
}

/// Lets one permit through per event of a kind.
#[derive(Debug)]
struct Seen {
    event: &'static str,
    times: Semaphore,
}

impl Seen {
    fn new(event: &'static str) -> Arc<Self> {
        Arc::new(Self { event, times: Semaphore::new(0) })
    }

    async fn wait(&self, times: u32) {
        let seen = timeout(LIMIT, self.times.acquire_many(times)).await;
        seen.unwrap_or_else(|_| panic!("waited in vain for {times} × {}", self.event)).unwrap().forget();
    }
}

impl Observer for Seen {
    fn observe(&self, event: &Event<'_>) {
        if event.name() == self.event {
            self.times.add_permits(1);
        }
    }
}

async fn setup() -> (SqliteBroker, Client) {
    let broker = SqliteBroker::in_memory().await.unwrap();
    (broker.clone(), Client::new(broker))
}

fn worker(broker: &SqliteBroker) -> WorkerBuilder {
    Worker::builder(broker.clone())
}

#[tokio::test]
async fn a_thousand_jobs_run_once_each() {
    let (broker, client) = setup().await;
    let report = client.perform_bulk((0..1000).map(|n| Count { n })).await.unwrap();
    assert_eq!(report.into_result().unwrap().len(), 1000);
    let (sum, done) = (Arc::new(AtomicU32::new(0)), Seen::new("succeeded"));
    let total = Arc::clone(&sum);
    let handler = move |count: Count| {
        total.fetch_add(count.n, Ordering::SeqCst);
        async {}
    };
    let worker = worker(&broker).observer(Arc::clone(&done)).handle(handler).start().await.unwrap();
    done.wait(1000).await;
    worker.stop().await.unwrap();
    assert_eq!(sum.load(Ordering::SeqCst), 999 * 1000 / 2);
    let totals = broker.statistics().unwrap().totals().await.unwrap();
    assert_eq!((totals.enqueued, totals.succeeded, totals.failed), (1000, 1000, 0));
}

#[tokio::test]
async fn failures_are_retried_in_the_retry_queue_and_then_dead_with_their_history() {
    let (broker, client) = setup().await;
    let policy = |n| client.job(Count { n }).retries(2).backoff(Backoff::fixed(Duration::ZERO)).retry_queue("again");
    let (flaky, hopeless) = (policy(1).enqueue().await.unwrap(), policy(2).enqueue().await.unwrap());
    let handler = |count: Count, cx: Context| async move {
        match (count.n, cx.attempt()) {
            (1, 3) => Ok(()),
            (n, attempt) => Err(format!("job {n}, attempt {attempt}")),
        }
    };
    let (succeeded, died) = (Seen::new("succeeded"), Seen::new("died"));
    let worker = worker(&broker)
        .queue("default")
        .queue("again")
        .observer(Arc::clone(&succeeded))
        .observer(Arc::clone(&died))
        .handle(handler)
        .start()
        .await
        .unwrap();
    succeeded.wait(1).await;
    died.wait(1).await;
    worker.stop().await.unwrap();

    let dead_jobs = broker.dead_jobs().unwrap();
    assert!(dead_jobs.find_by_id(flaky).await.unwrap().is_none());
    let dead = dead_jobs.find_by_id(hopeless).await.unwrap().unwrap();
    assert_eq!((dead.reason.cause, dead.reason.detail.as_str()), (DeathCause::RetriesExhausted, "job 2, attempt 3"));
    let attempts = &dead.job().unwrap().attempts;
    let history: Vec<_> = attempts.failures.iter().map(|failure| (failure.attempt, failure.error.as_str())).collect();
    assert_eq!(history, [(1, "job 2, attempt 1"), (2, "job 2, attempt 2"), (3, "job 2, attempt 3")]);
    assert!(attempts.last_retried_at.is_some() && attempts.first_failed_at.is_some());
}

#[tokio::test]
async fn a_drain_runs_what_is_ready_and_says_what_happened() {
    let (broker, client) = setup().await;
    assert!(client.perform_bulk((0..5).map(|n| Count { n })).await.unwrap().is_complete());
    client.perform_in(SECOND * 3600, Count { n: 9 }).await.unwrap();
    let handler = |count: Count, cx: Context| async move {
        Ok::<_, Error>(match count.n {
            0 => {
                cx.client().perform_async(Count { n: 4 }).await?;
                Outcome::Done
            }
            1 => Outcome::Snooze(SECOND * 3600),
            2 => Outcome::Discard("stale".to_owned()),
            3 => Outcome::retry("not today"),
            _ => Outcome::Done,
        })
    };
    let drained = worker(&broker).handle(handler).drain().await.unwrap();
    assert_eq!((drained.succeeded, drained.snoozed, drained.discarded), (3, 1, 1));
    assert_eq!((drained.failed, drained.retried, drained.died), (1, 1, 0));
    assert_eq!(broker.scheduled_jobs().unwrap().size().await.unwrap(), 3);
}

#[tokio::test]
async fn a_due_job_wakes_an_idle_worker() {
    let (broker, client) = setup().await;
    let done = Seen::new("succeeded");
    let worker = worker(&broker).observer(Arc::clone(&done)).handle(|_: Count| async {}).start().await.unwrap();
    let start = Instant::now();
    client.perform_in(Duration::from_millis(150), Count { n: 1 }).await.unwrap();
    done.wait(1).await;
    // The broker counts whole milliseconds, so it may be one early by a finer clock.
    assert!(start.elapsed() >= Duration::from_millis(149), "{:?}", start.elapsed());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let (broker, client) = setup().await;
    let done = Seen::new("succeeded");
    let worker = worker(&broker).observer(Arc::clone(&done)).handle(|_: Count| async {}).start().await.unwrap();
    client.perform_async(Count { n: 1 }).await.unwrap();
    done.wait(1).await;
    let start = Instant::now();
    worker.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stop_hands_back_what_did_not_end_in_time_and_another_worker_runs_it() {
    let (broker, client) = setup().await;
    let ids = client.perform_bulk((0..20).map(|n| Count { n })).await.unwrap().into_result().unwrap();
    let started = Seen::new("started");
    let first = worker(&broker)
        .concurrency(4)
        .grace_period(Duration::from_millis(10))
        .observer(Arc::clone(&started))
        .handle(|_: Count| std::future::pending::<()>())
        .start()
        .await
        .unwrap();
    started.wait(4).await;
    first.stop().await.unwrap();
    let enqueued = broker.enqueued_jobs().unwrap();
    assert_eq!(enqueued.size(&QueueName::default()).await.unwrap(), 20);
    let job = enqueued.find_by_id(ids[0]).await.unwrap().unwrap();
    assert_eq!((job.attempts.retry_count, job.attempts.failures.len()), (0, 0));

    let drained = worker(&broker).handle(|_: Count| async {}).drain().await.unwrap();
    assert_eq!(drained.succeeded, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_every_thread_are_seen_from_another_and_keep_their_claims() {
    let (broker, client) = setup().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (release, released) = channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (done, counted) = (Seen::new("succeeded"), Arc::clone(&runs));
    let handler = move |_: Count| {
        counted.fetch_add(1, Ordering::SeqCst);
        // One waits for the channel, the others for the one that does.
        let _ = released.lock().unwrap().recv_timeout(LIMIT);
        async {}
    };
    let worker = Arc::new(worker(&broker).observer(Arc::clone(&done)).handle(handler).start().await.unwrap());
    assert!(worker.health().is_healthy());

    let watched = Arc::clone(&worker);
    let watcher = std::thread::spawn(move || {
        let deadline = Instant::now() + LIMIT;
        let runtime_stalled =
            || watched.health().stalled().any(|stalled| stalled.health.name == "runtime" && stalled.pool.is_none());
        let mut seen = false;
        while !seen && Instant::now() < deadline {
            seen = runtime_stalled();
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let broker_is_well = watched.health().stalled().all(|stalled| stalled.health.name != "heartbeat");
        drop(release);
        seen && broker_is_well
    });
    assert!(client.perform_bulk((0..4).map(|n| Count { n })).await.unwrap().is_complete());
    done.wait(4).await;
    assert!(tokio::task::spawn_blocking(move || watcher.join().unwrap()).await.unwrap());
    worker.stop().await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn weighted_pools_share_and_a_pool_of_one_runs_one_at_a_time() {
    let (broker, client) = setup().await;
    for n in 0..30 {
        for queue in ["a", "b", "alone"] {
            client.job(Count { n }).queue(queue).enqueue().await.unwrap();
        }
    }
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let widest = Arc::clone(&most);
    let handler = move |_: Count, cx: Context| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        async move {
            if cx.job().queue.as_str() == "alone" {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    let drained = worker(&broker)
        .pool(Pool::weighted([("a", 3), ("b", 1)]).concurrency(4))
        .pool(Pool::queue("alone").concurrency(1))
        .handle(handler)
        .drain()
        .await
        .unwrap();
    assert_eq!((drained.succeeded, widest.load(Ordering::SeqCst)), (90, 1));
}

#[tokio::test]
async fn a_closed_broker_is_a_failing_loop_and_not_the_workers_end() {
    let (broker, _client) = setup().await;
    let worker = worker(&broker).handle(|_: Count| async {}).start().await.unwrap();
    broker.close().await.unwrap();
    let deadline = Instant::now() + LIMIT;
    let poller = loop {
        let health = worker.health();
        let poller = health.loops.into_iter().find(|each| each.health.name == "poller").unwrap().health;
        if poller.restarts > 1 {
            break poller;
        }
        assert!(Instant::now() < deadline, "the poller should have met the closed broker: {poller:?}");
        tokio::task::yield_now().await;
    };
    assert!(poller.last_error.is_some());
    // It ends, whatever the closed broker says about that.
    let _ = timeout(LIMIT, worker.stop()).await.unwrap();
    let error = Client::new(broker).perform_async(Count { n: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
