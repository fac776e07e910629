//! What one call may take of the server and of the link, and what a loss in one place may take along.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::{Duration, Instant};

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, Settlement, Verdict};
use goose_core::{ErrorKind, Job, JobId, JobName, Payload, QueueName, Schedule};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Cluster, Proxy, Server, eventually};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn job_of(queue: &str, size: usize) -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::new(queue).unwrap(), Payload::message_pack(vec![1; size]))
}

fn job(queue: &str) -> Job {
    job_of(queue, 1)
}

async fn connect(server: &Server) -> RedisBroker {
    RedisBroker::connect(&server.url()).await.unwrap()
}

async fn consume(broker: &RedisBroker, queues: &[&str]) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::strict(queues.iter().copied()).unwrap(), 50)).await.unwrap()
}

async fn fetch(consumer: &dyn Consumer, up_to: usize) -> Vec<Delivery> {
    tokio::time::timeout(PATIENCE, consumer.fetch(up_to)).await.expect("jobs").unwrap()
}

async fn done(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    let ends: Vec<_> = deliveries.iter().map(|delivery| Settlement::new(delivery.receipt, Verdict::Done)).collect();
    assert!(consumer.settle(&ends).await.iter().all(Result::is_ok));
}

/// How often the server ran a command, for anybody.
fn calls(server: &Server, command: &str) -> u32 {
    let (stats, start) = (server.ask(&["INFO", "commandstats"]), format!("cmdstat_{command}:calls="));
    let calls = stats.lines().find_map(|line| line.strip_prefix(&start)?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Fetches and ends so many large jobs over a slow link; answers how often a call timed out.
async fn all_come(jobs: usize, size: usize, rate: u64, limit: Duration) -> u64 {
    let server = Server::start();
    let link = Proxy::to(server.port());
    connect(&server).await.enqueue((0..jobs).map(|_| job_of("q", size)).collect()).await.unwrap();
    let far = RedisOptions::new(link.url()).command_timeout(limit).open().await.unwrap();
    let consumer = consume(&far, &["q"]).await;
    link.rate(rate);
    let (begun, mut left) = (Instant::now(), jobs);
    while left > 0 {
        assert!(begun.elapsed() < PATIENCE, "{left} of {jobs} jobs have not come");
        match tokio::time::timeout(PATIENCE, consumer.fetch(left)).await.expect("an answer") {
            Ok(some) => {
                done(&*consumer, &some).await;
                left -= some.len();
            }
            Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error:#}"),
        }
    }
    consumer.health().iter().map(|health| health.restarts).sum()
}

/// All of them at once would take four seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_no_longer_than_a_slow_link_can_bring() {
    let timed_out = all_come(20, 400_000, 2_000_000, Duration::from_secs(2)).await;
    assert_eq!(timed_out, 0, "connections were given up");
}

/// A few of them take longer than a call may, one does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_jobs_are_asked_for_after_an_answer_that_did_not_come() {
    all_come(6, 200_000, 300_000, Duration::from_secs(1)).await;
}

/// Jobs of all sizes, in line and due: an answer has about a MiB, and at least one job. Their order stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_bounded_in_bytes_and_jobs_keep_their_order() {
    let server = Server::start();
    let broker = connect(&server).await;
    let size = |n: usize| if n % 7 == 3 { 3_000_000 } else { 100_000 };
    let sizes: Vec<usize> = (0..40).map(size).collect();
    for schedule in [Schedule::Now, Schedule::In(Duration::from_millis(1))] {
        let mut ids = Vec::new();
        for size in &sizes {
            let mut job = job_of("q", *size);
            job.schedule = schedule;
            ids.push(job.id);
            broker.enqueue(vec![job]).await.unwrap();
        }
        let consumer = consume(&broker, &["q"]).await;
        let mut came: Vec<JobId> = Vec::new();
        while came.len() < ids.len() {
            let some = fetch(&*consumer, 250).await;
            let bytes: usize = some.iter().map(|delivery| delivery.job.args.bytes.len()).sum();
            assert!(bytes <= (1 << 20) + 3_000_000, "{bytes} bytes in {} jobs", some.len());
            came.extend(some.iter().map(|delivery| delivery.job.id));
            done(&*consumer, &some).await;
        }
        if schedule == Schedule::Now {
            assert_eq!(came, ids);
        }
        consumer.stop().await.unwrap();
        assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
    }
}

