//! Ends: soon, whatever goes on, and nothing is left behind.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::ErrorKind;
use goose_core::QueueName;
use goose_core::broker::{Broker, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_services::Mode;
use tokio::runtime::Handle;

use crate::stage::{Chore, PATIENCE, Stage, all_done, in_order, until};
use crate::{Outcome, Played, ensure};

/// An idle worker stops within this; so does one whose jobs come to their end.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A broker that cannot reach its server gives up handing back after this.
const OUT_OF_REACH: Duration = Duration::from_secs(4);

fn options(concurrency: usize) -> ConsumerOptions {
    ConsumerOptions::new(QueueSet::one(QueueName::default()), concurrency)
}

/// Counted before and after: connections on the server, tasks of this runtime.
struct Before {
    clients: usize,
    tasks: usize,
}

impl Before {
    fn now(stage: &Stage) -> Self {
        Self { clients: stage.server.clients().len(), tasks: Handle::current().metrics().num_alive_tasks() }
    }

    async fn nothing_is_left(&self, stage: &Stage) -> goose_tests::Result<()> {
        let gone = until(PATIENCE, "no connection and no task is left", async || {
            Ok(stage.server.clients().len() <= self.clients
                && Handle::current().metrics().num_alive_tasks() <= self.tasks)
        });
        let Err(error) = gone.await else { return Ok(()) };
        let tasks = Handle::current().metrics().num_alive_tasks();
        Err(format!("{error}; {tasks} tasks where {} were, and {:?}", self.tasks, stage.server.clients()).into())
    }
}

async fn blocked(stage: &Stage) -> goose_tests::Result<()> {
    until(PATIENCE, "it is blocked", async || {
        Ok(stage.server.clients().iter().any(|line| line.contains("cmd=bzpopmin") && line.contains("flags=b")))
    })
    .await
}

/// Stops within a limit; says how long it took.
async fn timed<T>(limit: Duration, what: &str, stop: impl Future<Output = T>) -> goose_tests::Result<T> {
    let begun = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, stop).await.map_err(|_| format!("{what}: never"))?;
    ensure!(begun.elapsed() < limit, "{what} took {:?}", begun.elapsed());
    Ok(ended)
}

pub(crate) async fn workers_and_brokers_end_while_they_are_blocked() -> Outcome {
    let stage = Stage::new();
    let beside = stage.beside().await?;
    let before = Before::now(&stage);
    for _ in 0..3 {
        let broker = stage.broker().await?;
        let worker = stage.worker(&broker).start().await?;
        blocked(&stage).await?;
        timed(AT_ONCE, "the stop", worker.stop()).await??;
        timed(AT_ONCE, "the second stop", worker.stop()).await??;
        timed(AT_ONCE, "the close", broker.close()).await??;
        timed(AT_ONCE, "the second close", broker.close()).await??;
        let error = Client::new(broker).perform_async(Chore::default()).await.err().ok_or("it was taken")?;
        ensure!(error.kind() == ErrorKind::Closed, "{error:#}");
        drop(worker);
        before.nothing_is_left(&stage).await?;
    }
    // Without a stop of the worker, and at the same time from several sides.
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).start().await?;
    blocked(&stage).await?;
    let (a, b) = tokio::join!(worker.stop(), timed(AT_ONCE, "the stop", worker.stop()));
    a.and(b?)?;
    let (a, b) = tokio::join!(broker.close(), timed(AT_ONCE, "the close", broker.close()));
    a.and(b?)?;
    drop((worker, broker));
    // The broker first: the worker cannot go on, and says so.
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).start().await?;
    blocked(&stage).await?;
    timed(AT_ONCE, "the close", broker.close()).await??;
    let _ = timed(AT_ONCE, "the stop", worker.stop()).await?;
    drop((worker, broker));
    // Without a stop of anything.
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).start().await?;
    blocked(&stage).await?;
    drop(worker);
    broker.close().await?;
    drop(broker);
    before.nothing_is_left(&stage).await?;
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// Again and again, at every possible moment of a fetch that brings jobs: none stays claimed.
pub(crate) async fn consumers_stop_while_a_fetch_is_under_way() -> Outcome {
    let stage = Stage::new();
    stage.link.delay(Duration::from_millis(10));
    let beside = stage.beside().await?;
    let client = Client::new(beside.clone());
    let ids = client.perform_bulk((0..50).map(|_| Chore::default())).await?.into_result()?;
    let broker = stage.broker().await?;
    let before = Before::now(&stage);
    let statistics = beside.statistics().ok_or("no statistics")?;
    for pause in 0..15_u64 {
        let consumer = broker.consume(options(10)).await?;
        // Dropped while the call is on its way, or after it.
        let dropped = tokio::time::timeout(Duration::from_millis(pause * 4), consumer.fetch(10)).await;
        let fetched = match dropped {
            Ok(fetched) => fetched?,
            // One of ten that came after all: nine are left to hand back.
            Err(_) if pause % 2 == 0 => consumer.fetch(1).await?,
            Err(_) => Vec::new(),
        };
        // What was handed out is for the caller to hand back.
        let back: Vec<_> = fetched.iter().map(|delivery| Settlement::new(delivery.receipt, Verdict::Release)).collect();
        ensure!(consumer.settle(&back).await.iter().all(Result::is_ok), "it cannot be handed back");
        timed(AT_ONCE, "the stop", consumer.stop()).await??;
        timed(AT_ONCE, "the second stop", consumer.stop()).await??;
        // An answer that comes after the stop is handed back when it comes.
        until(AT_ONCE, "nothing is claimed", async || {
            Ok(statistics.queues().await?.iter().all(|counts| counts.running == 0))
        })
        .await?;
    }
    drop(broker);
    let broker = stage.beside().await?;
    let worker = stage.worker(&broker).start().await?;
    stage.have_run(PATIENCE, &ids).await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    broker.close().await?;
    all_done(&beside).await?;
    before.nothing_is_left(&stage).await?;
    Ok(Played::Done)
}

