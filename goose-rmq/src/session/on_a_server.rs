//! Sessions on a real server, where it takes jobs, queues or connections away.

use std::future::Future;
use std::time::{Duration, Instant};

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, SettleError, Settlement, Verdict};
use goose_core::{Job, JobName, Payload, QueueName};
use goose_services::rabbit::Rabbit;

use crate::{QueueType, RmqBroker, RmqOptions};

mod early;
mod long;
mod moved;
mod refused;
mod stop;
mod unheard;

const QUEUE: &str = "jobs";
/// Everything in these tests happens sooner, also on a busy machine.
const AT_MOST: Duration = Duration::from_secs(60);

fn queue() -> QueueName {
    QueueName::new(QUEUE).unwrap()
}

async fn open(rabbit: &Rabbit, change: impl FnOnce(&mut RmqOptions)) -> RmqBroker {
    let mut options = RmqOptions::new(rabbit.url());
    options.heartbeat = Duration::from_secs(1);
    change(&mut options);
    RmqBroker::open(options).await.unwrap()
}

async fn session(broker: &RmqBroker, prefetch: usize) -> Box<dyn Consumer> {
    let mut options = ConsumerOptions::new(QueueSet::one(queue()), 5);
    options.prefetch = prefetch;
    broker.consume(options).await.unwrap()
}

async fn enqueue(broker: &RmqBroker, jobs: u8) {
    let job = |n| Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![n]));
    for verdict in broker.enqueue((0..jobs).map(job).collect()).await.unwrap() {
        verdict.into_result().unwrap();
    }
}

async fn in_time<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(AT_MOST, event).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn take(consumer: &dyn Consumer, jobs: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < jobs {
        taken.extend(in_time("jobs", consumer.fetch(jobs - taken.len())).await.unwrap());
    }
    taken
}

async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Result<(), SettleError> {
    consumer.settle(&[Settlement::new(delivery.receipt, verdict)]).await.remove(0)
}

fn numbers(deliveries: &[Delivery]) -> Vec<u8> {
    deliveries.iter().map(|delivery| delivery.job.args.bytes[0]).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + AT_MOST;
    let mut again = tokio::time::interval(Duration::from_millis(20));
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        again.tick().await;
    }
}

/// Messages in the queue of this prefix and in its lease queues, and the names of these.
fn held(rabbit: &Rabbit, prefix: &str) -> (u64, u64, Vec<String>) {
    let queues = rabbit.queues();
    let below = |path: &str| format!("{prefix}/v1/{path}");
    let (ready, lease) = (below("queue/jobs"), below("lease/"));
    let of =
        |is: &dyn Fn(&str) -> bool| queues.iter().filter(|queue| is(&queue.name)).map(|queue| queue.messages).sum();
    let leases = queues.iter().map(|queue| queue.name.clone()).filter(|name| name.starts_with(&lease)).collect();
    (of(&|name| name == ready), of(&|name| name.starts_with(&lease)), leases)
}

/// What a process has that is stopped in good order did not kill it, however often that happens.
async fn fifteen_stops_bury_nothing(rabbit: &Rabbit, queue_type: QueueType) {
    let change = |options: &mut RmqOptions| {
        (options.queue_type, options.prefix) = (queue_type, format!("stops-{queue_type:?}"));
        options.max_recoveries = 0;
    };
    let broker = open(rabbit, change).await;
    enqueue(&broker, 40).await;
    for _ in 0..15 {
        let process = open(rabbit, change).await;
        let consumer = session(&process, 20).await;
        let taken = take(&*consumer, 3).await;
        assert!(taken.iter().all(|delivery| delivery.recoveries == 0));
        // One is left to its lease, which the end of the broker cuts short.
        settle(&*consumer, &taken[0], Verdict::Release).await.unwrap();
        in_time("a stop", consumer.stop()).await.unwrap();
        settle(&*consumer, &taken[1], Verdict::Release).await.unwrap();
        in_time("a close", process.close()).await.unwrap();
    }
    let consumer = session(&broker, 0).await;
    let all = take(&*consumer, 40).await;
    assert!(all.iter().all(|delivery| delivery.recoveries == 0), "a stop counts as a crash");
    let mut numbers = numbers(&all);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<u8>>());
    assert_eq!(broker.inner.dead.size().await.unwrap(), 0);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_ends_count_as_no_crash() {
    let rabbit = Rabbit::start();
    fifteen_stops_bury_nothing(&rabbit, QueueType::Classic).await;
    fifteen_stops_bury_nothing(&rabbit, QueueType::Quorum).await;
}

