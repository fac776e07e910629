//! What is measured.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::broker::Broker;
use goose_worker::{Pool, Worker};

use crate::Result;
use crate::broker::open;
use crate::jobs::{Counter, NoOp, Timed};
use crate::options::Options;
use crate::probe::Probe;
use crate::report::{Figure, Report};

pub(crate) async fn run(options: &Options) -> Result<()> {
    let opened = open(options).await?;
    let report = Report { broker: options.broker.clone(), json: options.json };
    let probe = match &opened.probe_url {
        Some(url) => Some(Probe::connect(url).await?),
        None => None,
    };
    report.head();
    let jobs = options.jobs;
    let broker = &opened.broker;

    for callers in [1, 25, 100] {
        let n = if callers == 1 { jobs / 20 } else { jobs };
        let value = enqueue_by_callers(broker, callers, n).await?;
        let raw = match &probe {
            Some(probe) => Some(probe.enqueue(callers, 1, n).await?),
            None => None,
        };
        report.say(&Figure { scenario: "enqueue, many callers", in_flight: callers, value, unit: "jobs/s", raw });
        purge(broker).await?;
    }
    for in_flight in [25, 100, 1000] {
        let value = bulk(broker, jobs).await?;
        if in_flight == 25 {
            let raw = match &probe {
                Some(probe) => Some(probe.enqueue(2, 300, jobs).await?),
                None => None,
            };
            report.say(&Figure { scenario: "enqueue, bulk", in_flight: 0, value, unit: "jobs/s", raw });
        }
        let value = drain(broker, in_flight, jobs).await?;
        let raw = match &probe {
            Some(probe) => Some(probe.drain(in_flight, jobs).await?),
            None => None,
        };
        report.say(&Figure { scenario: "drain", in_flight, value, unit: "jobs/s", raw });
    }
    let latencies = idle_latency(broker).await?;
    report.say(&Figure { scenario: "idle latency p50", in_flight: 1, value: latencies.0, unit: "ms", raw: None });
    report.say(&Figure { scenario: "idle latency p99", in_flight: 1, value: latencies.1, unit: "ms", raw: None });
    let lateness = scheduled_lateness(broker).await?;
    report.say(&Figure { scenario: "scheduled lateness p50", in_flight: 25, value: lateness.0, unit: "ms", raw: None });
    report.say(&Figure { scenario: "scheduled lateness p99", in_flight: 25, value: lateness.1, unit: "ms", raw: None });
    broker.close().await?;
    Ok(())
}

fn rate(jobs: u32, began: Instant) -> f64 {
    f64::from(jobs) / began.elapsed().as_secs_f64()
}

async fn purge(broker: &Arc<dyn Broker>) -> Result<()> {
    if let Some(enqueued) = broker.enqueued_jobs() {
        for queue in enqueued.queues().await? {
            enqueued.purge(&queue).await?;
        }
    }
    Ok(())
}

async fn enqueue_by_callers(broker: &Arc<dyn Broker>, callers: u32, jobs: u32) -> Result<f64> {
    let client = Client::new(Arc::clone(broker));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..jobs / callers {
                client.perform_async(NoOp::new()).await?;
            }
            Ok::<(), goose_core::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(rate(jobs, began))
}

async fn bulk(broker: &Arc<dyn Broker>, jobs: u32) -> Result<f64> {
    let client = Client::new(Arc::clone(broker));
    let began = Instant::now();
    let report = client.perform_bulk((0..jobs).map(|_| NoOp::new())).await?;
    if !report.is_complete() {
        return Err("a bulk enqueue failed in part".into());
    }
    Ok(rate(jobs, began))
}

async fn drain(broker: &Arc<dyn Broker>, in_flight: u32, jobs: u32) -> Result<f64> {
    let counter = Counter::default();
    let counts = counter.clone();
    let handler = move |_: NoOp| {
        counts.add();
        std::future::ready(())
    };
    let width = usize::try_from(in_flight)?;
    // In flight: running and prefetched together.
    let pool = Pool::queue("default").concurrency(width.div_ceil(2)).prefetch(width / 2);
    let began = Instant::now();
    let worker = Worker::builder(Arc::clone(broker)).pool(pool).handle(handler).start().await?;
    counter.reaches(jobs.into()).await;
    let rate = rate(jobs, began);
    worker.stop().await?;
    Ok(rate)
}

/// Milliseconds between being due and being started, p50 and p99.
async fn measure(
    broker: &Arc<dyn Broker>,
    jobs: usize,
    enqueue: impl AsyncFn(&Client, Instant) -> Result<()>,
) -> Result<(f64, f64)> {
    let origin = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let counter = Counter::default();
    let (record, counts) = (Arc::clone(&times), counter.clone());
    let handler = move |job: Timed| {
        let late = origin.elapsed().saturating_sub(Duration::from_micros(job.due));
        if let Ok(mut times) = record.lock() {
            times.push(late.as_secs_f64() * 1000.0);
        }
        counts.add();
        std::future::ready(())
    };
    let worker = Worker::builder(Arc::clone(broker)).concurrency(25).handle(handler).start().await?;
    let client = Client::new(Arc::clone(broker));
    enqueue(&client, origin).await?;
    counter.reaches(u64::try_from(jobs)?).await;
    worker.stop().await?;
    let mut times = times.lock().map_err(|_| "a handler panicked")?.clone();
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn micros(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn idle_latency(broker: &Arc<dyn Broker>) -> Result<(f64, f64)> {
    measure(broker, 300, async |client, origin| {
        let mut every = tokio::time::interval(Duration::from_millis(10));
        for _ in 0..300 {
            every.tick().await;
            client.perform_async(Timed { due: micros(origin) }).await?;
        }
        Ok(())
    })
    .await
}

async fn scheduled_lateness(broker: &Arc<dyn Broker>) -> Result<(f64, f64)> {
    measure(broker, 500, async |client, origin| {
        for n in 0..500 {
            let delay = Duration::from_millis(500 + n * 5);
            let due = micros(origin) + u64::try_from(delay.as_micros())?;
            client.perform_in(delay, Timed { due }).await?;
        }
        Ok(())
    })
    .await
}
