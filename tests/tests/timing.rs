//! What is promised in milliseconds, and in shares of a processor. One at a time, so that none disturbs another.

#![expect(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::JobArgs;
use goose_sqlite::SqliteBroker;
use goose_tests::brokers::Kind;
use goose_tests::chore::{Chore, Task};
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::{Entry, now};
use goose_worker::{Context, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

/// Held by whoever measures.
static QUIET: Mutex<()> = Mutex::const_new(());

/// How often a figure that a busy machine can spoil is taken before it counts.
const TRIES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Wait(u64);

impl JobArgs for Wait {
    const NAME: &'static str = "timing/wait";
}

/// From the first start to the last end of ten jobs of 50 ms, five at a time.
async fn five_wide() -> Duration {
    let broker = SqliteBroker::in_memory().await.unwrap();
    Client::new(broker.clone()).perform_bulk((0..10).map(|_| Wait(50))).await.unwrap().into_result().unwrap();
    let (sender, mut ends) = mpsc::unbounded_channel();
    let handler = move |Wait(millis), _: Context| {
        let sender = sender.clone();
        async move {
            let started = Instant::now();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            sender.send((started, Instant::now())).unwrap();
        }
    };
    let worker = Worker::builder(broker).concurrency(5).handle(handler).start().await.unwrap();
    let mut runs = Vec::new();
    while runs.len() < 10 {
        runs.push(tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap().unwrap());
    }
    worker.stop().await.unwrap();
    let first = runs.iter().map(|(started, _)| *started).min().unwrap();
    let last = runs.iter().map(|(_, ended)| *ended).max().unwrap();
    last - first
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_jobs_of_50_ms_five_wide_take_about_110_ms() {
    let _quiet = QUIET.lock().await;
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let took = five_wide().await;
        assert!(took >= Duration::from_millis(100), "more than five at a time: {took:?}");
        best = best.min(took);
    }
    eprintln!("ten jobs of 50 ms, five wide: {best:.1?}");
    assert!(best <= Duration::from_millis(130), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_stops_at_once() {
    let _quiet = QUIET.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let broker = SqliteBroker::open(folder.path().join("jobs.db")).await.unwrap();
        let worker = Worker::builder(broker).handle(|_: Wait, _: Context| async {}).start().await.unwrap();
        let asked = Instant::now();
        worker.stop().await.unwrap();
        best = best.min(asked.elapsed());
    }
    eprintln!("an idle worker stopped after {best:.1?}");
    assert!(best < Duration::from_millis(100), "{best:?}");
}

/// Processor time the threads of a process have used, to the nanosecond: `/proc/PID/stat` counts in steps of 10 ms, which
/// is too coarse to tell less from more here.
fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = threads.map(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        stat.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[tokio::test]
async fn an_idle_worker_uses_less_than_half_a_percent_of_a_core() {
    const WATCHED: Duration = Duration::from_secs(8);
    let _quiet = QUIET.lock().await;
    let lab = Lab::new(Kind::Sqlite).unwrap();
    let worker = lab.worker(&[]).await.unwrap();
    // Something to wait for, far away.
    let client = lab.client().await.unwrap();
    client.perform_in(Duration::from_secs(3_600), Chore { task: Task::Nothing }).await.unwrap();
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let before = processor_time(worker.pid());
        tokio::time::sleep(WATCHED).await;
        let used = processor_time(worker.pid()).saturating_sub(before);
        let share = used.as_secs_f64() / WATCHED.as_secs_f64();
        eprintln!("an idle worker used {used:?} in {WATCHED:?}: {:.2} % of a core", share * 100.0);
        best = best.min(share);
        if best < 0.005 {
            break;
        }
    }
    assert!(best < 0.005, "{:.2} % of a core", best * 100.0);
    worker.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn another_process_starts_a_job_within_20_ms() {
    const JOBS: usize = 200;
    let _quiet = QUIET.lock().await;
    let mut lab = Lab::new(Kind::Sqlite).unwrap();
    let worker = lab.worker(&[]).await.unwrap();
    let client = Arc::new(lab.client().await.unwrap());
    let mut waits = Vec::new();
    for n in 1..=JOBS {
        client.perform_async(Chore { task: Task::Nothing }).await.unwrap();
        let enqueued = now();
        let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
        lab.until(PATIENCE, "the job to run", |entries| finished(entries) == n).await.unwrap();
        let started = lab.entries().unwrap().iter().rev().find_map(|entry| match entry {
            Entry::Started { at, .. } => Some(*at),
            _ => None,
        });
        waits.push(started.unwrap().since(enqueued));
    }
    worker.stop(PATIENCE).await.unwrap();
    waits.sort_unstable();
    let (p50, p99) = (waits[JOBS / 2], waits[JOBS * 99 / 100]);
    eprintln!("from enqueue to start in another process: p50 {p50:?}, p99 {p99:?}, max {:?}", waits[JOBS - 1]);
    assert!(p50 <= Duration::from_millis(20), "p50 {p50:?}");
    assert!(p99 <= Duration::from_millis(100), "p99 {p99:?}");
}
