//! The journal on a real server: what outlives workers, programs and the beginning of the stream.

use std::time::{Duration, Instant};

use goose_core::broker::capability::{JobFilter, Page};
use goose_core::broker::{Broker, Consumer, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_core::{JobName, Payload, QueueName, Schedule};
use goose_services::rabbit::Rabbit;

use super::note::Note;
use super::*;
use crate::amqp::Lifetime;
use crate::message::CopyId;
use crate::{RmqBroker, RmqOptions};

fn options(rabbit: &Rabbit, prefix: &str) -> RmqOptions {
    RmqOptions::new(rabbit.url()).prefix(prefix).heartbeat(Duration::from_secs(1))
}

async fn open(rabbit: &Rabbit, prefix: &str) -> RmqBroker {
    options(rabbit, prefix).journal(true).open().await.unwrap()
}

fn queue() -> QueueName {
    QueueName::default()
}

async fn enqueue(broker: &RmqBroker, n: usize) -> Vec<JobId> {
    let job = || Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]));
    let jobs: Vec<Job> = (0..n).map(|_| job()).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    broker.enqueue(jobs).await.unwrap();
    ids
}

async fn listed(broker: &RmqBroker) -> Vec<JobId> {
    let filter = JobFilter::default();
    let page = broker.enqueued_jobs().unwrap().find(&queue(), &filter, Page::first(1_000)).await.unwrap();
    page.items.iter().map(|job| job.id).collect()
}

async fn lists(broker: &RmqBroker, expected: &[JobId]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let listed = listed(broker).await;
        if listed == expected {
            return;
        }
        assert!(Instant::now() < end, "{listed:?} instead of {expected:?}");
    }
}

async fn session(broker: &RmqBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::one(queue()), 10)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server() {
    let rabbit = Rabbit::start();
    a_process_that_was_not_told_keeps_the_journal_too(&rabbit).await;
    what_a_dead_worker_had_is_listed_again(&rabbit).await;
    what_was_never_stored_is_not_listed_for_ever(&rabbit).await;
    a_full_queue_leaves_nothing_in_the_list(&rabbit).await;
    a_queue_that_somebody_has_deleted_is_declared_again(&rabbit).await;
    what_waits_outlives_the_beginning_of_the_stream(&rabbit).await;
}

async fn a_process_that_was_not_told_keeps_the_journal_too(rabbit: &Rabbit) {
    let before = options(rabbit, "told").open().await.unwrap();
    let unlisted = enqueue(&before, 1).await;
    let error = before.enqueued_jobs().unwrap().find_by_id(unlisted[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let told = open(rabbit, "told").await;
    let first = enqueue(&told, 2).await;
    let untold = options(rabbit, "told").open().await.unwrap();
    let second = enqueue(&untold, 2).await;
    let both = [first, second].concat();
    assert_eq!(listed(&told).await, both);
    assert_eq!(listed(&untold).await, both, "it reads it, too");
    // What is not listed is run like the others.
    let session = session(&untold).await;
    let mut ran = Vec::new();
    while ran.len() < 5 {
        ran.extend(session.fetch(10).await.unwrap().into_iter().map(|delivery| delivery.job.id));
    }
    assert!(ran.contains(&unlisted[0]));
    assert_eq!(listed(&told).await, []);
    for broker in [before, told, untold] {
        broker.close().await.unwrap();
    }
}

/// Its session is gone without a word: the server gives its jobs to others, and until somebody takes them they wait.
async fn what_a_dead_worker_had_is_listed_again(rabbit: &Rabbit) {
    let (looker, worker) = (open(rabbit, "dead").await, open(rabbit, "dead").await);
    let ids = enqueue(&looker, 3).await;
    let session = session(&worker).await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(session.fetch(3).await.unwrap());
    }
    let done = Settlement::new(taken[0].receipt, Verdict::Done);
    assert!(session.settle(&[done]).await.iter().all(Result::is_ok));
    assert_eq!(listed(&looker).await, [], "all are run or have been");
    kill(&worker);
    lists(&looker, &ids[1..]).await;
    looker.close().await.unwrap();
}

/// As the system does it.
fn kill(worker: &RmqBroker) {
    let links = &worker.inner.links;
    [&links.publish, &links.control, &links.consume].into_iter().for_each(|link| link.abandon());
}

/// A server that is killed in the middle has the entry and not the job.
async fn what_was_never_stored_is_not_listed_for_ever(rabbit: &Rabbit) {
    let broker = open(rabbit, "ghost").await;
    let ids = enqueue(&broker, 2).await;
    let channel = broker.inner.links.control.channel().await.unwrap();
    let later = Schedule::In(Duration::from_secs(3_600));
    let mut job = Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]));
    job.schedule = later;
    broker.enqueue(vec![job.clone()]).await.unwrap();
    assert_eq!(listed(&broker).await, ids);
    let scheduled = broker.scheduled_jobs().unwrap();
    assert!(scheduled.find_by_id(job.id).await.unwrap().is_some());
    // Behind our back.
    assert_eq!(channel.purge_queue("ghost/v1/queue/default").await.unwrap(), 2);
    assert_eq!(listed(&broker).await, []);
    assert!(!broker.enqueued_jobs().unwrap().delete(ids[0]).await.unwrap());
    assert!(scheduled.find_by_id(job.id).await.unwrap().is_some(), "that was another queue");
    for level in 0..32 {
        channel.purge_queue(&format!("ghost/v1/delay/{level:02}")).await.unwrap();
    }
    assert!(scheduled.find_by_id(job.id).await.unwrap().is_none());
    let more = enqueue(&broker, 1).await;
    assert_eq!(listed(&broker).await, more);
    broker.close().await.unwrap();
}

