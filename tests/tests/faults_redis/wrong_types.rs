//! Keys that hold something else: whoever meets one is told which, and nothing is half written.

use std::time::Duration;

use goose_client::Client;
use goose_core::broker::{Broker, Consumer, ConsumerOptions, DeathCause, DeathReason, QueueSet, Settlement, Verdict};
use goose_core::broker::{Delivery, SettleError};
use goose_core::{Error, ErrorKind, QueueName};
use goose_redis::RedisBroker;
use goose_services::Server;

use crate::stage::{Chore, PATIENCE, Stage, all_done, in_order, until};
use crate::{Outcome, Played, ensure};

/// The error is typed, and names the key.
fn check(error: &Error, key: &str) -> goose_tests::Result<()> {
    let text = format!("{error:#}");
    ensure!(error.kind() == ErrorKind::Corrupt, "expected Corrupt for {key}, got {:?}: {text}", error.kind());
    ensure!(text.contains(key), "{key} is not named: {text}");
    Ok(())
}

fn keys(server: &Server, pattern: &str) -> Vec<String> {
    let mut keys: Vec<String> = server.ask(&["KEYS", pattern]).lines().map(str::to_owned).collect();
    keys.sort();
    keys
}

/// Everything under a pattern, except one key, as it is stored: to see that nothing changed.
fn stored(server: &Server, pattern: &str, except: &str) -> Vec<(String, String)> {
    let others = keys(server, pattern).into_iter().filter(|key| key != except);
    others.map(|key| (server.ask(&["DUMP", &key]), key)).map(|(value, key)| (key, value)).collect()
}

async fn consume(broker: &RedisBroker, queue: &str) -> goose_core::Result<Box<dyn Consumer>> {
    let mut options = ConsumerOptions::new(QueueSet::one(QueueName::new(queue)?), 10);
    options.prefetch = 0;
    broker.consume(options).await
}

/// The next delivery, past errors of which the first is returned.
async fn fetch(consumer: &dyn Consumer) -> goose_tests::Result<Result<Vec<Delivery>, Error>> {
    Ok(tokio::time::timeout(PATIENCE, consumer.fetch(10)).await?)
}

pub(crate) async fn enqueues_name_the_key_and_write_nothing() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    for kind in ["jobs", "ready", "scheduled", "wake", "meta"] {
        let client = Client::builder(broker.clone()).default_queue(kind).build()?;
        let (key, all) = (format!("goose:{{{kind}}}:{kind}"), format!("goose:{{{kind}}}:*"));
        for some in [0, 3] {
            if some > 0 {
                client.perform_bulk((0..some).map(|_| Chore::default())).await?.into_result()?;
                client.perform_in(Duration::from_secs(600), Chore::default()).await?;
                stage.server.ask(&["RENAME", &key, &format!("aside:{kind}")]);
            }
            stage.server.ask(&["SET", &key, "something else"]);
            let before = stored(&stage.server, &all, &key);
            check(&client.perform_async(Chore::default()).await.err().ok_or("it was taken")?, &key)?;
            let in_a_minute = client.perform_in(Duration::from_secs(60), Chore::default()).await;
            check(&in_a_minute.err().ok_or("it was taken")?, &key)?;
            ensure!(stored(&stage.server, &all, &key) == before, "{kind}: something was written");
            stage.server.ask(&["DEL", &key]);
        }
        stage.server.ask(&["RENAME", &format!("aside:{kind}"), &key]);
        client.perform_async(Chore::default()).await?;
    }
    // The set of all queues is asked for before the first job of a queue.
    stage.server.ask(&["RENAME", "goose:queues", "aside"]);
    stage.server.ask(&["SET", "goose:queues", "something else"]);
    let client = Client::builder(broker.clone()).default_queue("new").build()?;
    check(&client.perform_async(Chore::default()).await.err().ok_or("it was taken")?, "goose:queues")?;
    ensure!(keys(&stage.server, "goose:{new}:*").is_empty(), "something was written");
    stage.server.ask(&["DEL", "goose:queues"]);
    stage.server.ask(&["RENAME", "aside", "goose:queues"]);
    client.perform_async(Chore::default()).await?;
    in_order(&broker).await?;
    Ok(Played::Done)
}

pub(crate) async fn workers_name_the_key_and_go_on_when_it_is_gone() -> Outcome {
    let stage = Stage::new();
    let broker = stage.options().lease(Duration::from_secs(1)).open().await?;
    for kind in ["jobs", "ready", "scheduled", "wake", "meta", "recoveries"] {
        let client = Client::builder(broker.clone()).default_queue(kind).build()?;
        let key = format!("goose:{{{kind}}}:{kind}");
        let consumer = consume(&broker, kind).await?;
        let id = client.perform_async(Chore::default()).await?;
        let is_there = stage.server.ask(&["RENAME", &key, "aside"]) == "OK";
        stage.server.ask(&["SET", &key, "something else"]);
        let fetched = fetch(&*consumer).await?;
        check(&fetched.err().ok_or("something was fetched")?, &key)?;
        stage.server.ask(&["DEL", &key]);
        if is_there {
            stage.server.ask(&["RENAME", "aside", &key]);
        }
        let fetched = fetch(&*consumer).await??;
        ensure!(fetched.len() == 1 && fetched[0].job.id == id, "{kind}: fetched {fetched:?}");
        for answer in consumer.settle(&[Settlement::new(fetched[0].receipt, Verdict::Done)]).await {
            answer.map_err(|error| format!("{kind}: {error:?}"))?;
        }
        consumer.stop().await?;
    }
    all_done(&broker).await?;
    Ok(Played::Done)
}

