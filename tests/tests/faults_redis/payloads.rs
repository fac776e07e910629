//! Sizes: what is too large is refused before it is sent, what is allowed works, and many large ones travel in parts.

use std::time::Duration;

use goose_client::Client;
use goose_core::ErrorKind;

use crate::stage::{Chore, Stage, all_done, in_order};
use crate::{Outcome, Played, ensure, is_long};

/// How often scripts were run.
fn scripts_run(stage: &Stage) -> u64 {
    let stats = stage.server.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

pub(crate) async fn what_is_too_large_is_never_sent() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::builder(broker.clone()).max_job_size(10_000).build()?;
    client.perform_async(Chore::of_size(9_000)).await?;
    let before = scripts_run(&stage);
    let error = client.perform_async(Chore::of_size(10_000)).await.err().ok_or("it was taken")?;
    ensure!(error.kind() == ErrorKind::TooLarge, "{error:#}");
    let many = (0..100).map(|n| Chore::of_size(if n == 99 { 10_000 } else { 10 }));
    let error = client.perform_bulk(many).await.err().ok_or("it was taken")?;
    ensure!(error.kind() == ErrorKind::TooLarge, "{error:#}");
    ensure!(scripts_run(&stage) == before, "something was sent");
    in_order(&broker).await?;
    Ok(Played::Done)
}

pub(crate) async fn the_largest_that_is_allowed_works() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::builder(broker.clone()).max_job_size(100 << 20).build()?;
    let large: usize = if is_long() { 64 << 20 } else { 10 << 20 };
    // The default limit, just below it, and far beyond it with the limit raised; between small ones.
    let sizes = [1, Client::builder(broker.clone()).build().map(|_| (1 << 20) - 200)?, 1, large, 1];
    let mut ids = Vec::new();
    for size in sizes {
        ids.push(client.perform_async(Chore::of_size(size)).await?);
    }
    let default = Client::new(broker.clone());
    ids.push(default.perform_async(Chore::of_size((1 << 20) - 200)).await?);
    let worker = stage.worker(&broker).start().await?;
    stage.have_run(Duration::from_secs(60), &ids).await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    all_done(&broker).await?;
    Ok(Played::Done)
}

/// One call to the server is bounded in bytes as well as in jobs.
pub(crate) async fn many_large_ones_travel_in_parts() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::new(broker.clone());
    client.perform_async(Chore::default()).await?;
    let (before, received) = (scripts_run(&stage), 200 * 100_000_u64);
    let report = client.perform_bulk((0..200).map(|_| Chore::of_size(100_000))).await?;
    ensure!(report.is_complete(), "{:?}", report.failed().next());
    let calls = scripts_run(&stage) - before;
    ensure!(calls >= received >> 20, "{received} bytes went in {calls} calls");
    let before = scripts_run(&stage);
    client.perform_bulk((0..1_000).map(|_| Chore::default())).await?.into_result()?;
    let calls = scripts_run(&stage) - before;
    ensure!(calls <= 6, "a thousand small ones went in {calls} calls");
    // The way out: what one fetch brings is not bounded in bytes, and must not stop the worker.
    let worker = stage.worker(&broker).concurrency(500).start().await?;
    crate::stage::until(Duration::from_secs(60), "all ran", async || Ok(stage.runs.ended() == 1_201)).await?;
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}
