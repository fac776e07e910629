//! A worker and a producer of an older version beside those of today, on the same queue: processes are upgraded one after
//! another.
//!
//! The older version is played by its scripts, which `layout1/` keeps as they were. Whoever changes what keys hold so that
//! these do not work any more must raise the layout, see `connection/preflight.rs`, and begin another folder.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::Duration;

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, Settlement, Verdict};
use goose_core::{Job, JobId, JobName, Payload, QueueName, codec};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::Server;

const OPEN: &str = include_str!("layout1/open.lua");
const BEAT: &str = include_str!("layout1/beat.lua");
const ENQUEUE: &str = include_str!("layout1/enqueue.lua");
const FETCH: &str = include_str!("layout1/fetch.lua");
const SETTLE: &str = include_str!("layout1/settle.lua");
const STOP: &str = include_str!("layout1/stop.lua");

/// The process of an older version.
struct Older<'a> {
    server: &'a Server,
    session: &'static str,
}

impl Older<'_> {
    /// Runs a script as that version does, by its hash.
    fn run(&self, script: &str, keys: &[&str], args: &[&[u8]]) -> String {
        let sha = self.server.ask(&["SCRIPT", "LOAD", script]);
        let keys: Vec<String> = keys.iter().map(|key| format!("goose:{{q}}:{key}")).collect();
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", sha.as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend(args);
        let answer = self.server.ask(&words);
        assert!(!answer.starts_with('-'), "{answer}");
        answer
    }

    fn claims(&self) -> String {
        format!("claims:{}", self.session)
    }

    fn open(&self, lease_ms: &str) {
        let description = format!("{:<80}", "0 1 0 old");
        let args = [self.session.as_bytes(), lease_ms.as_bytes(), description.as_bytes()];
        self.run(OPEN, &["leases", &self.claims()], &args);
    }

    /// Whether it lives, to its knowledge.
    fn beat(&self, lease_ms: &str) -> bool {
        let answer = self.run(BEAT, &["leases", &self.claims()], &[self.session.as_bytes(), lease_ms.as_bytes()]);
        answer.lines().nth(1) == Some("1")
    }

    /// Claims one job under this token, which has 17 signs.
    fn fetch(&self, token: &str) -> String {
        let claims = self.claims();
        let keys = ["jobs", "ready", "scheduled", "wake", "meta", "recoveries", &claims];
        self.run(FETCH, &keys, &[b"1", token.as_bytes(), b"6000", b"5500", b"1"])
    }

    /// Ends a claim with success; whether it held.
    fn done(&self, id: JobId, token: &str) -> bool {
        let mut name = id.as_bytes().to_vec();
        name.extend(format!("{token}0001").bytes());
        let claims = self.claims();
        let keys = [&claims, "jobs", "ready", "scheduled", "dead", "epitaphs", "recoveries", "meta", "wake"];
        self.run(SETTLE, &keys, &[&name]) == "1"
    }

    fn stop(&self) {
        let keys = ["leases", &self.claims(), "ready", "scheduled", "wake", "meta"];
        self.run(STOP, &keys, &[self.session.as_bytes()]);
    }
}

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]))
}

fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

async fn consume(broker: &RedisBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::strict([queue()]).unwrap(), 10)).await.unwrap()
}

async fn next(consumer: &dyn Consumer) -> Delivery {
    let fetched = tokio::time::timeout(Duration::from_secs(20), consumer.fetch(1)).await;
    fetched.expect("a job").unwrap().remove(0)
}

async fn done(consumer: &dyn Consumer, delivery: &Delivery) {
    let ends = [Settlement::new(delivery.receipt, Verdict::Done)];
    assert!(consumer.settle(&ends).await.iter().all(Result::is_ok));
}