pub(crate) async fn ends_of_jobs_name_the_key_and_change_nothing() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    for kind in ["jobs", "ready", "scheduled", "dead", "epitaphs", "recoveries", "meta", "wake"] {
        let client = Client::builder(broker.clone()).default_queue(kind).build()?;
        let (key, all) = (format!("goose:{{{kind}}}:{kind}"), format!("goose:{{{kind}}}:*"));
        let consumer = consume(&broker, kind).await?;
        client.perform_async(Chore::default()).await?;
        let fetched = fetch(&*consumer).await??;
        let delivery = fetched.first().ok_or("nothing was fetched")?;
        let is_there = stage.server.ask(&["RENAME", &key, "aside"]) == "OK";
        stage.server.ask(&["SET", &key, "something else"]);
        let leases = format!("goose:{{{kind}}}:leases");
        let unchanged = || {
            let stored = stored(&stage.server, &all, &key);
            // Leases are renewed meanwhile.
            stored.into_iter().filter(|(name, _)| *name != leases).collect::<Vec<_>>()
        };
        let before = unchanged();
        let job = Box::new(delivery.job.clone());
        let reason = DeathReason::new(DeathCause::Buried, "told to");
        let minute = Duration::from_secs(60);
        let verdicts =
            [Verdict::Done, Verdict::Retry { job: job.clone(), delay: minute }, Verdict::Bury { job, reason }];
        // A job that is done has nothing to do with the other keys, and ends.
        let done_reads = ["jobs", "recoveries", "meta"].contains(&kind);
        for verdict in verdicts.iter().skip(usize::from(!done_reads)).cloned() {
            match consumer.settle(&[Settlement::new(delivery.receipt, verdict)]).await.pop() {
                Some(Err(SettleError::Broker(error))) => check(&error, &key)?,
                other => return Err(format!("{kind}: {other:?}").into()),
            }
            ensure!(unchanged() == before, "{kind}: something was written");
        }
        stage.server.ask(&["DEL", &key]);
        if is_there {
            stage.server.ask(&["RENAME", "aside", &key]);
        }
        let [_, _, bury] = verdicts;
        for answer in consumer.settle(&[Settlement::new(delivery.receipt, bury)]).await {
            answer.map_err(|error| format!("{kind}: the claim did not outlast it: {error:?}"))?;
        }
        consumer.stop().await?;
    }
    ensure!(broker.dead_jobs().ok_or("no dead jobs")?.purge().await? == 8, "not all are dead");
    all_done(&broker).await?;
    Ok(Played::Done)
}

/// The keys that say who lives. A session whose own key is gone takes another and goes on.
pub(crate) async fn sessions_name_the_key_and_go_on_when_it_is_gone() -> Outcome {
    let stage = Stage::new();
    let broker = stage.options().lease(Duration::from_secs(1)).open().await?;
    let client = Client::new(broker.clone());
    for key in ["goose:{default}:leases", "goose:served"] {
        stage.server.ask(&["SET", key, "something else"]);
        check(&consume(&broker, "default").await.err().ok_or("a session was opened")?, key)?;
        stage.server.ask(&["DEL", key]);
    }
    let worker = stage.worker(&broker).start().await?;
    stage.have_run(PATIENCE, &[client.perform_async(Chore::default()).await?]).await?;
    for key in ["goose:{default}:leases".to_owned(), keys(&stage.server, "goose:{default}:claims:*").join("")] {
        // Nothing is running, for with the claims goes what is claimed.
        all_done(&broker).await?;
        // In one step: a heartbeat that finds nothing makes a new session, with another key.
        stage.server.ask(&["SET", &key, "something else"]);
        until(PATIENCE, "the heartbeat says what is wrong", async || {
            let health = worker.health();
            let errors = health.loops.iter().filter_map(|part| part.health.last_error.as_deref());
            Ok(errors.into_iter().any(|error| error.contains(&key)))
        })
        .await?;
        stage.server.ask(&["DEL", &key]);
        stage.have_run(PATIENCE, &[client.perform_async(Chore::default()).await?]).await?;
        until(PATIENCE, "it is healthy again", async || Ok(worker.health().is_healthy())).await?;
    }
    worker.stop().await?;
    all_done(&broker).await?;
    Ok(Played::Done)
}