/// Each is looked at once, many at a time, and not all of them in one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_are_passed_over_in_parts_and_many_at_a_time() {
    const LEFT: u32 = 20_000;
    let server = Server::start();
    let broker = RedisOptions::new(server.url()).lease(Duration::from_secs(600)).open().await.unwrap();
    let fill = "for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], string.format('%018d', i)) end \
                redis.call('HINCRBY', KEYS[2], 'tombs', ARGV[1])";
    server.ask(&["EVAL", fill, "2", "goose:{q}:ready", "goose:{q}:meta", &LEFT.to_string()]);
    broker.enqueue(vec![job("q"), job("q")]).await.unwrap();
    let consumer = consume(&broker, &["q"]).await;
    let (scripts, pops) = (calls(&server, "evalsha"), calls(&server, "lpop"));
    let first = fetch(&*consumer, 1).await;
    assert_eq!(first.len(), 1);
    let (scripts, pops) = (calls(&server, "evalsha") - scripts, calls(&server, "lpop") - pops);
    assert!(scripts >= LEFT / 1100, "{scripts} scripts passed over {LEFT} leftovers");
    assert!(pops <= LEFT / 20, "{pops} pops for {LEFT} leftovers");
    done(&*consumer, &first).await;
    done(&*consumer, &fetch(&*consumer, 1).await).await;
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

/// One of them is claimed, some are put off for a minute at most, and the rest is for the next calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_does_not_put_off_all_of_many_suspects() {
    const SUSPECTS: usize = 200;
    let server = Server::start();
    let broker = RedisOptions::new(server.url()).lease(Duration::from_secs(600)).open().await.unwrap();
    let suspects = (0..SUSPECTS).map(|_| {
        let mut job = job("q");
        job.schedule = Schedule::In(Duration::from_millis(1));
        job
    });
    broker.enqueue(suspects.collect()).await.unwrap();
    let accuse = "for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do redis.call('HSET', KEYS[2], id, 2) end \
                  local t = redis.call('TIME') return t[1] * 1000";
    let accused = server.ask(&["EVAL", accuse, "2", "goose:{q}:jobs", "goose:{q}:recoveries"]);
    let start: i64 = accused.parse().unwrap();
    let until = |end: i64| {
        let count = server.ask(&["ZCOUNT", "goose:{q}:scheduled", "-inf", &end.to_string()]);
        count.parse::<usize>().unwrap()
    };
    eventually("all are due", || until(start + 60_000) == SUSPECTS);
    let consumer = consume(&broker, &["q"]).await;
    assert_eq!(fetch(&*consumer, 250).await.len(), 1);
    assert_eq!(until(start + 75_000), SUSPECTS - 1, "none waits for longer than a minute");
    assert!(until(start + 2_000) >= SUSPECTS / 2, "most are for other calls");
}

/// A marker that comes while all hands are full is answered once. And a queue that has less than its part is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_several_queues_of_a_cluster_asks_no_more_than_it_must() {
    let cluster = Cluster::start(3, false);
    let scripts = || cluster.nodes.iter().map(|node| calls(node, "evalsha")).sum::<u32>();
    let is_waiting = |node: &Server| {
        let clients = node.ask(&["INFO", "clients"]);
        clients.lines().find_map(|line| line.strip_prefix("blocked_clients:")?.parse::<usize>().ok()).unwrap()
    };
    let broker = RedisOptions::new(cluster.url()).lease(Duration::from_secs(600)).open().await.unwrap();
    let mut later = job("a");
    later.schedule = Schedule::In(Duration::from_secs(3600));
    broker.enqueue(vec![later, job("a")]).await.unwrap();
    let queues = QueueSet::weighted([("a", 1), ("b", 1), ("c", 1)]).unwrap();
    let consumer = broker.consume(ConsumerOptions::new(queues, 1)).await.unwrap();
    assert_eq!(fetch(&*consumer, 3).await.len(), 1);
    // Waits for markers, and is given one job: its hands are full from here on.
    let before = scripts();
    let woken = tokio::join!(fetch(&*consumer, 3), async {
        eventually("it waits on all queues", || cluster.nodes.iter().map(is_waiting).sum::<usize>() == 3);
        let asked = scripts() - before;
        // Twice, for the marker of the first job is still there.
        assert!(asked <= 6, "{asked} scripts to find three queues empty twice");
        broker.enqueue(vec![job("a")]).await.unwrap();
    });
    assert_eq!(woken.0.len(), 1);
    let before = scripts();
    broker.enqueue(vec![job("b")]).await.unwrap();
    // Twice as long as the busy loop took for a thousand calls.
    let begun = Instant::now();
    eventually("some time has passed", || begun.elapsed() > Duration::from_millis(500));
    let asked = scripts() - before;
    assert!(asked <= 20, "{asked} scripts while nobody wanted a job");
    assert_eq!(fetch(&*consumer, 1).await.len(), 1, "what came meanwhile is found");
}

