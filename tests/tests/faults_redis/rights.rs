//! The least rights that are documented are enough for everything.

use std::time::Duration;

use goose_client::Client;
use goose_core::broker::Broker;
use goose_core::broker::capability::{JobFilter, Page};
use goose_core::{Outcome as Done, QueueName, Timestamp};
use goose_redis::RedisOptions;
use goose_worker::{Context, JobArgs};
use serde::{Deserialize, Serialize};

use crate::stage::{Chore, PATIENCE, Stage, all_done, until};
use crate::{Outcome, Played, ensure};

/// Every command that is sent or that a script calls. Each is needed: see below.
pub(crate) const RIGHTS: &str = "\
    +evalsha +script|load +info +bzpopmin +time +type \
    +hdel +hexists +hget +hgetall +hincrby +hlen +hmget +hset \
    +llen +lpop +lpush +lrange +rpush \
    +sadd +smembers +srem \
    +zadd +zcard +zrange +zrangebyscore +zrem +zscore +unlink";

/// Only with a database other than 0.
const SELECT: &str = "+select";

/// A job that fails, and fails again, and is dead.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Doomed;

impl JobArgs for Doomed {
    const NAME: &'static str = "faults/doomed";
}

fn set_user(stage: &Stage, rights: &str) {
    let mut words =
        vec!["ACL", "SETUSER", "goose", "reset", "on", ">secret", "resetkeys", "~goose:*", "resetchannels", "-@all"];
    words.extend(rights.split_whitespace());
    assert_eq!(stage.server.ask(&words), "OK", "{words:?}");
}

