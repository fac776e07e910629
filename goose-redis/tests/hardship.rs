//! What goes on when keys were damaged by hand, settings are at their limits, or a worker leaves.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::{Duration, Instant};

use goose_core::broker::capability::{JobFilter, Page};
use goose_core::broker::{
    Broker, Consumer, ConsumerOptions, DeathCause, DeathReason, Delivery, QueueSet, Settlement, Verdict,
};
use goose_core::{ErrorKind, Job, JobId, JobName, Payload, QueueName, Schedule, Timestamp};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Proxy, Server, eventually};

fn job(queue: &str) -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::new(queue).unwrap(), Payload::message_pack(vec![1]))
}

fn job_at(queue: &str, schedule: Schedule) -> Job {
    let mut job = job(queue);
    job.schedule = schedule;
    job
}

async fn connect(server: &Server) -> RedisBroker {
    RedisBroker::connect(&server.url()).await.unwrap()
}

async fn consume(broker: &RedisBroker, queues: &[&str]) -> Box<dyn Consumer> {
    let queues = QueueSet::strict(queues.iter().copied()).unwrap();
    broker.consume(ConsumerOptions::new(queues, 10)).await.unwrap()
}

/// The next job, which is there or comes soon.
async fn one(consumer: &dyn Consumer) -> Delivery {
    let fetched = tokio::time::timeout(Duration::from_secs(10), consumer.fetch(1)).await;
    fetched.expect("a job").unwrap().remove(0)
}

