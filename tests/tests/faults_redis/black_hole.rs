//! Connections that swallow everything without a sign: found out on every kind of connection, and replaced.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_services::Mode;
use tokio::time::sleep;

use crate::stage::{Chore, Load, PATIENCE, Stage, all_done, until};
use crate::{Outcome, Played, ensure, is_long};

/// The time of a call, which is 10 s, and then some.
const NOTICED: Duration = Duration::from_secs(15);

/// For what comes after it on two busy processors.
const SLACK: Duration = Duration::from_secs(3);

/// Producers and a worker are at it when their connections go silent. Each finds out by itself.
pub(crate) async fn connections_that_go_silent_under_load() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).start().await?;
    let load = Load::start(&broker, 4, Duration::from_millis(5));
    until(PATIENCE, "the load runs", async || Ok(stage.runs.count() > 100)).await?;
    stage.link.swallow_open();
    let (silent, before) = (Instant::now(), stage.runs.count());
    until(NOTICED + SLACK, "the worker works again", async || Ok(stage.runs.count() > before + 100)).await?;
    let healed = silent.elapsed();
    let taken = load.stop().await?;
    stage.have_run(NOTICED, &taken.ids).await?;
    eprintln!("silent under load: worked again after {healed:.1?}, {} outcomes unknown", taken.repeated.len());
    ensure!(taken.slowest < NOTICED + SLACK, "a producer waited {:?}", taken.slowest);
    // A job runs twice only if its producer did not know that it was in already.
    ensure!(stage.runs.doubles().is_subset(&taken.repeated), "doubles: {:?}", stage.runs.doubles());
    worker.stop().await?;
    all_done(&stage.beside().await?).await?;
    Ok(Played::Done)
}

/// An idle worker is blocked on a connection that goes silent. What others enqueue afterwards is run.
pub(crate) async fn the_connections_of_an_idle_worker_go_silent() -> Outcome {
    let stage = Stage::new();
    let worker = stage.worker(&stage.broker().await?).start().await?;
    let beside = stage.beside().await?;
    let client = Client::new(beside.clone());
    stage.have_run(PATIENCE, &[client.perform_async(Chore::default()).await?]).await?;
    until(PATIENCE, "it waits again", async || {
        Ok(stage.server.clients().iter().any(|line| line.contains("cmd=bzpopmin") && line.contains("flags=b")))
    })
    .await?;
    stage.link.swallow_open();
    let silent = Instant::now();
    let id = client.perform_async(Chore::default()).await?;
    stage.have_run(NOTICED + SLACK, &[id]).await?;
    eprintln!("silent when idle: worked again after {:.1?}", silent.elapsed());
    // And from then on it is woken at once again.
    until(NOTICED, "it waits again", async || {
        let id = client.perform_async(Chore::default()).await?;
        let begun = Instant::now();
        stage.have_run(PATIENCE, &[id]).await?;
        Ok(begun.elapsed() < Duration::from_millis(500))
    })
    .await?;
    ensure!(stage.runs.doubles().is_empty() && stage.runs.recovered() == 0, "nobody was to be held for dead");
    worker.stop().await?;
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// New connections are swallowed, too, for longer than a lease: everybody goes on when the link is back.
pub(crate) async fn a_link_that_swallows_everything_for_a_while() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).start().await?;
    let load = Load::start(&broker, 2, Duration::from_millis(5));
    until(PATIENCE, "the load runs", async || Ok(stage.runs.count() > 100)).await?;
    stage.link.set(Mode::Swallow);
    sleep(Duration::from_secs(if is_long() { 60 } else { 8 })).await;
    stage.link.set(Mode::Pass);
    let (restored, before) = (Instant::now(), stage.runs.count());
    until(NOTICED, "the worker works again", async || Ok(stage.runs.count() > before + 100)).await?;
    eprintln!("link restored: worked again after {:.1?}", restored.elapsed());
    let taken = load.stop().await?;
    stage.have_run(NOTICED, &taken.ids).await?;
    let doubles = stage.runs.doubles();
    ensure!(doubles.is_subset(&taken.repeated), "doubles that no lost answer explains: {doubles:?}");
    worker.stop().await?;
    all_done(&stage.beside().await?).await?;
    Ok(Played::Done)
}
