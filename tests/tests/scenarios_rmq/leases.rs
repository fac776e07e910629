//! Long jobs, which have leases, when something happens to their workers or their server.
//!
//! Here a job is long after 1.6 s, and a lease lasts 2 s.

use std::collections::HashSet;
use std::time::Duration;

use goose_core::JobId;
use goose_core::broker::DeathCause;
use goose_core::broker::capability::require;
use goose_tests::Result;
use goose_tests::brokers::Kind;
use goose_tests::child::Process;
use goose_tests::chore::{Chore, Task, acknowledged};
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};

const CONSUMER_TIMEOUT: Duration = Duration::from_secs(2);
/// Two heartbeats.
const LEASE: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3_600);

/// The default: taken from dead workers three times, the fourth crash buries it.
const CRASHES: usize = 4;

fn lab(kind: Kind) -> Result<Lab> {
    Ok(Lab::new(kind)?.consumer_timeout(CONSUMER_TIMEOUT))
}

async fn worker(lab: &Lab) -> Result<Process> {
    lab.worker(&[("concurrency", 30), ("lease-ms", 1_000)]).await
}

async fn enqueue(lab: &Lab, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<JobId>> {
    let client = lab.client().await?;
    let ids =
        client.perform_bulk(tasks.into_iter().map(|task| Chore { task }).collect::<Vec<_>>()).await?.into_result()?;
    lab.ledger()?.record_all(&acknowledged(ids.clone()))?;
    client.broker().close().await?;
    Ok(ids)
}

/// How many lease queues have their job, and how many lease queues there are.
fn leases(lab: &Lab) -> (usize, usize) {
    let mut queues = lab.rabbit_queues();
    queues.retain(|queue| queue.name.starts_with("lab/v1/lease/"));
    (queues.iter().filter(|queue| queue.messages > 0).count(), queues.len())
}

async fn until(limit: Duration, what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let looking = async {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            if is_so().await? {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, looking).await.map_err(|_| format!("waited {limit:?} for {what}"))?
}

/// How many jobs there are anywhere but among the dead: also those that nobody has at the moment, in the leases of a dead worker.
fn jobs_left(lab: &Lab) -> u64 {
    lab.rabbit_queues().iter().filter(|queue| queue.kind != "stream").map(|queue| queue.messages).sum()
}

/// The jobs that a worker has started.
fn started_by(entries: &[Entry], worker: u32) -> HashSet<JobId> {
    let started = |entry: &Entry| match entry {
        Entry::Started { id, pid, .. } if *pid == worker => Some(*id),
        _ => None,
    };
    entries.iter().filter_map(started).collect()
}

fn starts(entries: &[Entry], job: JobId) -> usize {
    entries.iter().filter(|entry| matches!(entry, Entry::Started { id, .. } if *id == job)).count()
}

/// One of them kills its worker each time, and is buried; the others come back once.
pub(crate) async fn whose_worker_is_killed_again_and_again(kind: Kind) -> Outcome {
    const OTHERS: usize = 5;
    let mut lab = lab(kind)?;
    let others = std::iter::repeat_n(Task::NapUnlessRecovered(HOUR), OTHERS);
    let guilty = enqueue(&lab, others.chain([Task::Nap(HOUR)])).await?[OTHERS];
    let broker = lab.broker().await?;
    let dead = require(&*broker, "dead jobs", broker.dead_jobs())?;
    let mut crashes = 0;
    loop {
        let mut victim = worker(&lab).await?;
        let pid = victim.pid();
        let mut started = false;
        until(PATIENCE, "the job to start or to be dead", async || {
            started = started_by(lab.entries()?, pid).contains(&guilty);
            Ok(started || (dead.find_by_id(guilty).await?.is_some() && jobs_left(&lab) == 0))
        })
        .await?;
        if !started {
            victim.stop(PATIENCE).await?;
            break;
        }
        let all = if crashes == 0 { OTHERS + 1 } else { 1 };
        until(PATIENCE, "leases", async || Ok(leases(&lab).0 >= all)).await?;
        lab.kill(&mut victim)?;
        crashes += 1;
    }
    let death = dead.find_by_id(guilty).await?.ok_or("it is not dead")?;
    ensure!(death.reason.cause == DeathCause::Poison, "cause of death: {}", death.reason);
    // A kill between storing the lease and acknowledging the original leaves a second message. Both count that crash, and each
    // comes to its end by crashes of its own.
    ensure!((CRASHES..2 * CRASHES).contains(&crashes), "dead after {crashes} crashes");
    let copies = dead.size().await?;
    broker.close().await?;
    ensure!((1..=2).contains(&copies), "{copies} jobs are dead");
    until(PATIENCE, "no lease queue to be left", async || Ok(leases(&lab).1 == 0)).await?;
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == OTHERS && findings.present == 1, "{findings}");
    Ok(Played::Done)
}

/// Some have leases, some are being moved, some are not: all come back, and none is suspected of anything.
pub(crate) async fn being_made_when_the_worker_is_killed(kind: Kind) -> Outcome {
    const JOBS: usize = 30;
    const ROUNDS: usize = 3;
    let mut lab = lab(kind)?;
    for _ in 0..ROUNDS {
        let mut victim = worker(&lab).await?;
        let ids = enqueue(&lab, std::iter::repeat_n(Task::NapUnlessRecovered(HOUR), JOBS)).await?;
        let pid = victim.pid();
        lab.until(PATIENCE, "all to start", |entries| started_by(entries, pid).len() == JOBS).await?;
        until(PATIENCE, "the first leases", async || Ok(leases(&lab).0 >= 1)).await?;
        lab.kill(&mut victim)?;
        let heir = worker(&lab).await?;
        let ended = |entries: &[Entry]| {
            let finished =
                |id: &&JobId| entries.iter().any(|e| matches!(e, Entry::Finished { id: ended, .. } if ended == *id));
            ids.iter().filter(finished).count()
        };
        lab.until(PATIENCE, "all to end", |entries| ended(entries) == JOBS).await?;
        until(PATIENCE, "nothing to be left", async || Ok(jobs_left(&lab) == 0)).await?;
        heir.stop(PATIENCE).await?;
    }
    let broker = lab.broker().await?;
    let died = require(&*broker, "dead jobs", broker.dead_jobs())?.size().await?;
    broker.close().await?;
    ensure!(died == 0, "{died} jobs are dead");
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == ROUNDS * JOBS, "{findings}");
    Ok(Played::Done)
}

