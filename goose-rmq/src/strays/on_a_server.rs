//! What was sent to a queue that was deleted comes back, whatever else is there.

use std::time::Duration;

use goose_core::broker::{Broker, ConsumerOptions, QueueSet};
use goose_core::{Job, JobName, Payload};
use goose_services::rabbit::Rabbit;

use super::*;
use crate::amqp::{Lifetime, Value};
use crate::{QueueType, RmqBroker, RmqOptions};

/// Everything here happens sooner, also on a busy machine.
const AT_MOST: Duration = Duration::from_secs(60);

async fn open(rabbit: &Rabbit, queue_type: QueueType) -> RmqBroker {
    let mut options = RmqOptions::new(rabbit.url());
    (options.queue_type, options.prefix) = (queue_type, format!("{queue_type:?}"));
    RmqBroker::open(options).await.unwrap()
}

fn job(queue: &str) -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::new(queue).unwrap(), Payload::message_pack(vec![1]))
}

/// On the broker's own runtime.
async fn on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    broker: &RmqBroker,
    work: impl FnOnce(Arc<Inner>) -> F,
) -> T {
    broker.inner.runtime.spawn(work(Arc::clone(&broker.inner))).await.unwrap()
}

/// A job that has turned up among the unroutable.
async fn stray(broker: &RmqBroker, queue: &'static str) -> JobId {
    on(broker, move |inner| async move {
        let (job, now) = (job(queue), SystemClock.now());
        let ticket = Ticket::now(Rank::Due, now);
        let message = message::outgoing(&job, &ticket, "".into(), inner.topology.names.unroutable());
        outbox::publish_all(&inner, vec![message]).await.into_iter().collect::<Result<()>>().unwrap();
        job.id
    })
    .await
}

/// Somebody looked after them, and failed again and again, as with a server that takes nothing in.
async fn fail_to_bring_back(broker: &RmqBroker, times: usize) {
    on(broker, move |inner| async move {
        for _ in 0..times {
            let channel = inner.links.control.channel().await.unwrap();
            channel.limit_next_consumer(AT_A_TIME).await.unwrap();
            let unroutable = inner.topology.names.unroutable();
            let mut strays = channel.consume(&unroutable, "c", &Table::new()).await.unwrap();
            strays.next().await.unwrap();
            channel.close().await.unwrap();
        }
    })
    .await;
}

async fn they_come_back(rabbit: &Rabbit, queue_type: QueueType) {
    let broker = open(rabbit, queue_type).await;
    // A queue that cannot be declared as it should be.
    on(&broker, |inner| async move {
        inner.topology.ensure_base().await.unwrap();
        let channel = inner.links.control.channel().await.unwrap();
        let stream = Table::from([("x-queue-type".to_owned(), Value::Text("stream".to_owned()))]);
        let ready = inner.topology.names.ready(&QueueName::new("taken").unwrap());
        channel.declare_queue(&ready, Lifetime::Durable, &stream).await.unwrap();
        channel.close().await.unwrap();
    })
    .await;
    let first = stray(&broker, "jobs").await;
    // More than are in hand at a time.
    for _ in 0..2 * AT_A_TIME {
        stray(&broker, "taken").await;
    }
    let last = stray(&broker, "jobs").await;
    fail_to_bring_back(&broker, 6).await;
    let options = ConsumerOptions::new(QueueSet::one(QueueName::new("jobs").unwrap()), 5);
    let consumer = broker.consume(options).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        let jobs = tokio::time::timeout(AT_MOST, consumer.fetch(2)).await.expect("they have come back").unwrap();
        came.extend(jobs.into_iter().map(|delivery| (delivery.job.id, delivery.recoveries)));
    }
    came.sort_unstable();
    assert_eq!(came, [(first, 0), (last, 0)], "nobody has died over them");
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server() {
    let rabbit = Rabbit::start();
    they_come_back(&rabbit, QueueType::Classic).await;
    they_come_back(&rabbit, QueueType::Quorum).await;
}
