//! Jobs that take longer than the server lets anybody hold one. The server looks every half second instead of every minute.

use std::collections::HashSet;

use goose_core::broker::capability::Statistics;

use super::*;

/// How long the server lets somebody hold a job, how long jobs take, and how often the broker gives signs of life.
struct Times {
    timeout: Duration,
    job: Duration,
    heartbeat: Duration,
}

const SHORT: Times =
    Times { timeout: Duration::from_secs(8), job: Duration::from_secs(20), heartbeat: Duration::from_secs(2) };

/// The shortest `consumer_timeout` that options allow.
const FULL: Times =
    Times { timeout: Duration::from_secs(60), job: Duration::from_secs(150), heartbeat: Duration::from_secs(5) };

impl Times {
    fn server(&self) -> Rabbit {
        let timeout = format!("consumer_timeout = {}", self.timeout.as_millis());
        Rabbit::builder().config(&timeout).erlang("-rabbit channel_tick_interval 500").start()
    }

    async fn open(&self, rabbit: &Rabbit, queue_type: QueueType, prefix: &str) -> RmqBroker {
        let change = |options: &mut RmqOptions| {
            (options.queue_type, options.consumer_timeout) = (queue_type, self.timeout);
            (options.heartbeat, options.prefix) = (self.heartbeat, prefix.to_owned());
        };
        open(rabbit, change).await
    }
}

async fn counts(broker: &RmqBroker) -> (u64, u64) {
    let statistics: &dyn Statistics = broker.statistics().unwrap();
    let of_queue = statistics.queues().await.unwrap().into_iter().find(|counts| counts.queue == queue()).unwrap();
    (of_queue.ready, of_queue.running)
}

async fn job_may_take_longer(rabbit: &Rabbit, times: &Times, queue_type: QueueType) {
    let prefix = format!("longer-{queue_type:?}");
    let (broker, other) =
        (times.open(rabbit, queue_type, &prefix).await, times.open(rabbit, queue_type, &prefix).await);
    let consumer = session(&broker, 0).await;
    enqueue(&broker, 4).await;
    let began = Instant::now();
    let taken = take(&*consumer, 4).await;

    // Others would take them: whatever the server gives back to anybody while they run is a job that runs twice.
    let idle = session(&other, 0).await;
    let mut second = idle.fetch(1);
    let mut seen = HashSet::new();
    let mut look = tokio::time::interval(Duration::from_millis(200));
    while began.elapsed() < times.job {
        look.tick().await;
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(second.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "somebody was given a job that runs: {polled:?}");
        // Before it looks: they move one by one, and each is in both places for a moment.
        let must_have_moved = began.elapsed() > times.timeout;
        let (ready, _, leases) = held(rabbit, &prefix);
        if must_have_moved {
            assert_eq!(ready, 0, "they are not in their queue any more");
        }
        seen.extend(leases);
    }
    // Each is in a queue of its own, and in another one again and again.
    assert!(seen.len() > 12, "{} lease queues for 4 jobs", seen.len());
    assert!(taken.iter().all(|delivery| consumer.holds(&delivery.receipt)));
    assert_eq!(consumer.health()[0].restarts, 0, "the server has closed the channel: {:?}", consumer.health());
    assert_eq!(counts(&other).await, (0, 4));
    drop(second);
    idle.stop().await.unwrap();

    // They end as others do, once.
    settle(&*consumer, &taken[0], Verdict::Done).await.unwrap();
    assert!(matches!(settle(&*consumer, &taken[0], Verdict::Done).await, Err(SettleError::Fenced)));
    let retry = Verdict::Retry { job: Box::new(taken[1].job.clone()), delay: Duration::ZERO };
    settle(&*consumer, &taken[1], retry).await.unwrap();
    settle(&*consumer, &taken[2], Verdict::Release).await.unwrap();
    settle(&*consumer, &taken[3], Verdict::Discard).await.unwrap();
    let again = take(&*consumer, 2).await;
    let mut numbers = numbers(&again);
    numbers.sort_unstable();
    assert_eq!((numbers, again[0].recoveries, again[1].recoveries), (vec![1, 2], 0, 0));
    for delivery in &again {
        settle(&*consumer, delivery, Verdict::Done).await.unwrap();
    }
    until("no leases", || held(rabbit, &prefix) == (0, 0, Vec::new())).await;
    assert_eq!(counts(&other).await, (0, 0));
    broker.close().await.unwrap();
    other.close().await.unwrap();
}

