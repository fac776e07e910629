//! Several fetches of a session on their way at once.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::{Duration, Instant};

use goose_core::broker::{Broker, Consumer, ConsumerOptions, QueueSet};
use goose_core::{Job, JobId, JobName, Payload, QueueName};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Proxy, Server, eventually};

fn jobs(count: usize) -> (Vec<Job>, Vec<JobId>) {
    let job = || Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]));
    let jobs: Vec<Job> = (0..count).map(|_| job()).collect();
    let ids = jobs.iter().map(|job| job.id).collect();
    (jobs, ids)
}

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

async fn connect(server: &Server) -> RedisBroker {
    RedisBroker::connect(&server.url()).await.unwrap()
}

async fn consume(broker: &RedisBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::strict([queue()]).unwrap(), 10)).await.unwrap()
}

/// The ids of the jobs of one fetch, which brings so many.
async fn fetched(consumer: &dyn Consumer, up_to: usize, count: usize) -> Vec<JobId> {
    let ids = some(consumer, up_to).await;
    assert_eq!(ids.len(), count);
    ids
}

/// The ids of the jobs of one fetch.
async fn some(consumer: &dyn Consumer, up_to: usize) -> Vec<JobId> {
    let fetched = tokio::time::timeout(Duration::from_secs(20), consumer.fetch(up_to)).await;
    fetched.expect("jobs").unwrap().into_iter().map(|delivery| delivery.job.id).collect()
}

/// Waits until so many jobs are in line.
async fn until_in_line(broker: &RedisBroker, count: u64, why: &str) {
    let (enqueued, queue, begun) = (broker.enqueued_jobs().unwrap(), queue(), Instant::now());
    while enqueued.size(&queue).await.unwrap() != count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{why}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fetches until what is waited for has come, and then no more: the answer is still on its way.
async fn given_up_when(consumer: &dyn Consumer, up_to: usize, claimed: impl Future<Output = ()>) {
    tokio::select! {
        () = claimed => {}
        early = consumer.fetch(up_to) => panic!("answered before the jobs were seen claimed: {early:?}"),
    }
}

/// Where jobs keep coming, a large fetch is two calls that travel together. What the second brings when nobody asks any more
/// goes back in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_overlap_and_what_nobody_takes_goes_back() {
    let server = Server::start();
    let link = Proxy::to(server.port());
    let (near, far) = (connect(&server).await, RedisBroker::connect(&link.url()).await.unwrap());
    let (jobs, ids) = jobs(500);
    near.enqueue(jobs).await.unwrap();
    let consumer = consume(&far).await;
    assert_eq!(fetched(&*consumer, 100, 100).await, ids[..100]);
    link.delay(Duration::from_millis(500));
    let mut came = some(&*consumer, 200).await;
    let first = Instant::now();
    // They may come together, too.
    while came.len() < 200 {
        came.extend(some(&*consumer, 200 - came.len()).await);
    }
    assert_eq!(came, ids[100..300]);
    assert!(first.elapsed() < Duration::from_millis(800), "{:?} after the first, of 1 s for a call", first.elapsed());

    link.delay(Duration::from_millis(50));
    given_up_when(&*consumer, 100, until_in_line(&near, 100, "two fetches have not claimed 50 jobs each")).await;
    until_in_line(&near, 200, "jobs that nobody takes are still claimed").await;
    let other = consume(&near).await;
    assert_eq!(fetched(&*other, 200, 200).await, ids[300..]);
    assert_eq!(near.check_consistency().await.unwrap(), Vec::<String>::new());
}

/// What two fetches claim for a session that is being stopped goes back as it stood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_fetches_bring_after_the_end_goes_back_in_order() {
    let server = Server::start();
    let link = Proxy::to(server.port());
    let (near, far) = (connect(&server).await, RedisBroker::connect(&link.url()).await.unwrap());
    let (jobs, ids) = jobs(500);
    near.enqueue(jobs).await.unwrap();
    let consumer = consume(&far).await;
    assert_eq!(fetched(&*consumer, 100, 100).await, ids[..100]);
    link.delay(Duration::from_millis(100));
    given_up_when(&*consumer, 200, until_in_line(&near, 200, "two fetches have not claimed 100 jobs each")).await;
    consumer.stop().await.unwrap();
    until_in_line(&near, 400, "jobs that came after the end are still claimed").await;
    let other = consume(&near).await;
    assert_eq!(fetched(&*other, 250, 250).await, ids[100..350]);
    assert_eq!(near.check_consistency().await.unwrap(), Vec::<String>::new());
}

/// The session goes on, so nobody else would ever take those jobs from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_handed_back_goes_back_later() {
    let server = Server::start();
    let link = Proxy::to(server.port());
    let near = connect(&server).await;
    let far = RedisOptions::new(link.url()).lease(Duration::from_secs(3)).open().await.unwrap();
    let (jobs, _) = jobs(10);
    near.enqueue(jobs).await.unwrap();
    let consumer = consume(&far).await;
    link.delay(Duration::from_millis(100));
    given_up_when(&*consumer, 10, until_in_line(&near, 0, "the jobs were not claimed")).await;
    // The line is empty; a key of another type makes the script fail that puts them back.
    server.ask(&["SET", "goose:{q}:ready", "x"]);
    eventually("a call that fails", || server.ask(&["INFO", "errorstats"]).contains("errorstat_WRONGTYPE"));
    server.ask(&["DEL", "goose:{q}:ready"]);
    until_in_line(&near, 10, "jobs that could not be handed back stay claimed").await;
    assert_eq!(near.check_consistency().await.unwrap(), Vec::<String>::new());
    drop(consumer);
}
