//! Answers that are cut off after the server has done what it was asked.

use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::ErrorKind;
use goose_core::broker::Broker;
use goose_core::broker::capability::require;
use goose_services::Mode;

use crate::stage::{Chore, PATIENCE, Stage, all_done, in_order, ready, recovered, until};
use crate::{Outcome, Played, ensure};

/// The caller is told that nobody knows, and may enqueue the same jobs again: they are there once.
pub(crate) async fn an_enqueue_whose_answer_is_lost() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::new(broker.clone());
    // The queue is known to the server from here on, so that the next answer is that of the enqueue.
    client.perform_async(Chore::default()).await?;
    for jobs in [1, 100] {
        let jobs =
            (0..jobs).map(|_| Ok(client.job(Chore::default()).build()?)).collect::<goose_tests::Result<Vec<_>>>()?;
        let (before, cuts) = (ready(&broker).await?, stage.link.cut());
        stage.link.set(Mode::CutAnswer);
        let report = client.enqueue_jobs(jobs.clone()).await?;
        ensure!(stage.link.cut() == cuts + 1, "no answer was cut");
        for (_, _, error) in report.failed() {
            ensure!(error.kind() == ErrorKind::OutcomeUnknown, "expected an unknown outcome, got {error:#}");
            ensure!(error.is_retryable(), "it must be worth repeating: {error:#}");
        }
        ensure!(report.failed().count() == jobs.len(), "all of {} jobs were in that call", jobs.len());
        let now = ready(&broker).await?;
        ensure!(now == before + u64::try_from(jobs.len())?, "the server had done it: {now} jobs are in line");
        let again = client.enqueue_jobs(jobs).await?;
        ensure!(again.is_complete(), "the second time: {:?}", again.failed().next());
        ensure!(ready(&broker).await? == now, "a job is in line twice");
    }
    in_order(&broker).await?;
    let worker = stage.worker(&broker).start().await?;
    until(PATIENCE, "all ran", async || Ok(stage.runs.ended() == 102)).await?;
    worker.stop().await?;
    ensure!(stage.runs.count() == 102 && stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    all_done(&broker).await?;
    Ok(Played::Done)
}

/// The jobs are claimed by a worker that lives and does not know of them. It finds them, long before anybody could hold
/// it for dead, and runs them itself.
pub(crate) async fn a_fetch_whose_answer_is_lost() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let beside = stage.beside().await?;
    let client = Client::new(beside.clone());
    let worker = stage.worker(&broker).concurrency(50).start().await?;
    stage.have_run(PATIENCE, &[client.perform_async(Chore::default()).await?]).await?;
    for round in 0..3 {
        let needle = format!("needle {round}");
        let chores = (0..20).map(|_| Chore { padding: needle.clone(), ..Chore::default() });
        stage.link.cut_answer_with(needle.as_bytes());
        let cuts = stage.link.cut();
        let ids = client.perform_bulk(chores).await?.into_result()?;
        let begun = Instant::now();
        // Within two heartbeats; a lease is six.
        stage.have_run(Duration::from_secs(4), &ids).await?;
        eprintln!("fetch lost: run after {:.1?}", begun.elapsed());
        ensure!(stage.link.cut() == cuts + 1, "no answer was cut");
    }
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    ensure!(recovered(&beside).await? == 0, "the worker was held for dead");
    worker.stop().await?;
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// The end of a job is told twice and counts once.
pub(crate) async fn a_settle_whose_answer_is_lost() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let beside = stage.beside().await?;
    let worker = stage.worker(&broker).prefetch(0).start().await?;
    let client = Client::new(beside.clone());
    let mut ids = Vec::new();
    for n in 0..10_usize {
        let id = client.perform_async(Chore::nap(Duration::from_millis(200))).await?;
        until(PATIENCE, "it runs", async || Ok(stage.runs.of(id) > 0)).await?;
        // While it sleeps nothing goes on but heartbeats, whose answers do not matter either.
        let cuts = stage.link.cut();
        stage.link.set(Mode::CutAnswer);
        until(PATIENCE, "an answer was cut", async || Ok(stage.link.cut() > cuts)).await?;
        until(PATIENCE, "it ended", async || Ok(stage.runs.ended() > n)).await?;
        ids.push(id);
    }
    worker.stop().await?;
    ensure!(ids.iter().all(|id| stage.runs.of(*id) == 1), "doubles: {:?}", stage.runs.doubles());
    all_done(&beside).await?;
    Ok(Played::Done)
}

/// A server that crashes, or a replica that takes over, may know less than was acknowledged: here that all jobs
/// have ended. To it a worker that lives has claimed them, and that worker has long forgotten them. They run again.
pub(crate) async fn settles_that_a_crash_of_the_server_takes_back() -> Outcome {
    let mut stage = Stage::new();
    let broker = stage.broker().await?;
    let worker = stage.worker(&broker).concurrency(20).start().await?;
    let client = Client::new(broker.clone());
    let (naps, nap) = (10, Duration::from_millis(500));
    let ids = client.perform_bulk((0..naps).map(|_| Chore::nap(nap))).await?.into_result()?;
    let longer = client.perform_async(Chore::nap(nap * 8)).await?;
    stage.have_run(PATIENCE, &ids).await?;
    stage.have_run(PATIENCE, &[longer]).await?;
    ensure!(stage.runs.ended() == 0, "the jobs had ended before the server saved what it knew");
    stage.server.ask(&["SAVE"]);
    until(PATIENCE, "they ended", async || {
        let statistics = require(&broker, "statistics", broker.statistics())?;
        Ok(statistics.queues().await?.iter().all(|counts| counts.running == 1))
    })
    .await?;
    stage.server.restart();
    let begun = Instant::now();
    until(Duration::from_secs(6), "they ran again", async || Ok(stage.runs.doubles().len() >= naps)).await?;
    eprintln!("settles taken back: run again after {:.1?}", begun.elapsed());
    ensure!(stage.runs.doubles() == ids.into_iter().collect(), "only those, and not the one that was still running");
    ensure!(recovered(&broker).await? == 0, "the worker was held for dead");
    until(PATIENCE, "all ended", async || Ok(stage.runs.ended() == naps * 2 + 1)).await?;
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}
