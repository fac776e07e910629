//! Links that are slow, and links that break all the time.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::JobId;

use crate::stage::{Chore, Load, PATIENCE, Stage, all_done, recovered, until};
use crate::{Outcome, Played, ensure, is_long};

/// What a satellite would do: 200 ms there and back, a megabyte a second.
fn slow(stage: &Stage) {
    stage.link.delay(Duration::from_millis(100));
    stage.link.rate(1_000_000);
}

/// What counts is how much travels together. Nobody is held for dead, whatever the number of queues.
pub(crate) async fn a_link_with_200_ms_and_a_megabyte_per_second() -> Outcome {
    let stage = Stage::new();
    slow(&stage);
    let broker = stage.broker().await?;
    let queues: Vec<String> = (0..50).map(|n| format!("q{n}")).collect();
    let worker = queues.iter().fold(stage.worker(&broker), |worker, queue| worker.queue(queue.as_str()));
    let worker = worker.concurrency(50).start().await?;
    // Somebody who would take the jobs of a worker that he held for dead.
    let beside = stage.beside().await?;
    let watch = stage.worker(&beside).queue("q0").queue("q49").concurrency(1).start().await?;
    let client = Client::builder(broker.clone()).default_queue("q7").build()?;
    let jobs: usize = if is_long() { 20_000 } else { 3_000 };
    let begun = Instant::now();
    let chores = (0..jobs).map(|_| Chore { nap_ms: 1, padding: "x".repeat(100) });
    let ids: Vec<JobId> = client.perform_bulk(chores).await?.into_result()?;
    let enqueued = begun.elapsed();
    stage.have_run(Duration::from_secs(if is_long() { 400 } else { 90 }), &ids).await?;
    eprintln!("slow link: {jobs} jobs enqueued in {enqueued:.1?}, run after {:.1?}", begun.elapsed());
    // A lease lasts six seconds.
    let seen = Instant::now();
    until(PATIENCE, "longer than a lease", async || Ok(seen.elapsed() > Duration::from_secs(8))).await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    ensure!(worker.health().is_healthy(), "{:?}", worker.health());
    watch.stop().await?;
    worker.stop().await?;
    ensure!(recovered(&beside).await? == 0, "the worker was held for dead");
    let live = goose_core::broker::capability::require(
        &beside,
        "statistics",
        goose_core::broker::Broker::statistics(&beside),
    )?;
    ensure!(live.workers().await?.is_empty(), "sessions were left: {:?}", live.workers().await?);
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// Every twentieth answer arrives half, and its connection is gone. What was acknowledged is run.
pub(crate) async fn a_link_that_cuts_every_twentieth_answer() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let beside = stage.beside().await?;
    let worker = stage.worker(&broker).start().await?;
    let load = Load::start(&broker, 4, Duration::from_millis(2));
    stage.link.cut_every(20);
    let begun = Instant::now();
    let enough: usize = if is_long() { 300 } else { 30 };
    until(Duration::from_secs(300), "many cuts", async || Ok(stage.link.cut() >= enough as u64)).await?;
    let taken = load.stop().await?;
    stage.have_run(PATIENCE, &taken.ids).await?;
    stage.link.cut_every(0);
    let (jobs, cuts, doubles) = (taken.ids.len(), stage.link.cut(), stage.runs.doubles());
    eprintln!(
        "cut link: {jobs} jobs in {:.1?} over {cuts} cuts, {} outcomes unknown, {} ran twice",
        begun.elapsed(),
        taken.repeated.len(),
        doubles.len()
    );
    // The job was in, had run, and was enqueued again.
    ensure!(doubles.is_subset(&taken.repeated), "doubles that no lost answer explains: {doubles:?}");
    ensure!(recovered(&beside).await? == 0, "the worker was held for dead");
    worker.stop().await?;
    all_done(&beside).await?;
    Ok(Played::Done)
}