/// A memory alarm that lasts longer than leases: they cannot be renewed, others have the jobs, and their first workers change
/// nothing any more.
pub(crate) async fn that_run_out_while_the_server_takes_nothing_in(kind: Kind) -> Outcome {
    const JOBS: usize = 10;
    let mut lab = lab(kind)?;
    let first = worker(&lab).await?;
    let ids = enqueue(&lab, std::iter::repeat_n(Task::NapUnlessRecovered(LEASE * 5), JOBS)).await?;
    until(PATIENCE, "leases", async || Ok(leases(&lab).0 >= JOBS)).await?;
    let second = worker(&lab).await?;
    let from = now();
    lab.rabbit().ok_or("no server of RabbitMQ")?.memory_alarm(true);
    let taken = |entries: &[Entry]| ids.iter().all(|id| starts(entries, *id) >= 2);
    lab.until(PATIENCE, "others to have them", taken).await?;
    lab.rabbit().ok_or("no server of RabbitMQ")?.memory_alarm(false);
    lab.note_outage("out of memory", from)?;
    // The first ones end as well, and then nothing is left of them.
    let finished = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Finished { .. })).count();
    lab.until(PATIENCE, "all runs to end", |entries| finished(entries) >= 2 * JOBS).await?;
    lab.until_idle(PATIENCE).await?;
    first.stop(PATIENCE).await?;
    second.stop(PATIENCE).await?;
    until(PATIENCE, "no lease queue to be left", async || Ok(leases(&lab).1 == 0)).await?;
    let broker = lab.broker().await?;
    let died = require(&*broker, "dead jobs", broker.dead_jobs())?.size().await?;
    let totals = require(&*broker, "statistics", broker.statistics())?.totals().await?;
    broker.close().await?;
    ensure!(died == 0, "{died} jobs are dead");
    ensure!(totals.succeeded == u64::try_from(JOBS)?, "{totals:?}: each counts once");
    let findings = lab.judge().await?;
    ensure!(findings.is_clean() && findings.ran == JOBS, "{findings}");
    Ok(Played::Done)
}
