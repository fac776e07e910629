//! Jobs that wait for their time, on a real server: none comes early, hardly one late, and none is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is how a test reports, and the figures are for people"
)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, Settlement, Verdict};
use goose_core::{Clock, Job, JobId, JobName, Payload, QueueName, Schedule, SystemClock, Timestamp};
use goose_rmq::{QueueType, RmqBroker, RmqOptions};
use goose_services::rabbit::Rabbit;

const TYPES: [QueueType; 2] = [QueueType::Classic, QueueType::Quorum];

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Up to ten seconds, in steps of 37 ms.
const JOBS: u64 = 271;

/// Clocks are read in whole milliseconds, twice.
const ROUNDING: Duration = Duration::from_millis(2);

async fn open(rabbit: &Rabbit, queue_type: QueueType) -> RmqBroker {
    let prefix = format!("{queue_type:?}");
    RmqOptions::new(rabbit.url()).prefix(prefix).queue_type(queue_type).open().await.unwrap()
}

fn job(schedule: Schedule) -> Job {
    let mut job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]));
    job.schedule = schedule;
    job
}

async fn enqueue(broker: &RmqBroker, jobs: Vec<Job>) {
    for verdict in broker.enqueue(jobs).await.unwrap() {
        verdict.into_result().unwrap();
    }
}

async fn consume(broker: &RmqBroker) -> Box<dyn Consumer> {
    broker.consume(ConsumerOptions::new(QueueSet::one(QueueName::default()), 100)).await.unwrap()
}

async fn fetch(consumer: &dyn Consumer) -> Vec<Delivery> {
    tokio::time::timeout(LIMIT, consumer.fetch(100)).await.expect("jobs in time").unwrap()
}

async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) {
    for answer in consumer.settle(&[Settlement::new(delivery.receipt, verdict)]).await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_is_early_and_one_in_a_hundred_is_late() {
    let rabbit = Rabbit::start();
    tokio::join!(punctual(&rabbit, QueueType::Classic), punctual(&rabbit, QueueType::Quorum));
}

/// Delays of up to ten seconds, all on their way at the same time.
async fn punctual(rabbit: &Rabbit, queue_type: QueueType) {
    let broker = open(rabbit, queue_type).await;
    let consumer = consume(&broker).await;
    // Whatever has to be declared is there before the clock runs.
    enqueue(&broker, vec![job(Schedule::In(Duration::from_millis(100)))]).await;
    let first = fetch(&*consumer).await;
    settle(&*consumer, &first[0], Verdict::Done).await;

    let due: Mutex<HashMap<JobId, (Instant, Timestamp)>> = Mutex::default();
    let produce = async {
        for n in 0..JOBS {
            let delay = Duration::from_millis(n * 37);
            let (now, by_clock) = (Instant::now(), SystemClock.now().saturating_add(delay));
            // Every other one by the clock.
            let job = job(if n % 2 == 0 { Schedule::In(delay) } else { Schedule::At(by_clock) });
            due.lock().unwrap().insert(job.id, (now + delay, by_clock));
            enqueue(&broker, vec![job]).await;
        }
    };
    let mut late = Vec::new();
    let take = async {
        while late.len() < usize::try_from(JOBS).unwrap() {
            for delivery in fetch(&*consumer).await {
                let now = Instant::now();
                let (due, by_clock) = due.lock().unwrap().remove(&delivery.job.id).expect("each job comes once");
                assert!(now + ROUNDING >= due, "{:?} too early", due - now);
                assert!(delivery.ready_at.since(by_clock) < Duration::from_millis(50), "{delivery:?} for {by_clock}");
                assert!(delivery.claimed_at >= delivery.ready_at, "{delivery:?}");
                late.push(now.saturating_duration_since(due));
                settle(&*consumer, &delivery, Verdict::Done).await;
            }
        }
    };
    tokio::join!(produce, take);
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!("{queue_type:?}: late by {:?} (p50), {:?} (p90), {:?} (p99), {:?} (max)", at(50), at(90), at(99), at(100));
    assert!(at(99) < Duration::from_millis(100), "{queue_type:?}: {late:?}");
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_loses_none() {
    let mut rabbit = Rabbit::builder().erlang("-rabbit dead_letter_worker_publisher_confirm_timeout 3000").start();
    for queue_type in TYPES {
        let broker = open(&rabbit, queue_type).await;
        // Some are due while it is away, some after.
        let mut left: HashMap<JobId, Instant> = HashMap::new();
        for delay in [200, 1_000, 3_000, 8_000, 12_000].map(Duration::from_millis) {
            let job = job(Schedule::In(delay));
            left.insert(job.id, Instant::now() + delay);
            enqueue(&broker, vec![job]).await;
        }
        // They were made a moment ago.
        rabbit.save_names();
        rabbit.restart();
        let consumer = loop {
            // Its connections are made again by themselves, and that takes a moment.
            let options = ConsumerOptions::new(QueueSet::one(QueueName::default()), 100);
            match broker.consume(options).await {
                Ok(consumer) => break consumer,
                Err(error) => assert!(error.is_retryable(), "{error:#}"),
            }
        };
        while !left.is_empty() {
            for delivery in fetch(&*consumer).await {
                let due = left.remove(&delivery.job.id).expect("each job comes once");
                assert!(Instant::now() + ROUNDING >= due, "{:?} too early", due - Instant::now());
                settle(&*consumer, &delivery, Verdict::Done).await;
            }
        }
        broker.close().await.unwrap();
    }
}

/// Up to 3.13 a server drops what has an `x-death` header of the same level already, taking it for a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_job_goes_through_the_same_levels_again_and_again() {
    let rabbit = Rabbit::start();
    for queue_type in TYPES {
        let broker = open(&rabbit, queue_type).await;
        let consumer = consume(&broker).await;
        let delay = Duration::from_millis(400);
        enqueue(&broker, vec![job(Schedule::In(delay))]).await;
        for round in 0..8 {
            let delivery = fetch(&*consumer).await.remove(0);
            assert_eq!(delivery.recoveries, 0, "round {round}");
            let again = Verdict::Retry { job: Box::new(delivery.job.clone()), delay };
            settle(&*consumer, &delivery, again).await;
        }
        broker.close().await.unwrap();
    }
}