/// With jobs that run: they come to their end, those not begun go back, and nothing stays claimed.
pub(crate) async fn a_worker_stops_in_the_middle_of_its_work() -> Outcome {
    let stage = Stage::new();
    let beside = stage.beside().await?;
    let client = Client::new(beside.clone());
    let before = Before::now(&stage);
    let nap = Duration::from_millis(300);
    let ids = client.perform_bulk((0..200).map(|_| Chore::nap(nap))).await?.into_result()?;
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).concurrency(10).prefetch(100).start().await?;
    until(PATIENCE, "some run", async || Ok(stage.runs.count() >= 10)).await?;
    timed(AT_ONCE + nap, "the stop", worker.stop()).await??;
    let counts = beside.statistics().ok_or("no statistics")?.queues().await?;
    let (claimed, ran) = (counts.iter().map(|counts| counts.running).sum::<u64>(), stage.runs.count());
    ensure!(claimed == 0, "{claimed} are still claimed");
    ensure!(stage.runs.ended() == ran, "{} of {ran} came to their end", stage.runs.ended());
    in_order(&beside).await?;
    drop(worker);
    broker.close().await?;
    before.nothing_is_left(&stage).await?;
    let worker = stage.worker(&beside).concurrency(200).start().await?;
    stage.have_run(PATIENCE, &ids).await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// The server is gone, hangs, or is just being connected to: everything ends in time all the same.
pub(crate) async fn ends_without_a_server() -> Outcome {
    let mut stage = Stage::new();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for way in ["silent", "refused", "hangs", "killed"] {
        let broker = stage.broker().await?;
        let worker = stage.worker(&broker).queue("worker").start().await?;
        // Many sessions: their ends must not add up.
        let mut consumers = Vec::new();
        for _ in 0..20 {
            consumers.push(broker.consume(options(1)).await?);
        }
        match way {
            "silent" => stage.link.set(Mode::Swallow),
            // All connections are being made again, and cannot be.
            "refused" => {
                stage.link.set(Mode::Refuse);
                stage.link.reset();
            }
            "hangs" => stage.server.pause(),
            _ => stage.server.kill(),
        }
        let begun = Instant::now();
        // Handing back fails, which is said.
        let stop = timed(OUT_OF_REACH, "the stop", worker.stop()).await?;
        let stopped = begun.elapsed();
        timed(OUT_OF_REACH, "the close", broker.close()).await??;
        eprintln!("{way}: worker stopped after {stopped:.1?}, broker closed after {:.1?}", begun.elapsed());
        if let Err(error) = stop {
            ensure!(error.is_retryable() || error.kind() == ErrorKind::Closed, "{error:#}");
        }
        drop((worker, consumers, broker));
        match way {
            "silent" | "refused" => stage.link.set(Mode::Pass),
            "hangs" => stage.server.resume(),
            _ => stage.server.restart(),
        }
        until(PATIENCE, "no task is left", async || Ok(Handle::current().metrics().num_alive_tasks() <= tasks)).await?;
    }
    Ok(Played::Done)
}
