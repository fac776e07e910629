//! A server without memory: enqueues are refused whole, and workers, who make room, go on.

use std::time::Duration;

use goose_client::Client;
use goose_core::broker::{Broker, EnqueueVerdict};
use goose_core::{ErrorKind, JobId, Outcome as Done};
use goose_redis::RedisBroker;
use goose_worker::{Context, JobArgs};
use serde::{Deserialize, Serialize};

use crate::stage::{Chore, PATIENCE, Stage, all_done, in_order, ready, recovered, until};
use crate::{Outcome, Played, ensure};

/// A job that is put off once, fails once, and then is done: every write that a worker makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stubborn;

impl JobArgs for Stubborn {
    const NAME: &'static str = "faults/stubborn";
}

async fn be_stubborn(_: Stubborn, cx: Context) -> goose_tests::Result<Done> {
    let pause = Duration::from_millis(100);
    let runs = cx.state::<crate::stage::Runs>()?;
    runs.note(cx.job_id());
    Ok(match runs.of(cx.job_id()) {
        1 => Done::Snooze(pause),
        2 => Done::retry_in(pause, "told to"),
        _ => Done::Done,
    })
}

async fn is_stored(broker: &RedisBroker, id: JobId) -> goose_tests::Result<bool> {
    let enqueued = broker.enqueued_jobs().ok_or("no enqueued jobs")?;
    Ok(enqueued.find_by_id(id).await?.is_some())
}

/// Enqueues until there is no room: what was acknowledged is there, and nothing else.
pub(crate) async fn enqueues_at_the_limit_are_refused_whole() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::new(broker.clone());
    client.perform_async(Chore::default()).await?;
    let used = stage.server.ask(&["INFO", "memory"]);
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).ok_or("no used_memory")?;
    let limit = used.trim().parse::<u64>()? + (6 << 20);
    stage.server.ask(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);

    let mut taken = 1;
    let error = loop {
        match client.perform_async(Chore::of_size(20_000)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        ensure!(taken < 10_000, "the limit was never reached");
    };
    ensure!(error.kind() == ErrorKind::Full && error.is_retryable(), "expected Full, got {error:#}");
    ensure!(taken > 50, "only {taken} jobs found room");
    ensure!(ready(&broker).await? == taken, "{taken} acknowledged, {} there", ready(&broker).await?);

    // Many jobs that travel in several calls: each call is stored whole or not at all, and its jobs are told so.
    let jobs = (0..300).map(|_| Ok(client.job(Chore::of_size(20_000)).build()?));
    let jobs = jobs.collect::<goose_tests::Result<Vec<_>>>()?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    match broker.enqueue(jobs).await {
        Err(error) => {
            ensure!(error.kind() == ErrorKind::Full, "expected Full, got {error:#}");
            for id in ids {
                ensure!(!is_stored(&broker, id).await?, "a refused job is there");
            }
        }
        Ok(verdicts) => {
            for (id, verdict) in ids.into_iter().zip(verdicts) {
                let was_taken = matches!(verdict, EnqueueVerdict::Enqueued(_));
                taken += u64::from(was_taken);
                ensure!(is_stored(&broker, id).await? == was_taken, "{verdict:?} is not what is stored");
            }
        }
    }
    in_order(&broker).await?;

    // Workers make room, and enqueues succeed again without anybody's help.
    let worker = stage.worker(&broker).start().await?;
    let mut since_room = None;
    until(PATIENCE, "there is room again", async || {
        since_room = client.perform_async(Chore::of_size(20_000)).await.ok();
        Ok(since_room.is_some())
    })
    .await?;
    until(PATIENCE, "all ran", async || Ok(stage.runs.ended() as u64 == taken + 1)).await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty(), "doubles: {:?}", stage.runs.doubles());
    all_done(&broker).await?;
    Ok(Played::Done)
}

/// No room at all, for longer than a lease: workers start, fetch, put off, retry, bury and recover, their leases live,
/// and a job that takes long is not taken for that of a dead worker.
pub(crate) async fn workers_drain_a_server_without_any_room() -> Outcome {
    let stage = Stage::new();
    let lease = Duration::from_secs(1);
    let open = || async { stage.options().lease(lease).open().await };
    let broker = open().await?;
    let client = Client::new(broker.clone());
    let bulk = client.perform_bulk((0..2_000).map(|_| Chore::default())).await?.into_result()?;
    let stubborn = client.perform_bulk((0..20).map(|_| Stubborn)).await?.into_result()?;
    let long = client.job(Chore::nap(lease * 3)).front().enqueue().await?;
    let doomed = client.job(Stubborn).retries(0).front().enqueue().await?;
    // Jobs of somebody who dies before there is no room any more.
    let victim = open().await?;
    let napping = stage.worker(&victim).queue("victim").start().await?;
    let left = client.job(Chore::nap(Duration::from_secs(600))).queue("victim").enqueue().await?;
    until(PATIENCE, "the victim runs", async || Ok(stage.runs.of(left) == 1)).await?;

    stage.server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    victim.abandon().await;
    let error = client.perform_async(Chore::default()).await.err().ok_or("a full server took a job")?;
    ensure!(error.kind() == ErrorKind::Full, "expected Full, got {error:#}");
    let (first, second) = (open().await?, open().await?);
    let start = async |broker: &RedisBroker| {
        let worker = stage.worker(broker).handle(be_stubborn).queue("default").queue("victim");
        worker.grace_period(Duration::from_millis(100)).start().await
    };
    let workers = [start(&first).await?, start(&second).await?];
    stage.have_run(PATIENCE, &bulk).await?;
    until(PATIENCE, "the stubborn ones ended", async || Ok(stubborn.iter().all(|id| stage.runs.of(*id) == 3))).await?;
    until(PATIENCE, "the doomed one is dead", async || {
        Ok(first.dead_jobs().ok_or("no dead jobs")?.find_by_id(doomed).await?.is_some())
    })
    .await?;
    until(PATIENCE, "the victim's job runs elsewhere", async || Ok(stage.runs.of(left) == 2)).await?;
    until(PATIENCE, "the long one ended", async || Ok(stage.runs.ended() > bulk.len())).await?;
    ensure!(stage.runs.of(long) == 1, "a job ran twice while its worker lived");
    ensure!(recovered(&first).await? == 1, "{} were recovered", recovered(&first).await?);
    for worker in &workers {
        ensure!(worker.health().is_healthy(), "{:?}", worker.health());
    }
    first.dead_jobs().ok_or("no dead jobs")?.purge().await?;
    // The victim's job is cut short, handed back, and still there when the other is gone, too.
    for worker in workers {
        worker.stop().await?;
    }
    drop(napping);
    let statistics = first.statistics().ok_or("no statistics")?;
    until(PATIENCE, "nobody works any more", async || Ok(statistics.workers().await?.is_empty())).await?;
    ensure!(statistics.queues().await?.iter().map(|counts| counts.ready).sum::<u64>() == 1, "the victim's job is lost");
    stage.server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    client.perform_async(Chore::default()).await?;
    in_order(&first).await?;
    let drained = stage.worker(&first).drain().await?;
    ensure!(drained.succeeded == 1, "{drained:?}");
    Ok(Played::Done)
}
