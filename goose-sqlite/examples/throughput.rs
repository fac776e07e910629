//! How fast the embedded broker is on this machine: enqueue by many callers, bulk enqueue, and drain, each
//! through the public API, in jobs per second.
//!
//! `cargo run --release -p goose-sqlite --example throughput [-- FOLDER]`

#![allow(clippy::print_stdout, reason = "an example speaks to people")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use goose_core::broker::{Broker, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_core::{Job, JobName, Payload, QueueName, Result};
use goose_sqlite::{SqliteBroker, SqliteOptions, Synchronous};

const JOBS: usize = 100_000;

fn job() -> Result<Job> {
    Ok(Job::new(JobName::new("no-op")?, QueueName::default(), Payload::message_pack(vec![7; 120])))
}

fn jobs(n: usize) -> Result<Vec<Job>> {
    (0..n).map(|_| job()).collect()
}

fn report(what: &str, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what:40} {:>9.0} jobs/s", f64::from(u32::try_from(JOBS).unwrap_or(u32::MAX)) / seconds);
}

async fn enqueue_by_callers(broker: &SqliteBroker, callers: usize) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let broker = broker.clone();
        tasks.spawn(async move {
            // Each job is made when it is enqueued, so that ids rise over all callers as they do in programs.
            for _ in 0..JOBS / callers {
                broker.enqueue(vec![job()?]).await?;
            }
            Ok::<(), goose_core::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| goose_core::Error::new(goose_core::ErrorKind::Internal, "task").with_source(error))??;
    }
    Ok(())
}

async fn drain(broker: &SqliteBroker, batch: usize) -> Result<()> {
    let consumer = broker.consume(ConsumerOptions::new(QueueSet::one(QueueName::default()), batch)).await?;
    let mut left = JOBS;
    while left > 0 {
        let batch = consumer.fetch(batch).await?;
        left -= batch.len();
        let ends: Vec<_> = batch.iter().map(|job| Settlement::new(job.receipt, Verdict::Done)).collect();
        for end in consumer.settle(&ends).await {
            end.map_err(|error| goose_core::Error::new(goose_core::ErrorKind::Internal, "settle").with_source(error))?;
        }
    }
    consumer.stop().await
}

async fn wake_up(broker: &SqliteBroker) -> Result<()> {
    let consumer = broker.consume(ConsumerOptions::new(QueueSet::one(QueueName::default()), 1)).await?;
    let mut times: Vec<Duration> = Vec::new();
    for job in jobs(500)? {
        let began = Instant::now();
        let (fetched, _) = tokio::join!(consumer.fetch(1), async {
            tokio::task::yield_now().await;
            broker.enqueue(vec![job]).await
        });
        times.push(began.elapsed());
        let ends: Vec<_> = fetched?.iter().map(|job| Settlement::new(job.receipt, Verdict::Done)).collect();
        consumer.settle(&ends).await;
    }
    times.sort();
    println!("{:40} {:?} / {:?}", "enqueue to fetched, p50 / p99", times[250], times[495]);
    consumer.stop().await
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        println!("--- synchronous = {synchronous:?}");
        let file = folder.join(format!("goose-throughput-{}.db", std::process::id()));
        let broker = SqliteOptions::new(&file).synchronous(synchronous).open().await?;
        for callers in [1, 25, 100] {
            let began = Instant::now();
            enqueue_by_callers(&broker, callers).await?;
            report(&format!("enqueue, {callers} callers"), began);
            let began = Instant::now();
            drain(&broker, callers.max(10)).await?;
            report(&format!("fetch and settle by {}", callers.max(10)), began);
        }
        let began = Instant::now();
        broker.enqueue(jobs(JOBS)?).await?;
        report("enqueue in bulk", began);
        let began = Instant::now();
        drain(&broker, 500).await?;
        report("fetch and settle by 500", began);
        wake_up(&broker).await?;
        broker.close().await?;
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
        }
    }
    Ok(())
}
