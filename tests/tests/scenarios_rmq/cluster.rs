//! What can happen to the nodes of a cluster, under load. The queues are quorum queues on three nodes.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use goose_core::broker::capability::require;
use goose_core::{QueueName, Timestamp};
use goose_services::rabbit::{Rabbit, RabbitBuilder, RabbitCluster};
use goose_services::within;
use goose_tests::Result;
use goose_tests::child::Process;
use goose_tests::chore::Task;
use goose_tests::ensure;
use goose_tests::lab::{Lab, PATIENCE};
use goose_tests::ledger::{Entry, now};
use goose_tests::scenario::{Outcome, Played};

use crate::load::{Load, Size};

/// The queue of all jobs.
const QUEUE: &str = "lab/v1/queue/default";

/// So much that there is still some when a node has come back.
const MUCH: Size = Size { backlog: 6_000, nap: Duration::from_millis(100), more: 4_000, pause_ms: 40 };

/// What a process has done when it cannot have had it before: far more than a worker receives at a time.
const GOES_ON: usize = 100;

async fn under_load(cluster: RabbitCluster) -> Result<Load> {
    let mut load = Load::start_in(Lab::on_cluster(cluster)?, MUCH).await?;
    load.until_finished(500).await?;
    Ok(load)
}

fn nodes(load: &mut Load) -> Result<&mut RabbitCluster> {
    Ok(load.lab.rabbit_cluster().ok_or("no cluster of RabbitMQ")?)
}

fn leader(load: &mut Load, queue: &str) -> Result<usize> {
    let cluster = nodes(load)?;
    let known = (0..cluster.nodes.len()).find_map(|node| cluster.leader(queue, node));
    Ok(known.ok_or_else(|| format!("nobody leads {queue}"))?)
}

/// The node from which a worker gets its jobs.
fn node_of(load: &mut Load, worker: usize) -> Result<usize> {
    let name = format!("goose-consume-{}", load.workers[worker].pid());
    let node = nodes(load)?.nodes.iter().position(|node| node.clients().contains(&name));
    Ok(node.ok_or_else(|| format!("no node knows {name}"))?)
}

/// Waits until everybody's work goes on after a fault, says how long that took, and notes the outage.
pub(crate) async fn until_all_go_on(load: &mut Load, what: &str, from: Timestamp) -> Result<()> {
    let workers: HashSet<u32> = load.workers.iter().map(Process::pid).collect();
    until_they_go_on(load, &workers, what, from).await?;
    load.lab.note_outage("node", from)
}

/// Whether each of these workers has gone on, and somebody's enqueuing.
fn go_on(entries: &[Entry], workers: &HashSet<u32>, from: Timestamp) -> bool {
    let finished = |worker: &u32| {
        let ours =
            entries.iter().filter(|e| matches!(e, Entry::Finished { pid, at, .. } if pid == worker && *at > from));
        ours.count() >= GOES_ON
    };
    let acknowledged = entries.iter().filter(|e| matches!(e, Entry::Acknowledged { at, .. } if *at > from));
    workers.iter().all(finished) && acknowledged.count() >= GOES_ON
}

/// Waits for these workers, and for the producer.
async fn until_they_go_on(load: &mut Load, workers: &HashSet<u32>, what: &str, from: Timestamp) -> Result<()> {
    let all_go_on = |entries: &[Entry]| go_on(entries, workers, from);
    if let Err(error) = load.lab.until(PATIENCE, &format!("all to go on, {what}"), all_go_on).await {
        let entries = load.lab.entries()?;
        let last = |worker: &u32| {
            let times = entries.iter().filter_map(|e| match e {
                Entry::Finished { pid, at, .. } if pid == worker => Some(at.as_millis() - from.as_millis()),
                _ => None,
            });
            (*worker, times.clone().filter(|time| *time > 0).count(), times.max())
        };
        let last: Vec<_> = workers.iter().map(last).collect();
        return Err(format!("{error}; workers, what they finished after it, and when the last, in ms: {last:?}").into());
    }
    let entries = load.lab.entries()?;
    let starts = entries.iter().filter_map(|e| if let Entry::Started { at, .. } = e { Some(*at) } else { None });
    let enqueues = entries.iter().filter_map(|e| if let Entry::Acknowledged { at, .. } = e { Some(*at) } else { None });
    let (no_start, no_enqueue) = (longest_pause(starts, from), longest_pause(enqueues, from));
    let all = now().since(from).as_millis();
    eprintln!(
        "{what}: no job started for {no_start} ms, none enqueued for {no_enqueue} ms; all at work after {all} ms"
    );
    Ok(())
}