/// The stream takes an entry that the queue refuses.
async fn a_full_queue_leaves_nothing_in_the_list(rabbit: &Rabbit) {
    rabbit.set_policy("full", "^full/v1/queue/", r#"{"max-length":2,"overflow":"reject-publish"}"#);
    let broker = open(rabbit, "full").await;
    let ids = enqueue(&broker, 2).await;
    let mut refused = 0;
    for _ in 0..5 {
        let job = Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]));
        refused += usize::from(broker.enqueue(vec![job]).await.is_err_and(|error| error.kind() == ErrorKind::Full));
    }
    assert!(refused > 0, "the queue is never full");
    let size = broker.enqueued_jobs().unwrap().size(&queue()).await.unwrap();
    let listed = listed(&broker).await;
    assert_eq!((listed.len() as u64, &listed[..2]), (size, &ids[..]));
    broker.close().await.unwrap();
}

/// What comes to the stream does not come back, though its queue is gone. So that is looked for.
async fn a_queue_that_somebody_has_deleted_is_declared_again(rabbit: &Rabbit) {
    let broker = open(rabbit, "gone").await;
    enqueue(&broker, 1).await;
    let channel = broker.inner.links.control.channel().await.unwrap();
    channel.delete_queue("gone/v1/queue/default").await.unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while broker.enqueued_jobs().unwrap().size(&queue()).await.unwrap() == 0 {
        assert!(Instant::now() < end, "jobs go nowhere");
        enqueue(&broker, 1).await;
    }
    broker.close().await.unwrap();
}

/// The stream is so small that its beginning goes soon.
async fn what_waits_outlives_the_beginning_of_the_stream(rabbit: &Rabbit) {
    let broker = open(rabbit, "cut").await;
    let channel = broker.inner.links.control.channel().await.unwrap();
    let small = stream::arguments(1_000_000, 200_000);
    channel.declare_queue("cut/v1/journal", Lifetime::Durable, &small).await.unwrap();
    let ids = enqueue(&broker, 300).await;
    let late = open(rabbit, "cut").await;
    let notes = Arc::clone(broker.inner.journal.notes());
    let reader = notes.another_reader();
    assert_eq!(notes.keep_by(&reader, 10_000_000, 1_000_000).await.unwrap(), 0, "nothing is old");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < end, "the stream is not cut");
        let said = notes.keep_by(&reader, 300_000, 1_000_000).await.unwrap();
        assert!(said <= 300);
        // Others pass.
        let noise: Vec<_> = (0..20).map(|_| Note::Ended { copies: vec![CopyId(0); 1_000] }.entry()).collect();
        notes.stream().append(&noise).await.into_iter().collect::<std::result::Result<(), _>>().unwrap();
        // The last of them, where they were enqueued.
        if broker.inner.journal.stream().pick(&[320]).await.unwrap().is_empty() {
            break;
        }
    }
    reader.stop();
    assert_eq!(listed(&late).await, ids, "they are all there, in their order");
    for broker in [broker, late] {
        broker.close().await.unwrap();
    }
}
