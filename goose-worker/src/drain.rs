//! Runs everything that is ready and then ends: the worker of tests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::broker::capability::{Statistics, require};
use goose_core::{Event, Observer, QueueName, Result};
use tokio::time::Instant;

use crate::Worker;
use crate::engine::{Engine, Plan};

/// Nothing must have happened for this long. A due job may still be on its way into its queue.
const QUIET: Duration = Duration::from_millis(50);
/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What [`WorkerBuilder::drain`](crate::WorkerBuilder::drain) has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed, whatever came after that.
    pub failed: u64,
    /// Failed jobs that wait for another attempt.
    pub retried: u64,
    /// Jobs that died.
    pub died: u64,
    /// Jobs that put themselves off.
    pub snoozed: u64,
    /// Jobs that said they were no longer worth doing.
    pub discarded: u64,
    /// Jobs that were too old to start.
    pub expired: u64,
    /// Jobs that have no handler here.
    pub parked: u64,
}

/// Counts events.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    died: AtomicU64,
    snoozed: AtomicU64,
    discarded: AtomicU64,
    expired: AtomicU64,
    parked: AtomicU64,
    /// Events of any kind, to see whether something has happened.
    all: AtomicU64,
}

impl Observer for Counts {
    fn observe(&self, event: &Event<'_>) {
        let counter = match event {
            Event::Succeeded { .. } => Some(&self.succeeded),
            Event::Failed { .. } => Some(&self.failed),
            Event::Retried { .. } => Some(&self.retried),
            Event::Died { .. } => Some(&self.died),
            Event::Snoozed { .. } => Some(&self.snoozed),
            Event::Discarded { .. } => Some(&self.discarded),
            Event::Expired { .. } => Some(&self.expired),
            Event::Parked { .. } => Some(&self.parked),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.all.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn total(&self) -> Drained {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Drained {
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            retried: read(&self.retried),
            died: read(&self.died),
            snoozed: read(&self.snoozed),
            discarded: read(&self.discarded),
            expired: read(&self.expired),
            parked: read(&self.parked),
        }
    }
}

pub(crate) async fn drain(
    broker: &dyn Broker,
    plan: Plan,
    queues: HashSet<QueueName>,
    counts: &Counts,
) -> Result<Drained> {
    let statistics = require(broker, "statistics", broker.statistics())?;
    let worker = Worker::running(Engine::start(plan).await?);
    let mut last_event = (counts.all.load(Ordering::Relaxed), Instant::now());
    while last_event.1.elapsed() < QUIET {
        tokio::time::sleep(LOOK).await;
        let events = counts.all.load(Ordering::Relaxed);
        if events != last_event.0 || is_busy(statistics, &queues).await? {
            last_event = (events, Instant::now());
        }
    }
    // Only after this have all outcomes been stored and counted.
    worker.stop().await?;
    Ok(counts.total())
}

async fn is_busy(statistics: &dyn Statistics, queues: &HashSet<QueueName>) -> Result<bool> {
    let counts = statistics.queues().await?;
    let mut ours = counts.iter().filter(|counts| queues.contains(&counts.queue));
    Ok(ours.any(|counts| counts.ready > 0 || counts.running > 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use goose_core::{Backoff, Outcome};

    use super::*;
    use crate::Context;
    use crate::test_bench::{Number, TestBench};

    #[tokio::test]
    async fn runs_what_is_ready_and_what_that_enqueues_and_leaves_the_rest() {
        let bench = TestBench::new();
        bench.enqueue(0..6).await;
        bench.job(100).run_in(Duration::from_secs(3600)).enqueue().await.unwrap();
        bench.job(101).queue("other").enqueue().await.unwrap();
        let handler = |Number(n), cx: Context| async move {
            match n {
                0 => cx.client().perform_async(Number(5)).await.map(|_| Outcome::Done).unwrap(),
                1 => Outcome::retry("later"),
                2 => Outcome::Snooze(Duration::from_secs(60)),
                3 => Outcome::Discard("stale".to_owned()),
                4 => Outcome::Bury("hopeless".to_owned()),
                _ => Outcome::Done,
            }
        };
        let drained = bench.worker().handle(handler).drain().await.unwrap();
        let expected =
            Drained { succeeded: 3, failed: 2, retried: 1, died: 1, snoozed: 1, discarded: 1, ..Drained::default() };
        assert_eq!(drained, expected);
        assert_eq!((bench.broker.scheduled().len(), bench.broker.ready("other").len()), (3, 1));
        assert_eq!(bench.broker.seen().stops, 1);
    }

    #[tokio::test]
    async fn retries_without_a_pause_are_run() {
        let bench = TestBench::new();
        bench.job(1).retries(2).backoff(Backoff::fixed(Duration::ZERO)).enqueue().await.unwrap();
        let drained = bench.worker().handle(|_: Number| async { Err::<(), _>("no") }).drain().await.unwrap();
        assert_eq!((drained.failed, drained.retried, drained.died), (3, 2, 1));
    }

    #[tokio::test]
    async fn nothing_to_do_ends_soon() {
        let bench = TestBench::new();
        let start = std::time::Instant::now();
        let drained = bench.worker().handle(|_: Number| async {}).drain().await.unwrap();
        assert_eq!(drained, Drained::default());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
