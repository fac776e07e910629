//! Jobs by their id where there are many live workers: no script asks all of them.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::Duration;

use goose_core::broker::{Broker, Consumer, ConsumerOptions, QueueSet, Settlement, Verdict};
use goose_core::{Job, JobId, JobName, Payload, QueueName};
use goose_redis::RedisBroker;
use goose_services::Server;

const SESSIONS: u32 = 3_000;

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::new("q").unwrap(), Payload::message_pack(vec![1]))
}

/// Sessions that hold nothing, and do not end while the test runs.
fn crowd(server: &Server) {
    let open = "for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], '9000000000000', string.format('%032d', i)) end";
    server.ask(&["EVAL", open, "1", "goose:{q}:leases", &SESSIONS.to_string()]);
}

async fn consume(broker: &RedisBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::strict(["q"]).unwrap(), 1)).await.unwrap()
}

async fn one(consumer: &dyn Consumer) -> goose_core::broker::Delivery {
    tokio::time::timeout(Duration::from_secs(20), consumer.fetch(1)).await.expect("a job").unwrap().remove(0)
}

/// The most words that one script call had.
fn longest_call(server: &Server) -> usize {
    let log = server.ask(&["SLOWLOG", "GET", "10000"]);
    // All but the first thirty are told by their number.
    let more = log.lines().filter_map(|line| line.strip_prefix("... (")?.split(' ').next()?.parse::<usize>().ok());
    more.max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_script_asks_all_of_many_sessions() {
    let server = Server::with(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000"]);
    let broker = RedisBroker::connect(&server.url()).await.unwrap();
    crowd(&server);
    let jobs: Vec<Job> = (0..4).map(|_| job()).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    broker.enqueue(jobs).await.unwrap();
    let consumer = consume(&broker).await;
    let held = one(&*consumer).await;
    assert_eq!(held.job.id, ids[0]);
    let enqueued = broker.enqueued_jobs().unwrap();
    assert!(enqueued.find_by_id(ids[0]).await.unwrap().is_none(), "it is claimed");
    assert!(!enqueued.delete(ids[0]).await.unwrap() && !enqueued.prioritise(ids[0]).await.unwrap());
    assert_eq!(enqueued.find_by_id(ids[1]).await.unwrap().unwrap().id, ids[1]);
    assert!(enqueued.prioritise(ids[3]).await.unwrap());
    assert!(enqueued.delete(ids[1]).await.unwrap() && !enqueued.delete(ids[1]).await.unwrap());
    for id in [ids[3], ids[2]] {
        let next = one(&*consumer).await;
        assert_eq!(next.job.id, id);
        consumer.settle(&[Settlement::new(next.receipt, Verdict::Done)]).await.remove(0).unwrap();
    }
    consumer.settle(&[Settlement::new(held.receipt, Verdict::Done)]).await.remove(0).unwrap();
    assert_eq!(server.ask(&["HLEN", "goose:{q}:jobs"]), "0");
    let longest = longest_call(&server);
    assert!(longest > 400 && longest < 600, "a call of {longest} words");
}

/// A claim between the steps of a search ends it, and one of another job does not: it comes to its end however much is going on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_ends_with_the_claim_of_its_job_and_of_no_other() {
    const SEEK: &str = include_str!("../src/scripts/seek.lua");
    const ONE_READY: &str = include_str!("../src/scripts/one_ready.lua");
    let server = Server::start();
    let broker = RedisBroker::connect(&server.url()).await.unwrap();
    let consumer = consume(&broker).await;
    let jobs: Vec<Job> = (0..3).map(|_| job()).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    broker.enqueue(jobs).await.unwrap();
    let run = |script: &str, kinds: &[&str], args: &[&[u8]]| {
        let (count, keys) = (kinds.len().to_string(), kinds.iter().map(|kind| format!("goose:{{q}}:{kind}")));
        let keys: Vec<String> = keys.collect();
        let mut words: Vec<&[u8]> = vec![b"EVAL", script.as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend(args);
        server.ask(&words)
    };
    let seek = |id: JobId, name: &[u8; 8]| run(SEEK, &["jobs", "scheduled", "dead", "meta"], &[id.as_bytes(), name]);
    let delete = |id: JobId, name: &[u8; 8]| {
        let kinds = ["jobs", "ready", "scheduled", "dead", "leases", "meta", "wake", "recoveries"];
        run(ONE_READY, &kinds, &[b"d", id.as_bytes(), b"xy", name])
    };
    for (id, name) in [(ids[0], b"search-a"), (ids[1], b"search-b"), (ids[2], b"search-c")] {
        assert_eq!(seek(id, name), "1");
    }
    assert_eq!(one(&*consumer).await.job.id, ids[0]);
    assert_eq!(delete(ids[0], b"search-a"), "2", "it was claimed meanwhile");
    assert!(delete(ids[1], b"search-b").starts_with('1'), "another was claimed");
    assert_eq!(delete(ids[2], b"search-b"), "2", "the search of another job");
    assert_eq!(one(&*consumer).await.job.id, ids[2]);
    assert_eq!(delete(ids[2], b"search-c"), "2");
    assert_eq!(server.ask(&["HEXISTS", "goose:{q}:meta", "sought"]), "0", "nothing is left of them");
    assert_eq!(seek(JobId::new(), b"search-d"), "0");
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

/// Of those that died together one beat tells a thousand, and the rest is shared out among those that live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_shares_out_those_that_are_late() {
    const BEAT: &str = include_str!("../src/scripts/beat.lua");
    let server = Server::start();
    let fill = "for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], ARGV[2], ARGV[2] .. i) end";
    for (late, live, share) in [(1000, 3, 0), (1001, 1, 1), (1700, 7, 100), (2001, 99, 11)] {
        server.ask(&["DEL", "leases", "claims"]);
        server.ask(&["EVAL", fill, "1", "leases", &late.to_string(), "1000"]);
        // And the one that beats.
        server.ask(&["EVAL", fill, "1", "leases", &(live - 1).to_string(), "9000000000000"]);
        server.ask(&["HSET", "claims", "", "alive"]);
        let beat = ["EVAL", BEAT, "2", "leases", "claims", "me", "6000"];
        let answer = server.ask(&beat);
        assert_eq!(answer.lines().nth(2).unwrap(), share.to_string(), "{late} late, {live} live");
    }
}
