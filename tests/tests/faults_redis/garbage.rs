//! Bytes that are no job, and lists that name nothing.

use goose_client::Client;
use goose_core::broker::capability::DeadContent;
use goose_core::broker::{Broker, DeathCause};
use goose_core::{JobId, QueueName, codec};

use crate::stage::{Chore, PATIENCE, Stage, all_done, in_order, ready, until};
use crate::{Outcome, Played, ensure};

const JOBS: &str = "goose:{default}:jobs";
const READY: &str = "goose:{default}:ready";
const SCHEDULED: &str = "goose:{default}:scheduled";

/// What is no job ends among the dead with its bytes as they were; what is one runs.
pub(crate) async fn what_cannot_be_decoded_dies_with_its_bytes() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::new(broker.clone());
    let envelope = codec::encode(&client.job(Chore::default()).build()?);
    let mut newer = envelope.clone();
    // The first element of the envelope is its version.
    let version = newer.iter().position(|byte| *byte == 1).ok_or("no version")?;
    newer[version] = 0x7F;
    let bad = [
        b"garbage".to_vec(),
        Vec::new(),
        vec![0xFF; 100_000],
        envelope[..envelope.len() / 2].to_vec(),
        envelope[..1].to_vec(),
        newer,
    ];
    let mut bad: Vec<(JobId, Vec<u8>)> = bad.into_iter().map(|bytes| (JobId::new(), bytes)).collect();
    let mut good = client.perform_bulk((0..10).map(|_| Chore::default())).await?.into_result()?;
    for (id, bytes) in &bad {
        broker.enqueue_raw(&QueueName::default(), *id, bytes.clone()).await?;
    }
    // One that lacks even what scripts read, put there by hand. Its entry in line has the two bytes of its generation.
    let (short, bytes) = (JobId::new(), b"abc".to_vec());
    stage.server.ask(&[b"HSET", JOBS.as_bytes(), short.as_bytes(), &bytes]);
    stage.server.ask(&[b"RPUSH", READY.as_bytes(), &[short.as_bytes(), &bytes[1..]].concat()]);
    bad.push((short, bytes));
    good.extend(client.perform_bulk((0..10).map(|_| Chore::default())).await?.into_result()?);
    in_order(&broker).await?;

    let worker = stage.worker(&broker).start().await?;
    stage.have_run(PATIENCE, &good).await?;
    let dead = broker.dead_jobs().ok_or("no dead jobs")?;
    until(PATIENCE, "all of them are dead", async || Ok(dead.size().await? == bad.len() as u64)).await?;
    for (id, bytes) in &bad {
        let job = dead.find_by_id(*id).await?.ok_or("one is not dead")?;
        ensure!(job.reason.cause == DeathCause::Undecodable, "{}", job.reason);
        match job.content {
            DeadContent::Undecodable(kept) => ensure!(kept == *bytes, "{} bytes became {}", bytes.len(), kept.len()),
            DeadContent::Job(job) => return Err(format!("{bytes:?} was read as {job:?}").into()),
        }
        ensure!(!dead.replay(*id).await?, "it was made to run again");
    }
    worker.stop().await?;
    in_order(&broker).await?;
    ensure!(dead.purge().await? == bad.len() as u64, "they cannot be removed");
    all_done(&broker).await?;
    Ok(Played::Done)
}

/// Entries without jobs, jobs without entries, and things that are not even ids: work goes on, and the check tells.
pub(crate) async fn keys_that_were_edited_by_hand() -> Outcome {
    let stage = Stage::new();
    let broker = stage.broker().await?;
    let client = Client::new(broker.clone());
    let mut good = client.perform_bulk((0..5).map(|_| Chore::default())).await?.into_result()?;
    // An entry whose job is gone, entries that are no ids, in both lists.
    let gone = client.perform_async(Chore::default()).await?;
    stage.server.ask(&[b"HDEL", JOBS.as_bytes(), gone.as_bytes()]);
    for entry in [&b""[..], b"x", &[0xFF; 18], &[7; 1000]] {
        stage.server.ask(&[b"RPUSH", READY.as_bytes(), entry]);
        stage.server.ask(&[b"ZADD", SCHEDULED.as_bytes(), b"1", entry]);
    }
    // Something stored under what is no id, and named in the lists.
    for field in [&b"y"[..], b"a longer name than an id has"] {
        stage.server.ask(&[b"HSET", JOBS.as_bytes(), field, b"\0\0"]);
        stage.server.ask(&[b"ZADD", SCHEDULED.as_bytes(), b"1", field]);
    }
    stage.server.ask(&["SADD", "goose:queues", "no {name} for a queue", "\n"]);
    stage.server.ask(&["SADD", "goose:served", "no {name} for a queue", "\n"]);
    good.extend(client.perform_bulk((0..5).map(|_| Chore::default())).await?.into_result()?);
    let complaints = broker.check_consistency().await?;
    ensure!(!complaints.is_empty(), "the check finds nothing wrong");

    let worker = stage.worker(&broker).start().await?;
    stage.have_run(PATIENCE, &good).await?;
    for _ in 0..3 {
        let id = client.perform_async(Chore::default()).await?;
        stage.have_run(PATIENCE, &[id]).await?;
        ensure!(worker.health().is_healthy(), "{:?}", worker.health());
    }
    until(PATIENCE, "nothing is in line", async || Ok(ready(&broker).await? == 0)).await?;
    worker.stop().await?;
    ensure!(stage.runs.doubles().is_empty() && stage.runs.count() == 13, "{} ran", stage.runs.count());
    let complaints = broker.check_consistency().await?;
    // What is stored under no id is named nowhere now, and is left to whoever put it there.
    ensure!(complaints.len() == 1 && complaints[0].contains("2 jobs are stored"), "{complaints:?}");

    // A job that is named nowhere does no harm and is told of.
    let lonely = JobId::new();
    stage.server.ask(&[b"HSET", JOBS.as_bytes(), lonely.as_bytes(), b"123456789"]);
    let complaints = broker.check_consistency().await?;
    ensure!(complaints.iter().any(|complaint| complaint.contains("stored")), "{complaints:?}");
    Ok(Played::Done)
}