/// A job that runs and has a lease, with its session.
async fn leased(rabbit: &Rabbit, broker: &RmqBroker, prefix: &str) -> (Box<dyn Consumer>, Delivery) {
    let consumer = session(broker, 0).await;
    enqueue(broker, 1).await;
    let delivery = take(&*consumer, 1).await.remove(0);
    until("a lease", || {
        let (ready, leased, _) = held(rabbit, prefix);
        (ready, leased) == (0, 1)
    })
    .await;
    (consumer, delivery)
}

/// It is somebody else's, who learns that a worker died over it; and it is there once.
async fn recover(rabbit: &Rabbit, broker: &RmqBroker, prefix: &str, lost: &Delivery) {
    let holder = session(broker, 0).await;
    let recovered = take(&*holder, 1).await;
    assert_eq!((recovered[0].job.id, recovered[0].recoveries), (lost.job.id, 1));
    until("no lease queue", || held(rabbit, prefix).2.is_empty()).await;
    settle(&*holder, &recovered[0], Verdict::Done).await.unwrap();
    until("no job", || held(rabbit, prefix).0 == 0).await;
}

async fn job_of_a_killed_worker_runs_elsewhere(rabbit: &Rabbit, times: &Times, queue_type: QueueType) {
    let prefix = format!("killed-{queue_type:?}");
    let (doomed, live) = (times.open(rabbit, queue_type, &prefix).await, times.open(rabbit, queue_type, &prefix).await);
    let (consumer, delivery) = leased(rabbit, &doomed, &prefix).await;
    doomed.abandon();
    recover(rabbit, &live, &prefix, &delivery).await;
    assert!(!consumer.holds(&delivery.receipt));
    assert!(settle(&*consumer, &delivery, Verdict::Done).await.is_err(), "it belongs to another");
    live.close().await.unwrap();
}

async fn job_of_a_stopped_worker_goes_back_at_once(rabbit: &Rabbit, times: &Times, queue_type: QueueType) {
    let prefix = format!("stopped-{queue_type:?}");
    let (broker, other) =
        (times.open(rabbit, queue_type, &prefix).await, times.open(rabbit, queue_type, &prefix).await);
    let (consumer, delivery) = leased(rabbit, &broker, &prefix).await;
    in_time("a stop", consumer.stop()).await.unwrap();
    assert!(consumer.holds(&delivery.receipt), "what runs goes on");
    in_time("a close", broker.close()).await.unwrap();
    assert_eq!(held(rabbit, &prefix), (1, 0, Vec::new()), "back, once, with no lease left");
    let holder = session(&other, 0).await;
    let again = take(&*holder, 1).await;
    assert_eq!((again[0].job.id, again[0].recoveries), (delivery.job.id, 0));
    settle(&*holder, &again[0], Verdict::Done).await.unwrap();
    other.close().await.unwrap();
}

async fn both_types(times: &Times) {
    let server = times.server();
    let rabbit = &server;
    let all = async |queue_type| {
        let longer = job_may_take_longer(rabbit, times, queue_type);
        let killed = job_of_a_killed_worker_runs_elsewhere(rabbit, times, queue_type);
        let stopped = job_of_a_stopped_worker_goes_back_at_once(rabbit, times, queue_type);
        tokio::join!(longer, killed, stopped)
    };
    tokio::join!(all(QueueType::Classic), all(QueueType::Quorum));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_may_take_longer_than_the_server_allows() {
    both_types(if is_long() { &FULL } else { &SHORT }).await;
}

fn is_long() -> bool {
    std::env::var_os("GOOSE_LONG_SCENARIOS").is_some_and(|value| value == "1")
}

/// Nobody renews a lease while the server is away; whoever held it may be gone when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_also_after_a_restart_of_the_server() {
    let mut rabbit = SHORT.server();
    let mut lost = Vec::new();
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        let prefix = format!("restart-{queue_type:?}");
        let doomed = SHORT.open(&rabbit, queue_type, &prefix).await;
        let (_consumer, delivery) = leased(&rabbit, &doomed, &prefix).await;
        doomed.abandon();
        lost.push((queue_type, prefix, delivery));
    }
    // In good order: a crash may also bring back the originals, whose acknowledgements a classic queue writes to disk later.
    rabbit.stop();
    rabbit.restart();
    for (queue_type, prefix, delivery) in lost {
        let live = SHORT.open(&rabbit, queue_type, &prefix).await;
        recover(&rabbit, &live, &prefix, &delivery).await;
        live.close().await.unwrap();
    }
}