/// What was sent may be stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_under_way_at_the_close_is_answered_or_unknown() {
    for hangs in [false, true] {
        let server = Server::start();
        let broker = connect(&server).await;
        broker.enqueue(vec![job("q")]).await.unwrap();
        server.pause();
        let mut enqueue = broker.enqueue(vec![job("q")]);
        tokio::select! {
            biased;
            early = &mut enqueue => panic!("answered by a server that stands still: {early:?}"),
            () = tokio::task::yield_now() => {}
        }
        let begun = Instant::now();
        let mut close = broker.close();
        tokio::select! {
            biased;
            early = &mut close => panic!("closed without its answer: {early:?}"),
            () = tokio::task::yield_now() => {}
        }
        if hangs {
            close.await.unwrap();
            server.resume();
            let error = enqueue.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:#}");
        } else {
            server.resume();
            let (closed, enqueued) = tokio::join!(close, enqueue);
            closed.unwrap();
            assert_eq!(enqueued.unwrap().len(), 1);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        eventually("the job is stored", || server.ask(&["HLEN", "goose:{q}:jobs"]) == "2");
        assert_eq!(broker.enqueue(vec![job("q")]).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// As when one node of a cluster was out of reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lost_in_one_queue_keeps_its_jobs_in_the_others() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let open = || RedisOptions::new(server.url()).lease(lease).open();
    let (broker, beside) = (open().await.unwrap(), open().await.unwrap());
    let consumer = consume(&broker, &["a", "b"]).await;
    broker.enqueue(vec![job("a"), job("b")]).await.unwrap();
    let mut held = fetch(&*consumer, 1).await;
    held.extend(fetch(&*consumer, 1).await);
    let sessions = |queue: &str| server.ask(&["ZRANGE", &format!("goose:{{{queue}}}:leases"), "0", "-1"]);
    let (before, in_b) = (sessions("a"), sessions("b"));
    server.ask(&["HDEL", &format!("goose:{{a}}:claims:{before}"), ""]);
    eventually("it goes on under another name", || sessions("a").lines().any(|session| session != before));
    assert!(!consumer.holds(&held[0].receipt) && consumer.holds(&held[1].receipt));
    assert_eq!(sessions("b"), in_b);
    // Somebody who would take the jobs of a session that is dead there.
    let rival = consume(&beside, &["b"]).await;
    let taken = tokio::time::timeout(lease * 5, rival.fetch(1)).await;
    assert!(taken.is_err(), "the claim of a live session was taken: {taken:?}");
    let ends: Vec<_> = held.iter().map(|delivery| Settlement::new(delivery.receipt, Verdict::Done)).collect();
    let answers = consumer.settle(&ends).await;
    assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    // That of the other one comes again, as after any loss.
    assert_eq!(fetch(&*consumer, 1).await[0].job.id, held[0].job.id);
}

#[cfg(feature = "fault-injection")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_buried_now_is_buried_later() {
    let server = Server::start();
    let broker = RedisOptions::new(server.url()).lease(Duration::from_millis(600)).open().await.unwrap();
    server.ask(&["SET", "goose:{q}:epitaphs", "a string"]);
    broker.enqueue_raw(&QueueName::new("q").unwrap(), JobId::new(), vec![0xFF; 40]).await.unwrap();
    let consumer = consume(&broker, &["q"]).await;
    let claimed = || server.ask(&["HGET", "goose:{q}:meta", "running"]) == "1";
    let fetching = tokio::spawn(async move { (fetch(&*consumer, 1).await, consumer) });
    eventually("it is claimed, and cannot be buried", claimed);
    server.ask(&["DEL", "goose:{q}:epitaphs"]);
    eventually("it is buried", || server.ask(&["ZCARD", "goose:{q}:dead"]) == "1");
    broker.enqueue(vec![job("q")]).await.unwrap();
    assert_eq!(fetching.await.unwrap().0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_server_does_not_take_is_named_with_the_setting() {
    let server = Server::with(&["--proto-max-bulk-len", "1mb"]);
    let broker = RedisOptions::new(server.url()).command_timeout(Duration::from_secs(2)).open().await.unwrap();
    let error = broker.enqueue(vec![job_of("q", 2_000_000)]).await.unwrap_err();
    // Its words about that may be read or not before the connection breaks.
    assert!(matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Misconfigured), "{error:#}");
    let text = error.to_string();
    assert!(text.contains("proto-max-bulk-len") && text.contains("200") && text.contains("bytes"), "{error:#}");
}