pub(crate) async fn the_least_rights_are_enough_for_everything() -> Outcome {
    let stage = Stage::new();
    set_user(&stage, &format!("{RIGHTS} {SELECT}"));
    let lease = Duration::from_secs(1);
    let options =
        || RedisOptions::new(stage.server.url()).username("goose").password("secret").lease(lease).database(2);
    let broker = options().open().await?;
    let client = Client::new(broker.clone());
    let default = QueueName::default();

    // Everything that can be done with jobs that wait.
    let enqueued = broker.enqueued_jobs().ok_or("no enqueued jobs")?;
    let scheduled = broker.scheduled_jobs().ok_or("no scheduled jobs")?;
    let dead = broker.dead_jobs().ok_or("no dead jobs")?;
    let statistics = broker.statistics().ok_or("no statistics")?;
    let ids = client.perform_bulk((0..20).map(|_| Chore::default())).await?.into_result()?;
    let front = client.job(Chore::default()).front().enqueue().await?;
    let later = client.perform_in(Duration::from_secs(600), Chore::default()).await?;
    let other = client.perform_in(Duration::from_secs(600), Chore::default()).await?;
    ensure!(enqueued.queues().await? == std::slice::from_ref(&default), "the queues");
    ensure!(enqueued.size(&default).await? == 21, "the size");
    ensure!(enqueued.find_by_id(front).await?.is_some(), "by id");
    ensure!(enqueued.find(&default, &JobFilter::default(), Page::first(10)).await?.items.len() == 10, "a page");
    ensure!(enqueued.prioritise(ids[5]).await? && enqueued.delete(ids[6]).await?, "prioritise and delete");
    ensure!(scheduled.size().await? == 2 && scheduled.find_by_id(later).await?.is_some(), "scheduled");
    ensure!(scheduled.find(&JobFilter::default(), Page::first(10)).await?.items.len() == 2, "a page of scheduled ones");
    ensure!(
        scheduled.prioritise(later).await? && scheduled.delete(other).await?,
        "prioritise and delete scheduled ones"
    );

    // A worker that is held for dead, and one that does everything.
    let victim = options().open().await?;
    let napping = stage.worker(&victim).queue("victim").start().await?;
    let left = client.job(Chore::nap(Duration::from_secs(3))).queue("victim").enqueue().await?;
    until(PATIENCE, "the victim runs", async || Ok(stage.runs.of(left) == 1)).await?;
    victim.abandon().await;
    let fail = |_: Doomed, _: Context| async {
        Ok::<_, goose_core::BoxError>(Done::retry_in(Duration::from_millis(20), "told to"))
    };
    let worker = stage.worker(&broker).handle(fail).queue("default").queue("retry").queue("victim").start().await?;
    let doomed = client.job(Doomed).retries(1).retry_queue("retry").enqueue().await?;
    let ran: Vec<_> = ids.iter().copied().filter(|id| *id != ids[6]).chain([front, later]).collect();
    stage.have_run(PATIENCE, &ran).await?;
    until(PATIENCE, "the victim's job runs elsewhere", async || Ok(stage.runs.of(left) == 2)).await?;
    until(PATIENCE, "the doomed one is dead", async || Ok(dead.size().await? == 1)).await?;
    ensure!(dead.find(&JobFilter::default(), Page::first(10)).await?.items.len() == 1, "a page of dead ones");
    ensure!(dead.find_by_id(doomed).await?.is_some() && dead.replay(doomed).await?, "replay");
    until(PATIENCE, "the doomed one is dead again", async || Ok(dead.size().await? == 1)).await?;
    ensure!(dead.replay_n(1).await? == 1, "replay some");
    until(PATIENCE, "the doomed one is dead once more", async || Ok(dead.size().await? == 1)).await?;
    ensure!(dead.pop().await?.is_some() && dead.delete_older_than(Timestamp::EPOCH).await? == 0, "pop");
    ensure!(!statistics.queues().await?.is_empty() && statistics.totals().await?.recovered == 1, "statistics");
    ensure!(!statistics.workers().await?.is_empty(), "workers");
    let paused = broker.paused_queues().ok_or("no paused queues")?;
    ensure!(paused.pause(&default).await? && paused.list().await?.len() == 1, "pause");
    ensure!(paused.resume(&default).await?, "resume");
    ensure!(enqueued.purge(&default).await? == 0 && scheduled.purge().await? == 0 && dead.purge().await? == 0, "purge");
    worker.stop().await?;
    drop(napping);
    until(PATIENCE, "the victim's session is gone", async || Ok(statistics.workers().await?.is_empty())).await?;
    all_done(&broker).await?;
    // Names of connections and their numbers are for people, and the only things that may be denied.
    let log = stage.server.ask(&["ACL", "LOG"]);
    let lines: Vec<&str> = log.lines().collect();
    let denied = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]);
    let denied: Vec<&str> = denied.filter(|object| !["client|setname", "client|id"].contains(object)).collect();
    ensure!(denied.is_empty(), "denied: {denied:?}");
    least(&stage, &broker).await
}

/// None of the rights can be left out: whatever was run here needs each of them.
async fn least(stage: &Stage, broker: &goose_redis::RedisBroker) -> Outcome {
    broker.close().await?;
    let used = stage.server.ask(&["INFO", "commandstats"]);
    let is_used = |right: &&str| used.contains(&format!("cmdstat_{}:", right.trim_start_matches('+')));
    let unused: Vec<&str> = RIGHTS.split_whitespace().filter(|right| !is_used(right)).collect();
    // Asked only to say which key is of a wrong type, and what a session has claimed, when it is not sure of it.
    ensure!(unused.iter().all(|right| ["+type", "+hgetall"].contains(right)), "not needed: {unused:?}");
    Ok(Played::Done)
}

/// What goes beyond the rights is refused by the server, whoever asks for it.
pub(crate) async fn the_least_rights_allow_nothing_else() -> Outcome {
    let stage = Stage::new();
    set_user(&stage, RIGHTS);
    let mut server = stage.server;
    server.user = Some(("goose".to_owned(), "secret".to_owned()));
    for words in
        [&["FLUSHALL"][..], &["KEYS", "*"], &["CONFIG", "GET", "*"], &["GET", "goose:x"], &["HGET", "other:x", "y"]]
    {
        let answer = server.ask(words);
        ensure!(answer.starts_with("-NOPERM"), "{words:?}: {answer}");
    }
    Ok(Played::Done)
}