/// Whether the server blocks so many clients for us.
fn waiting(server: &Server, n: usize) -> bool {
    server.ask(&["INFO", "clients"]).contains(&format!("blocked_clients:{n}\r"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shortest_command_timeout_works() {
    let server = Server::start();
    let broker = RedisOptions::new(server.url()).command_timeout(Duration::from_millis(100)).open().await.unwrap();
    let consumer = consume(&broker, &["q"]).await;
    broker.enqueue(vec![job("q")]).await.unwrap();
    assert_eq!(consumer.fetch(1).await.unwrap().len(), 1);
}

/// The one that leaves was first in line for the next marker, and takes none along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leaving_worker_hands_back_wakes_one_that_stays() {
    let server = Server::start();
    for round in 0..20 {
        let queue = format!("q{round}");
        let (leaving, staying) = (connect(&server).await, connect(&server).await);
        let consumer = consume(&leaving, &[&queue]).await;
        leaving.enqueue(vec![job(&queue)]).await.unwrap();
        let held = consumer.fetch(1).await.unwrap();
        // Polled until it blocks on the server, then given up, as a worker does that stops.
        let mut wait = consumer.fetch(1);
        while !waiting(&server, 1) {
            tokio::select! {
                fetched = &mut wait => panic!("nothing was there to be fetched: {fetched:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        let other = consume(&staying, &[&queue]).await;
        let other = tokio::spawn(async move { other.fetch(1).await.map(|fetched| (fetched.len(), Instant::now())) });
        eventually("both block", || waiting(&server, 2));
        drop(wait);
        let begun = Instant::now();
        consumer.settle(&[Settlement::new(held[0].receipt, Verdict::Release)]).await[0].as_ref().unwrap();
        consumer.stop().await.unwrap();
        let (n, at) = other.await.unwrap().unwrap();
        assert_eq!(n, 1);
        assert!(at - begun < Duration::from_secs(1), "round {round}: {:?}", at - begun);
        leaving.close().await.unwrap();
        staying.close().await.unwrap();
        eventually("all waits are over", || waiting(&server, 0));
    }
}

/// Nor does it take the time of one pool after another, or need timers of the caller's runtime.
#[test]
fn closing_ends_soon_when_the_server_is_away() {
    let mut server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let broker = connect(&server).await;
        let mut pools = Vec::new();
        for _ in 0..4 {
            pools.push(consume(&broker, &["q", "r"]).await);
        }
        server.kill();
        let begun = Instant::now();
        broker.close().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_job_whose_bytes_are_gone_can_be_seen_and_removed() {
    let server = Server::start();
    let broker = connect(&server).await;
    server.ask(&["SADD", "goose:queues", "q"]);
    for id in ["0123456789abcdef", "0123456789abcdeg"] {
        server.ask(&["ZADD", "goose:{q}:dead", "1000000", id]);
    }
    let dead = broker.dead_jobs().unwrap();
    assert_eq!(dead.find(&JobFilter::default(), Page::first(10)).await.unwrap().items.len(), 2);
    let popped = tokio::time::timeout(Duration::from_secs(5), dead.pop()).await.expect("an end").unwrap();
    assert_eq!(popped.unwrap().id, JobId::from_bytes(*b"0123456789abcdef"));
    assert!(dead.delete(JobId::from_bytes(*b"0123456789abcdeg")).await.unwrap());
    assert_eq!(dead.size().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_no_job_id_takes_no_job_along() {
    let server = Server::start();
    let broker = connect(&server).await;
    broker.enqueue(vec![job("q"), job("q")]).await.unwrap();
    server.ask(&["HSET", "goose:{q}:jobs", "abc", "0123456789 and more"]);
    server.ask(&["ZADD", "goose:{q}:scheduled", "1", "abc"]);
    let consumer = consume(&broker, &["q"]).await;
    assert_eq!(consumer.fetch(10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_of_one_queue_does_not_end_the_lease_in_another() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let open = || RedisOptions::new(server.url()).lease(lease).open();
    let (holder, rival) = (open().await.unwrap(), open().await.unwrap());
    let consumer = consume(&holder, &["damaged", "sound"]).await;
    holder.enqueue(vec![job("sound")]).await.unwrap();
    assert_eq!(consumer.fetch(1).await.unwrap().len(), 1);
    server.ask(&["SET", "goose:{damaged}:leases", "a string"]);
    let rival = consume(&rival, &["sound"]).await;
    let taken = tokio::time::timeout(lease * 5, rival.fetch(1)).await;
    assert!(taken.is_err(), "the claim of a live session was taken: {taken:?}");
    let health = consumer.health();
    assert!(health[0].last_error.as_ref().is_some_and(|error| error.contains("damaged")), "{health:?}");
    // Nor does it keep others from recovering what is lost in sound ones.
    #[cfg(feature = "fault-injection")]
    {
        holder.abandon().await;
        let taken = tokio::time::timeout(lease * 5, rival.fetch(1)).await.expect("a recovery").unwrap();
        assert_eq!(taken[0].recoveries, 1);
    }
}

/// A whole data centre goes: the last of its workers is found as soon as the first.
#[cfg(feature = "fault-injection")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_that_die_together_are_recovered_together() {
    const DEAD: usize = 500;
    let server = Server::start();
    let open = || RedisOptions::new(server.url()).lease(Duration::from_millis(1800)).open();
    let (doomed, live) = (open().await.unwrap(), open().await.unwrap());
    let mut sessions = Vec::new();
    for _ in 0..DEAD {
        sessions.push(consume(&doomed, &["q"]).await);
    }
    doomed.enqueue((0..DEAD).map(|_| job("q")).collect()).await.unwrap();
    for session in &sessions {
        assert_eq!(session.fetch(1).await.unwrap().len(), 1);
    }
    let live = consume(&live, &["q"]).await;
    doomed.abandon().await;
    let mut recovered = live.fetch(DEAD).await.unwrap().len();
    let first = Instant::now();
    while recovered < DEAD {
        recovered += live.fetch(DEAD).await.unwrap().len();
    }
    // In groups of a hundred it would take four times three beats.
    assert!(first.elapsed() < Duration::from_millis(2000), "{:?}", first.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_time_is_not_its_beginning() {
    let server = Server::start();
    let broker = connect(&server).await;
    let jobs = [Schedule::At(Timestamp::MAX), Schedule::In(Duration::MAX)].map(|schedule| job_at("q", schedule));
    broker.enqueue(jobs.to_vec()).await.unwrap();
    let found = broker.scheduled_jobs().unwrap().find(&JobFilter::default(), Page::first(10)).await.unwrap();
    assert_eq!(found.items.len(), 2);
    assert!(found.items.iter().all(|found| found.due_at > Timestamp::from_millis(1 << 60)), "{:?}", found.items);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_job_that_cannot_be_decoded_can_be_deleted() {
    let server = Server::start();
    let broker = connect(&server).await;
    let job = job_at("q", Schedule::In(Duration::from_secs(3600)));
    let id = job.id;
    broker.enqueue(vec![job]).await.unwrap();
    let damage = "redis.call('HSET', KEYS[1], redis.call('HKEYS', KEYS[1])[1], '0123456789')";
    server.ask(&["EVAL", damage, "1", "goose:{q}:jobs"]);
    let scheduled = broker.scheduled_jobs().unwrap();
    assert!(scheduled.find_by_id(id).await.is_err());
    assert!(scheduled.delete(id).await.unwrap());
    assert_eq!(scheduled.size().await.unwrap(), 0);
}

/// What was fine when the broker was opened need not be after a failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_of_lost_connections_and_of_a_server_that_would_lose_jobs() {
    let server = Server::start();
    let broker = connect(&server).await;
    let consumer = consume(&broker, &["q"]).await;
    let connection = || consumer.health().into_iter().find(|health| health.name == "connection").unwrap();
    assert_eq!((connection().restarts, connection().last_error), (0, None));
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    eventually("both connections are made again", || connection().restarts >= 2 && !connection().is_stalled());
    eventually("the policy is seen", || connection().last_error.is_some_and(|error| error.contains("allkeys-lru")));
}

/// Prioritising gives a job another generation than the entry it leaves behind has, also by chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prioritised_job_stands_in_line_once() {
    let server = Server::start();
    let broker = connect(&server).await;
    let job = job("q");
    let id = job.id;
    broker.enqueue(vec![job]).await.unwrap();
    let script = include_str!("../src/scripts/one_ready.lua");
    // With the generation that the job has.
    let same = "local value = redis.call('HVALS', KEYS[1])[1] \
                local ARGV = { 'p', redis.call('HKEYS', KEYS[1])[1], string.sub(value, 2, 3), '' }\n";
    let mut words = vec!["EVAL".to_owned(), format!("{same}{script}"), "8".to_owned()];
    let kinds = ["jobs", "ready", "scheduled", "dead", "leases", "meta", "wake", "recoveries"];
    words.extend(kinds.map(|kind| format!("goose:{{q}}:{kind}")));
    server.ask(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.ask(&["LLEN", "goose:{q}:ready"]), "2");
    let consumer = consume(&broker, &["q"]).await;
    let fetched = consumer.fetch(10).await.unwrap();
    assert_eq!(fetched.iter().map(|delivery| delivery.job.id).collect::<Vec<_>>(), [id]);
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

/// A job that died in its retry queue is put into its own, and then taken away where it was. A quick worker may have it fail
/// again before that: it comes back to where it was dead, and may be dead there once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_workers_overtake_loses_no_job() {
    for dies_again in [false, true] {
        let server = Server::start();
        let link = Proxy::to(server.port());
        let (broker, slow) = (connect(&server).await, RedisBroker::connect(&link.url()).await.unwrap());
        let (own, retry) = (consume(&broker, &["q"]).await, consume(&broker, &["retry"]).await);
        let mut job = job("q");
        job.retry.retry_queue = Some(QueueName::new("retry").unwrap());
        let id = job.id;
        let fail = async || {
            let fetched = one(&*own).await;
            let mut job = Job::clone(&fetched.job);
            job.attempts.retry_count = 1;
            let verdict = Verdict::Retry { job: Box::new(job), delay: Duration::ZERO };
            own.settle(&[Settlement::new(fetched.receipt, verdict)]).await.remove(0).unwrap();
        };
        let die = async || {
            let fetched = one(&*retry).await;
            let (job, reason) = (Box::new(Job::clone(&fetched.job)), DeathReason::new(DeathCause::Buried, "no use"));
            retry.settle(&[Settlement::new(fetched.receipt, Verdict::Bury { job, reason })]).await.remove(0).unwrap();
        };
        broker.enqueue(vec![job]).await.unwrap();
        fail().await;
        die().await;
        // Between the steps of the replay is more time than the worker needs.
        link.delay(Duration::from_millis(300));
        let replay = tokio::spawn(async move { slow.dead_jobs().unwrap().replay(id).await });
        fail().await;
        if dies_again {
            die().await;
        }
        assert!(!replay.is_finished(), "the worker was not quick enough for this test");
        assert!(replay.await.unwrap().unwrap());
        let dead = broker.dead_jobs().unwrap();
        assert_eq!(dead.find_by_id(id).await.unwrap().is_some(), dies_again);
        if !dies_again {
            assert_eq!(one(&*retry).await.job.id, id);
        }
        assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
    }
}

/// Many callers share calls; while the server is away a call takes its whole time, and they must not wait for each
/// other's one after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_wait_for_the_failed_calls_of_all_before_them() {
    let server = Server::start();
    let limit = Duration::from_millis(300);
    let broker = RedisOptions::new(server.url()).command_timeout(limit).open().await.unwrap();
    broker.enqueue(vec![job("q")]).await.unwrap();
    server.pause();
    let begun = Instant::now();
    let calls: Vec<_> = (0..3_000)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.enqueue(vec![job("q")]).await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{error:#}");
    }
    assert!(begun.elapsed() < limit * 4, "the last of them waited {:?}", begun.elapsed());
    server.resume();
    broker.enqueue(vec![job("q")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_newer_goose_are_left_alone() {
    let server = Server::start();
    connect(&server).await.enqueue(vec![job("q")]).await.unwrap();
    assert_eq!(server.ask(&["HGET", "goose:{about}:about", "layout"]), "1");
    server.ask(&["HSET", "goose:{about}:about", "layout", "2"]);
    let error = RedisBroker::connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("stored by a newer goose (layout 2 in goose:{about}:about"), "{error}");
    assert!(error.to_string().contains("update this program"), "{error}");
    RedisOptions::new(server.url()).prefix("other").open().await.unwrap();
}

/// Scripts the server has run for anybody.
fn scripts(server: &Server) -> u32 {
    let stats = server.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_jobs_take_few_calls_whether_they_come_together_or_one_by_one() {
    let server = Server::start();
    // Heartbeats are not what is counted.
    let broker = RedisOptions::new(server.url()).lease(Duration::from_secs(600)).open().await.unwrap();
    let before = scripts(&server);
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.enqueue(vec![job("q")]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let enqueued = scripts(&server) - before;
    assert!(enqueued <= 200, "{enqueued} scripts took in 1,000 jobs of 1,000 callers");

    let queues = QueueSet::strict(["q"]).unwrap();
    let consumer = broker.consume(ConsumerOptions::new(queues, 1_000)).await.unwrap();
    let before = scripts(&server);
    let mut fetched = Vec::new();
    while fetched.len() < 1_000 {
        fetched.extend(consumer.fetch(1_000 - fetched.len()).await.unwrap());
    }
    let ends: Vec<_> = fetched.iter().map(|job| Settlement::new(job.receipt, Verdict::Done)).collect();
    assert!(consumer.settle(&ends).await.iter().all(Result::is_ok));
    let used = scripts(&server) - before;
    // At most 250 a fetch and 300 a settle; some fetches find nothing more.
    assert!(used <= 12, "{used} scripts handed out and ended 1,000 jobs");
}