/// The longest time in which nothing happened, in milliseconds, from a fault on.
fn longest_pause(events: impl Iterator<Item = Timestamp>, from: Timestamp) -> i64 {
    let mut times: Vec<i64> = events.map(|at| at.as_millis() - from.as_millis()).filter(|time| *time >= 0).collect();
    times.sort_unstable();
    let before = std::iter::once(0).chain(times.iter().copied());
    before.zip(&times).map(|(before, time)| time - before).max().unwrap_or(0)
}

/// `kill -9` of the node that leads the queue; it comes back while others work.
pub(crate) async fn its_leader_killed() -> Outcome {
    let mut load = under_load(RabbitCluster::start(3)).await?;
    let leader = leader(&mut load, QUEUE)?;
    let from = now();
    nodes(&mut load)?.nodes[leader].kill();
    until_all_go_on(&mut load, "leader killed", from).await?;
    nodes(&mut load)?.nodes[leader].restart();
    nodes(&mut load)?.wait_until_whole();
    load.loses_nothing().await
}

/// `kill -9` of all nodes at once. Nothing that was confirmed is lost.
pub(crate) async fn all_nodes_killed() -> Outcome {
    let mut load = under_load(RabbitCluster::start(3)).await?;
    let cluster = nodes(&mut load)?;
    // See `docs/brokers/rabbitmq.md`: what they would otherwise forget are whole queues that are younger than two seconds.
    for node in &cluster.nodes {
        node.eval("catch mnesia:sync_log()");
        node.save_names();
    }
    let from = now();
    cluster.nodes.iter_mut().for_each(Rabbit::kill);
    cluster.restart();
    eprintln!("all nodes killed: they are there again after {} ms", now().since(from).as_millis());
    until_all_go_on(&mut load, "all nodes killed", from).await?;
    load.loses_nothing().await
}

/// SIGSTOP of the node that a worker is connected to: longer than clients wait, and than nodes wait for each other. When it
/// goes on, it finds the others at once, and so does not pause; it is in the cluster again when it is restarted.
pub(crate) async fn a_node_paused() -> Outcome {
    let mut load = under_load(RabbitCluster::start(3)).await?;
    let node = node_of(&mut load, 0)?;
    let from = now();
    nodes(&mut load)?.nodes[node].pause();
    until_all_go_on(&mut load, "node paused", from).await?;
    let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
    let cluster = nodes(&mut load)?;
    within(PATIENCE, "the others miss it", || others.iter().all(|other| !cluster.running(*other).contains(&node)));
    let from = now();
    cluster.nodes[node].resume();
    within(PATIENCE, "it can be asked again", || cluster.nodes[node].try_eval("ok").is_ok());
    cluster.nodes[node].restart();
    cluster.wait_until_whole();
    // Clients may have found it before its restart.
    load.lab.note_outage("resumed", from)?;
    load.loses_nothing().await
}

/// A node that is cut off from the others and pauses: its clients go to the others.
pub(crate) async fn a_node_cut_off() -> Outcome {
    let mut load = under_load(RabbitCluster::start(3)).await?;
    let node = node_of(&mut load, 0)?;
    let from = now();
    nodes(&mut load)?.cut_off(node);
    until_all_go_on(&mut load, "node cut off", from).await?;
    nodes(&mut load)?.mend();
    nodes(&mut load)?.wait_until_whole();
    load.loses_nothing().await
}

