//! How long jobs wait for an idle worker.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::BoxFuture;
use goose_core::broker::Broker;
use goose_worker::Worker;

use crate::Result;
use crate::jobs::{Counter, Timed};

/// Milliseconds, p50 and p99.
type Percentiles = (f64, f64);

/// Takes one measurement.
type Measure = fn(&Arc<dyn Broker>) -> BoxFuture<'_, Result<Percentiles>>;

/// Enqueue to start on an idle worker, and how late scheduled jobs start.
pub(crate) const ALL: [(&str, Measure); 2] =
    [("idle latency", |broker| Box::pin(idle(broker))), ("scheduled lateness", |broker| Box::pin(scheduled(broker)))];

/// Between being due and being started.
async fn measure(
    broker: &Arc<dyn Broker>,
    jobs: usize,
    enqueue: impl AsyncFn(&Client, Instant) -> Result<()>,
) -> Result<Percentiles> {
    let origin = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    let counter = Counter::up_to(u64::try_from(jobs)?);
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
    counter.is_full().await;
    worker.stop().await?;
    let mut times = times.lock().map_err(|_| "a handler panicked")?.clone();
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn micros(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// One job every 10 ms.
async fn idle(broker: &Arc<dyn Broker>) -> Result<Percentiles> {
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

/// One job due every 5 ms.
async fn scheduled(broker: &Arc<dyn Broker>) -> Result<Percentiles> {
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