async fn is_consistent(broker: &RedisBroker) {
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_and_this_one_work_on_one_queue() {
    let server = Server::start();
    let newer = RedisOptions::new(server.url()).lease(Duration::from_secs(1)).open().await.unwrap();
    let older = Older { server: &server, session: "0123456789abcdef0123456789abcdef" };

    // The newer one enqueues, the older one works.
    let (first, second) = (job(), job());
    let ids = [first.id, second.id];
    newer.enqueue(vec![first, second]).await.unwrap();
    older.open("60000");
    assert!(older.beat("60000"));
    older.fetch("0000000000000001.");
    is_consistent(&newer).await;
    assert!(older.done(ids[0], "0000000000000001."));
    assert!(!older.done(ids[0], "0000000000000001."), "it ends once");
    is_consistent(&newer).await;

    // The older one enqueues, the newer one works: in line after the second.
    let third = job();
    let mut value = vec![0, 1, 2, 0, 0, 0, 0, 0, 0];
    value.extend(codec::encode(&third));
    older.run(ENQUEUE, &["jobs", "ready", "scheduled", "wake", "meta"], &[b"1", third.id.as_bytes(), &value]);
    let consumer = consume(&newer).await;
    for id in [ids[1], third.id] {
        let delivery = next(&*consumer).await;
        assert_eq!(delivery.job.id, id);
        done(&*consumer, &delivery).await;
    }
    is_consistent(&newer).await;

    // The newer one waits, and an enqueue of the older one wakes it.
    let (woken, ()) = tokio::join!(next(&*consumer), async {
        let fourth = job();
        value.truncate(9);
        value.extend(codec::encode(&fourth));
        older.run(ENQUEUE, &["jobs", "ready", "scheduled", "wake", "meta"], &[b"1", fourth.id.as_bytes(), &value]);
    });
    done(&*consumer, &woken).await;
    older.stop();
    consumer.stop().await.unwrap();
    is_consistent(&newer).await;

    // The older one dies with a job, and the newer one recovers it.
    let fifth = job();
    let id = fifth.id;
    newer.enqueue(vec![fifth]).await.unwrap();
    older.open("500");
    older.fetch("0000000000000002.");
    let consumer = consume(&newer).await;
    let recovered = next(&*consumer).await;
    assert_eq!((recovered.job.id, recovered.recoveries), (id, 1));
    assert!(!older.beat("500"), "it is dead");
    assert!(!older.done(id, "0000000000000002."), "its claim is gone");
    done(&*consumer, &recovered).await;
    is_consistent(&newer).await;

    // It knows of no pauses, and does them no harm.
    let pauses = newer.paused_queues().unwrap();
    assert!(pauses.pause(&queue()).await.unwrap());
    newer.enqueue(vec![job()]).await.unwrap();
    older.open("60000");
    older.fetch("0000000000000003.");
    assert_eq!(pauses.list().await.unwrap(), [queue()]);
    assert!(pauses.resume(&queue()).await.unwrap());
    is_consistent(&newer).await;
}

/// Which script runs is said by its hash: both versions of one are on the server at once, and neither gets the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_of_two_versions_are_on_the_server_side_by_side() {
    let server = Server::start();
    let older = server.ask(&["SCRIPT", "LOAD", FETCH]);
    let newer = RedisBroker::connect(&server.url()).await.unwrap();
    let scripts = |line: &str| {
        let stats = server.ask(&["INFO", "memory"]);
        stats.lines().find_map(|found| found.strip_prefix(line)?.parse::<u32>().ok())
    };
    assert_eq!(server.ask(&["SCRIPT", "EXISTS", &older]), "1");
    let count = scripts("number_of_cached_scripts:").unwrap();
    // Loaded again, nothing is new: the newer program did not replace what it found.
    server.ask(&["SCRIPT", "LOAD", FETCH]);
    assert_eq!(scripts("number_of_cached_scripts:").unwrap(), count);
    newer.enqueue(vec![job()]).await.unwrap();
    let consumer = consume(&newer).await;
    let delivery = next(&*consumer).await;
    done(&*consumer, &delivery).await;
}