/// A node that is cut off and goes on for its clients, as it does by default. Its workers get no jobs until it is back, those of
/// other nodes work on. Producers give it up when it has confirmed nothing for as long as they wait.
pub(crate) async fn a_node_cut_off_that_goes_on() -> Outcome {
    let settings = RabbitBuilder::default().config("cluster_partition_handling = ignore");
    let mut load = under_load(RabbitCluster::with(3, &settings)).await?;
    let node = node_of(&mut load, 0)?;
    let mut others = HashSet::new();
    while others.is_empty() {
        for worker in 1..load.workers.len() {
            if node_of(&mut load, worker)? != node {
                others.insert(load.workers[worker].pid());
            }
        }
        if others.is_empty() {
            load.add_worker().await?;
        }
    }
    let from = now();
    nodes(&mut load)?.cut_off(node);
    until_they_go_on(&mut load, &others, "node cut off that goes on", from).await?;
    nodes(&mut load)?.mend();
    let mended = now();
    // There may be nothing left to do by now, and the others are quick.
    let all = load.workers.iter().map(Process::pid).collect();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !go_on(load.lab.entries()?, &all, mended) {
        load.enqueue_more(400).await?;
    }
    until_all_go_on(&mut load, "node cut off that goes on, mended", mended).await?;
    load.lab.note_outage("apart", from)?;
    load.loses_nothing().await
}

/// `kill -9` of the node that writes the control log, then of the one that writes the stream of the dead: pauses hold, queues go
/// on when they are told to, and no dead job is lost.
pub(crate) async fn the_writers_of_its_streams_killed() -> Outcome {
    let mut load = Load::idle_in(Lab::on_cluster(RabbitCluster::start(3))?).await?;
    let broker = load.lab.broker().await?;
    let pauses = require(&*broker, "paused queues", broker.paused_queues())?;
    let dead = require(&*broker, "dead jobs", broker.dead_jobs())?;
    let queue = QueueName::default();
    load.enqueue(Task::Bury, 20).await?;
    load.until_finished(20).await?;

    pauses.pause(&queue).await?;
    let paused = now();
    load.enqueue(Task::Nothing, 200).await?;
    let writer = leader(&mut load, "lab/v1/log")?;
    let from = now();
    nodes(&mut load)?.nodes[writer].kill();
    let resumed = now();
    tried(|| pauses.resume(&queue)).await?;
    eprintln!("writer of the log killed: a queue was resumed after {} ms", now().since(from).as_millis());
    load.until_finished(220).await?;
    eprintln!("writer of the log killed: all of its jobs had run after {} ms", now().since(from).as_millis());
    load.lab.note_outage("killed", from)?;
    let early = |e: &&Entry| matches!(e, Entry::Started { at, .. } if *at > paused && *at < resumed);
    let early = load.lab.entries()?.iter().filter(early).count();
    ensure!(early == 0, "{early} jobs of a paused queue were started");
    nodes(&mut load)?.nodes[writer].restart();
    nodes(&mut load)?.wait_until_whole();

    let writer = leader(&mut load, "lab/v1/dead")?;
    let from = now();
    nodes(&mut load)?.nodes[writer].kill();
    load.enqueue(Task::Bury, 20).await?;
    eprintln!("writer of the dead killed: jobs were enqueued after {} ms", now().since(from).as_millis());
    let end = Instant::now() + PATIENCE;
    let mut size = 0;
    while size < 40 {
        size = tried(|| dead.size()).await?;
        ensure!(Instant::now() < end, "there are {size} dead jobs, and not 40");
    }
    eprintln!("writer of the dead killed: all were buried after {} ms", now().since(from).as_millis());
    load.lab.note_outage("killed", from)?;
    nodes(&mut load)?.nodes[writer].restart();
    nodes(&mut load)?.wait_until_whole();
    broker.close().await?;

    let (findings, _) = load.finish().await?;
    ensure!(findings.is_clean() && findings.acknowledged == 240, "{findings}");
    Ok(Played::Done)
}

/// As often as the broker says that it may pass.
async fn tried<T, F: Future<Output = goose_core::Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let end = Instant::now() + PATIENCE;
    loop {
        again.tick().await;
        match call().await {
            Err(error) if error.is_retryable() && Instant::now() < end => {}
            answer => return Ok(answer?),
        }
    }
}
