//! Idle workers: they cost next to nothing, one job wakes few of them, and a job that is due wakes one at its time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use goose_client::Client;
use goose_core::broker::{Broker, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_core::{JobId, QueueName};
use goose_services::Server;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use crate::stage::{Chore, PATIENCE, Stage, all_done, until};
use crate::{Outcome, Played, ensure};

/// How often a figure that a busy machine can spoil is taken before it counts.
const TRIES: usize = 3;

/// How often each command was run.
fn commands(server: &Server) -> BTreeMap<String, i64> {
    let stats = server.ask(&["INFO", "commandstats"]);
    let counts = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    counts.collect()
}

/// What was run since, without what scripts call inside and what this test asks itself.
fn since(server: &Server, before: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let outer = ["evalsha", "bzpopmin", "hgetall", "sadd", "script|load", "ping"];
    let counts = commands(server).into_iter().filter(|(name, _)| outer.contains(&name.as_str()));
    counts.map(|(name, calls)| (name.clone(), calls - before.get(&name).unwrap_or(&0))).collect()
}

fn blocked(server: &Server) -> usize {
    server.clients().iter().filter(|line| line.contains("cmd=bzpopmin") && line.contains("flags=b")).count()
}

/// What one idle worker asks: six heartbeats per lease, a look every five seconds, the wait for it, and the queues of
/// others now and then.
pub(crate) async fn an_idle_worker_asks_for_little() -> Outcome {
    let stage = Stage::new();
    let broker = stage.beside().await?;
    let worker = stage.worker(&broker).start().await?;
    until(PATIENCE, "it is blocked", async || Ok(blocked(&stage.server) == 1)).await?;
    let before = commands(&stage.server);
    let seconds = 12;
    sleep(Duration::from_secs(seconds)).await;
    let asked = since(&stage.server, &before);
    let all: i64 = asked.values().sum();
    eprintln!("idle worker: {all} commands in {seconds} s: {asked:?}");
    // 12 heartbeats, 3 fetches, 3 waits, 2 looks at what others serve.
    ensure!(all <= 24, "{all} commands in {seconds} s: {asked:?}");
    ensure!(all >= 10, "it does not live: {asked:?}");
    worker.stop().await?;
    Ok(Played::Done)
}

/// What became of a job: whether its claim held at the end, and when that was.
type Ended = (bool, JobId, Instant);

/// Enqueues jobs one after another for `many` idle consumers; says how many scripts ran for each.
async fn scripts_of(
    server: &Server,
    done: &mut UnboundedReceiver<Ended>,
    many: usize,
    enqueue: impl AsyncFn() -> goose_core::Result<JobId>,
) -> goose_tests::Result<i64> {
    // Every five seconds each of them looks: the fewer seconds, the clearer what a job costs.
    let before = commands(server);
    let begun = Instant::now();
    let mut latencies = Vec::new();
    let jobs: u32 = 20;
    for _ in 0..jobs {
        let enqueued = Instant::now();
        let id = enqueue().await?;
        let (was_settled, ran, at) = done.recv().await.ok_or("nobody is there")?;
        ensure!(was_settled && ran == id, "another job ran");
        latencies.push(at - enqueued);
    }
    let (took, asked) = (begun.elapsed(), since(server, &before));
    latencies.sort();
    // A look is a fetch and a wait.
    let looks = i64::try_from(many as u128 * took.as_millis() / 5_000)?;
    let scripts = *asked.get("evalsha").unwrap_or(&0);
    let each = (scripts - looks * 6 / 5).max(0) / i64::from(jobs);
    let median = latencies[latencies.len() / 2];
    eprintln!(
        "{many} idle: {jobs} jobs in {took:.2?}, {scripts} scripts, of which {looks} looks: {each} per job; median {median:.1?}"
    );
    Ok(each)
}

pub(crate) async fn a_thousand_idle_consumers_do_not_stampede() -> Outcome {
    const MANY: usize = 1_000;
    const BROKERS: usize = 5;
    // A lease that is long: heartbeats are not what is measured.
    let lease = Duration::from_secs(120);
    let stage = Stage::with(Server::with(&["--maxclients", "4000"]));
    let mut brokers = Vec::new();
    for _ in 0..BROKERS {
        brokers.push(goose_redis::RedisOptions::new(stage.server.url()).lease(lease).open().await?);
    }
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for n in 0..MANY {
        let options = ConsumerOptions::new(QueueSet::one(QueueName::default()), 1);
        let consumer = brokers[n % BROKERS].consume(options).await?;
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            while let Ok(jobs) = consumer.fetch(1).await {
                let ends: Vec<_> = jobs.iter().map(|job| Settlement::new(job.receipt, Verdict::Done)).collect();
                for (answer, job) in consumer.settle(&ends).await.into_iter().zip(jobs) {
                    let _ = sender.send((answer.is_ok(), job.job.id, Instant::now()));
                }
            }
        }));
    }
    let client = Client::new(brokers[0].clone());
    until(Duration::from_secs(60), "all are blocked", async || Ok(blocked(&stage.server) > MANY * 9 / 10)).await?;
    client.perform_async(Chore::default()).await?;
    done.recv().await.ok_or("nobody is there")?;

    let now = scripts_of(&stage.server, &mut done, MANY, async || client.perform_async(Chore::default()).await).await?;
    // Enqueue, fetch, settle; whoever fetched asks again and finds nothing. A marker may wake one more.
    ensure!(now < 10, "{now} scripts per job");
    // More than once, for a busy machine may stretch the time over which is counted.
    let mut fewest = usize::MAX;
    for _ in 0..TRIES {
        // After five seconds each of them has looked and could have learned of the time. Their looks may come in a bunch,
        // so they are counted over one whole turn, most of it before that time.
        let (delay, turn, after) = (Duration::from_secs(7), Duration::from_secs(5), Duration::from_millis(500));
        let enqueued = Instant::now();
        client.perform_in(delay, Chore::default()).await?;
        sleep(delay + after - turn).await;
        let before = commands(&stage.server);
        let (_, _, at) = done.recv().await.ok_or("nobody is there")?;
        let late = (at - enqueued).saturating_sub(delay);
        // Whoever wakes too late to find it does so at the same time.
        sleep(after).await;
        let scripts = usize::try_from(*since(&stage.server, &before).get("evalsha").unwrap_or(&0))?;
        eprintln!(
            "{MANY} idle: late by {late:.1?}, {scripts} scripts in the turn about that time, one look of each among them"
        );
        fewest = fewest.min(scripts);
        if fewest <= MANY * 5 / 4 {
            break;
        }
    }
    ensure!(fewest <= MANY * 5 / 4, "{fewest} scripts in one turn with one job that was due");
    for broker in &brokers {
        broker.close().await?;
    }
    for task in tasks {
        task.await?;
    }
    until(PATIENCE, "no connection is left", async || Ok(stage.server.clients().is_empty())).await?;
    Ok(Played::Done)
}

/// Nobody looks every now and then: the one that waits knows when.
pub(crate) async fn a_scheduled_job_wakes_a_worker_at_its_time() -> Outcome {
    let stage = Stage::new();
    let broker = stage.beside().await?;
    let worker = stage.worker(&broker).start().await?;
    let client = Client::new(broker.clone());
    let mut late = Vec::new();
    for n in 0..12_u64 {
        until(PATIENCE, "it is blocked", async || Ok(blocked(&stage.server) == 1)).await?;
        let delay = Duration::from_millis(150 + 37 * n);
        let begun = Instant::now();
        let id = client.perform_in(delay, Chore::default()).await?;
        stage.have_run(PATIENCE, &[id]).await?;
        let ran = stage.runs.first(id).ok_or("it did not run")? - begun;
        ensure!(ran >= delay, "{delay:?} became {ran:?}");
        late.push(ran - delay);
    }
    late.sort();
    eprintln!("scheduled: late by {:.1?} in the middle, {:.1?} at most", late[6], late[11]);
    ensure!(late[6] < Duration::from_millis(50), "late by {:?} in the middle", late[6]);
    ensure!(late[11] < Duration::from_secs(1), "late by {:?} at most", late[11]);
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}
