//! What a pause does on the server, beside what every broker must do.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::{Duration, Instant};

use goose_core::broker::capability::PausedQueues;
use goose_core::broker::{Broker, Consumer, ConsumerOptions, QueueSet};
use goose_core::{Job, JobName, Payload, QueueName, Schedule};
use goose_redis::RedisBroker;
use goose_services::{Proxy, Server, eventually};

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]))
}

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

async fn connect(url: &str) -> RedisBroker {
    RedisBroker::connect(url).await.unwrap()
}

fn pauses(broker: &RedisBroker) -> &dyn PausedQueues {
    broker.paused_queues().unwrap()
}

async fn consume(broker: &RedisBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::strict([queue()]).unwrap(), 10)).await.unwrap()
}

async fn size(broker: &RedisBroker) -> u64 {
    broker.enqueued_jobs().unwrap().size(&queue()).await.unwrap()
}

/// A field of the queue's counters.
fn meta(server: &Server, field: &str) -> String {
    server.ask(&["HGET", "goose:{q}:meta", field])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_claimed_and_not_fetched_goes_back_before_a_pause_is_answered() {
    let server = Server::start();
    let link = Proxy::to(server.port());
    let (near, far) = (connect(&server.url()).await, connect(&link.url()).await);
    near.enqueue((0..10).map(|_| job()).collect()).await.unwrap();
    let consumer = consume(&far).await;
    // Long enough to see it, and so short that they would not go back by themselves before the pause is answered.
    link.delay(Duration::from_millis(40));
    {
        let begun = Instant::now();
        let claimed = async {
            while size(&near).await > 0 {
                assert!(begun.elapsed() < Duration::from_secs(20), "the jobs were not claimed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = claimed => {}
            early = consumer.fetch(10) => panic!("answered before they were seen claimed: {early:?}"),
        }
    }
    // The answer is on its way, and nobody waits for it. The pause follows it on the same connection.
    assert!(pauses(&far).pause(&queue()).await.unwrap());
    assert_eq!(size(&near).await, 10);
    let nothing = tokio::time::timeout(Duration::from_millis(500), consumer.fetch(10)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(near.check_consistency().await.unwrap(), Vec::<String>::new());
    assert!(pauses(&near).resume(&queue()).await.unwrap());
    let resumed = tokio::time::timeout(Duration::from_secs(3), consumer.fetch(10)).await;
    assert_eq!(resumed.expect("a resume wakes").unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_into_a_paused_queue_wakes_nobody() {
    let server = Server::start();
    let broker = connect(&server.url()).await;
    let marker = || server.ask(&["EXISTS", "goose:{q}:wake"]);
    broker.enqueue(vec![job()]).await.unwrap();
    assert_eq!(marker(), "1");
    assert!(pauses(&broker).pause(&queue()).await.unwrap());
    assert_eq!(marker(), "0");
    let mut later = job();
    later.schedule = Schedule::In(Duration::from_secs(600));
    broker.enqueue(vec![job(), later]).await.unwrap();
    assert_eq!(marker(), "0");
    assert!(pauses(&broker).resume(&queue()).await.unwrap());
    assert_eq!(marker(), "1");
}

/// One idle worker sets its timer to the next due job. Who it is must be agreed upon anew: during the pause it may have asked
/// and been told of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_due_after_a_pause_comes_in_time() {
    let server = Server::start();
    let broker = connect(&server.url()).await;
    let consumer = consume(&broker).await;
    let begun = Instant::now();
    let mut later = job();
    later.schedule = Schedule::In(Duration::from_secs(2));
    let test = async {
        broker.enqueue(vec![later]).await.unwrap();
        eventually("somebody who wakes at its time", || meta(&server, "watch").contains("claims"));
        assert!(pauses(&broker).pause(&queue()).await.unwrap());
        assert!(!meta(&server, "watch").contains("claims"));
        // Whatever wakes a worker now, it is not told of a time.
        server.ask(&["ZADD", "goose:{q}:wake", "0", "1"]);
        eventually("a worker that wakes", || server.ask(&["ZCARD", "goose:{q}:wake"]) == "0");
        assert!(pauses(&broker).resume(&queue()).await.unwrap());
    };
    let (fetched, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), consumer.fetch(1)), test);
    assert_eq!(fetched.expect("a job").unwrap().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?} for a job due after 2 s", begun.elapsed());
}

/// When nothing fits any more, a pause may be what somebody needs first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_lets_queues_be_paused() {
    let server = Server::start();
    let broker = connect(&server.url()).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(broker.enqueue(vec![job()]).await.is_err(), "the server is not full");
    assert!(pauses(&broker).pause(&queue()).await.unwrap());
    assert_eq!(pauses(&broker).list().await.unwrap(), [queue()]);
    assert!(pauses(&broker).resume(&queue()).await.unwrap());
    assert_eq!(pauses(&broker).list().await.unwrap(), []);
}
