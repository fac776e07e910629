//! The least rights that are documented, on a cluster and with Sentinels: every server has the user, and none denies it anything.

use std::time::Duration;

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, Settlement, Verdict};
use goose_core::{ErrorKind, Job, JobName, Payload, QueueName};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Cluster, Server, Watched, within};

use crate::rights::RIGHTS;
use crate::stage::{PATIENCE, until};
use crate::{Outcome, Played, ensure};

/// With the lease of a second, so that a recovery does not take long.
const LEASE: Duration = Duration::from_secs(1);

fn set_user(server: &Server, rights: &str) {
    let start = "ACL SETUSER goose reset on >secret resetkeys ~goose:* resetchannels -@all";
    let words: Vec<&str> = start.split(' ').chain(rights.split_whitespace()).collect();
    assert_eq!(server.ask(&words), "OK", "{words:?}");
}

fn options(url: &str) -> RedisOptions {
    RedisOptions::new(url).username("goose").password("secret").lease(LEASE)
}

/// What a server has denied the user, but for the names and numbers of connections, which are for people.
fn denied(server: &Server) -> Vec<String> {
    let log = server.ask(&["ACL", "LOG"]);
    let lines: Vec<&str> = log.lines().collect();
    let objects = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]);
    objects.filter(|object| !["client|setname", "client|id"].contains(object)).map(str::to_owned).collect()
}

fn clear(servers: &[&Server]) {
    for server in servers {
        server.ask(&["ACL", "LOG", "RESET"]);
    }
}

fn has_denied_nothing(servers: &[&Server]) -> Outcome {
    for (n, server) in servers.iter().enumerate() {
        ensure!(denied(server).is_empty(), "server {n} denied {:?}", denied(server));
    }
    Ok(Played::Done)
}

fn job(queue: &str) -> Result<Job, goose_core::Error> {
    Ok(Job::new(JobName::new("rights")?, QueueName::new(queue)?, Payload::message_pack(vec![1])))
}

async fn consume(broker: &RedisBroker, queues: &[&str]) -> Result<Box<dyn Consumer>, goose_core::Error> {
    broker.consume(ConsumerOptions::new(QueueSet::weighted(queues.iter().map(|queue| (*queue, 1)))?, 50)).await
}

async fn take(consumer: &dyn Consumer, count: usize) -> goose_tests::Result<Vec<Delivery>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(tokio::time::timeout(PATIENCE, consumer.fetch(count - taken.len())).await??);
    }
    Ok(taken)
}

/// What clients, workers and those who look do, on queues that live on several nodes.
async fn everything(url: &str) -> Outcome {
    let broker = options(url).open().await?;
    let queues = ["a", "b", "c", "d", "e", "f"];
    let jobs = || (0..30).map(|n| job(queues[n % 6])).collect::<Result<Vec<_>, _>>();
    broker.enqueue(jobs()?).await?;

    // A worker that is held for dead; another has its jobs, ends some, buries one, and lets the rest go on elsewhere.
    let victim = options(url).open().await?;
    let dying = consume(&victim, &queues).await?;
    take(&*dying, 30).await?;
    victim.abandon().await;
    let consumer = consume(&broker, &queues).await?;
    let taken = take(&*consumer, 30).await?;
    ensure!(taken.iter().all(|delivery| delivery.recoveries == 1), "all were recovered");
    let mut ends: Vec<Settlement> =
        taken[2..].iter().map(|delivery| Settlement::new(delivery.receipt, Verdict::Done)).collect();
    ends.push(Settlement::new(taken[0].receipt, Verdict::Release));
    let mut moved = taken[1].job.clone();
    moved.retry.retry_queue = Some(QueueName::new("g")?);
    moved.attempts.retry_count = 1;
    let to = moved.ready_queue().clone();
    ends.push(Settlement::new(taken[1].receipt, Verdict::Retry { job: Box::new(moved), delay: Duration::ZERO }));
    ensure!(consumer.settle(&ends).await.iter().all(Result::is_ok), "all claims held");
    take(&*consumer, 1).await?;
    consumer.stop().await?;
    ensure!(to.as_str() == "g", "the retry went to {to}");

    let statistics = broker.statistics().ok_or("no statistics")?;
    ensure!(statistics.totals().await?.recovered == 30, "{:?}", statistics.totals().await?);
    let pauses = broker.paused_queues().ok_or("no paused queues")?;
    for queue in queues {
        pauses.pause(&QueueName::new(queue)?).await?;
    }
    ensure!(pauses.list().await?.len() == 6, "paused queues");
    for queue in queues {
        pauses.resume(&QueueName::new(queue)?).await?;
    }
    until(PATIENCE, "nothing contradicts itself", async || Ok(broker.check_consistency().await?.is_empty())).await?;
    broker.close().await?;
    Ok(Played::Done)
}

/// Opens a broker with a right too few.
async fn is_refused(url: &str) -> Outcome {
    match options(url).command_timeout(Duration::from_secs(3)).open().await {
        Ok(_) => Err("a user with a right too few was let in".into()),
        Err(error) => {
            ensure!(
                matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unavailable),
                "refused with {error:#}"
            );
            Ok(Played::Done)
        }
    }
}

pub(crate) async fn the_least_rights_are_enough_on_a_cluster() -> Outcome {
    let cluster = Cluster::start(3, true);
    let nodes: Vec<&Server> = cluster.nodes.iter().collect();
    let all = format!("{RIGHTS} +cluster|info +cluster|slots");
    nodes.iter().for_each(|node| set_user(node, RIGHTS));
    is_refused(&cluster.url()).await?;
    nodes.iter().for_each(|node| set_user(node, &all));
    clear(&nodes);
    everything(&cluster.url()).await?;
    has_denied_nothing(&nodes)
}

pub(crate) async fn the_least_rights_are_enough_with_sentinels() -> Outcome {
    let mut watched = Watched::start();
    {
        let servers = [&watched.primary, &watched.replica];
        servers.iter().for_each(|server| set_user(server, &format!("{RIGHTS} +role")));
        let sentinels: Vec<&Server> = watched.sentinels.iter().collect();
        let rights = "+sentinel|get-master-addr-by-name +sentinel|sentinels";
        sentinels.iter().for_each(|sentinel| set_user(sentinel, rights));
    }
    let url = format!("{}&sentinelUsername=goose&sentinelPassword=secret", watched.url());
    let everyone = |watched: &Watched| -> Outcome {
        let all: Vec<&Server> = [&watched.replica].into_iter().chain(&watched.sentinels).collect();
        has_denied_nothing(&all)
    };
    everything(&url).await?;
    has_denied_nothing(&[&watched.primary])?;
    everyone(&watched)?;
    // The other server, which has the user too.
    let old = watched.primary_port();
    watched.primary.kill();
    within(Duration::from_secs(20), "the replica takes over", || {
        watched.primary_port().is_some_and(|port| Some(port) != old)
            && watched.replica.ask(&["ROLE"]).starts_with("master")
    });
    let broker = options(&url).open().await?;
    broker.enqueue(vec![job("a")?]).await?;
    let consumer = consume(&broker, &["a"]).await?;
    take(&*consumer, 1).await?;
    consumer.stop().await?;
    broker.close().await?;
    everyone(&watched)
}