async fn a_session_survives_its_connection(rabbit: &Rabbit) {
    let broker = open(rabbit, |options| options.prefix = "cut".to_owned()).await;
    enqueue(&broker, 3).await;
    let consumer = session(&broker, 0).await;
    let taken = take(&*consumer, 2).await;
    assert!(consumer.holds(&taken[0].receipt));
    rabbit.close_connections();
    until("the loss", || !consumer.holds(&taken[0].receipt)).await;
    // Somebody else could have them now; here it is the same session once more.
    assert!(settle(&*consumer, &taken[0], Verdict::Done).await.is_err(), "a claim of a broken connection was settled");
    let again = take(&*consumer, 3).await;
    let mut recoveries: Vec<(u8, u32)> =
        again.iter().map(|delivery| (delivery.job.args.bytes[0], delivery.recoveries)).collect();
    recoveries.sort_unstable();
    assert_eq!(recoveries, [(0, 1), (1, 1), (2, 0)]);
    assert!(consumer.health()[0].restarts > 0 && consumer.health()[0].last_error.is_some());
    for delivery in &again {
        settle(&*consumer, delivery, Verdict::Done).await.unwrap();
    }
    until("no job", || held(rabbit, "cut").0 == 0).await;
    broker.close().await.unwrap();
}

/// As often as a server may be restarted while a job is run: the fourth time would be one too many for a job that kills workers.
async fn outages_bury_nothing(rabbit: &Rabbit, queue_type: QueueType) {
    let broker = open(rabbit, |options| {
        (options.prefix, options.queue_type) = (format!("outages-{queue_type:?}").to_lowercase(), queue_type);
    })
    .await;
    enqueue(&broker, 2).await;
    let consumer = session(&broker, 0).await;
    let mut taken = take(&*consumer, 2).await;
    for round in 1..=5 {
        rabbit.close_connections();
        until("the loss", || !consumer.holds(&taken[0].receipt)).await;
        taken = take(&*consumer, 2).await;
        let recoveries: Vec<u32> = taken.iter().map(|delivery| delivery.recoveries).collect();
        assert_eq!(recoveries, [1, 1], "{queue_type:?}, round {round}");
    }
    for delivery in &taken {
        settle(&*consumer, delivery, Verdict::Done).await.unwrap();
    }
    assert_eq!(broker.inner.dead.size().await.unwrap(), 0);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_no_crash_of_a_worker() {
    let rabbit = Rabbit::start();
    outages_bury_nothing(&rabbit, QueueType::Classic).await;
    outages_bury_nothing(&rabbit, QueueType::Quorum).await;
}

async fn a_session_survives_its_queue(rabbit: &Rabbit) {
    let broker = open(rabbit, |options| options.prefix = "deleted".to_owned()).await;
    let consumer = session(&broker, 0).await;
    let (jobs, _) = tokio::join!(take(&*consumer, 1), enqueue(&broker, 1));
    rabbit.delete_queue("deleted/v1/queue/jobs");
    until("the queue", || rabbit.queue("deleted/v1/queue/jobs").is_some()).await;
    let (more, ()) = tokio::join!(take(&*consumer, 2), enqueue(&broker, 2));
    assert_eq!(numbers(&more), [0, 1]);
    // What runs goes on, on the same channel.
    settle(&*consumer, &jobs[0], Verdict::Done).await.unwrap();
    assert_eq!(consumer.health()[0].restarts, 0);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_on_when_something_is_taken_from_them() {
    let rabbit = Rabbit::start();
    a_session_survives_its_connection(&rabbit).await;
    a_session_survives_its_queue(&rabbit).await;
}
