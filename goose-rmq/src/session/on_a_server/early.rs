//! A job that is not due is not started early because a session died over it.

use goose_core::broker::capability::ScheduledJobs;
use goose_core::{Clock, SystemClock};

use super::*;
use crate::amqp::Table;
use crate::message::{self, Rank, Ticket};
use crate::outbox;

const HOUR: Duration = Duration::from_secs(3600);

/// A job that goes round again for an hour, in its ready queue, which a session has lost already.
async fn lost(broker: &RmqBroker, recoveries: u32) {
    let inner = broker.inner.clone();
    let put = async move {
        let job = Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]));
        let ready_at = SystemClock.now().saturating_add(HOUR);
        let ticket = Ticket { recoveries, hold: HOUR, goes_on: true, ..Ticket::now(Rank::Due, ready_at) };
        inner.topology.ensure_queue(&queue()).await.unwrap();
        let ready = inner.topology.names.ready(&queue());
        let message = message::outgoing(&job, &ticket, "".into(), ready.clone());
        outbox::publish_all(&inner, vec![message]).await.remove(0).unwrap();
        let channel = inner.links.control.channel().await.unwrap();
        channel.limit_next_consumer(1).await.unwrap();
        channel.consume(&ready, "c", &Table::new()).await.unwrap().next().await.unwrap();
        channel.close().await.unwrap();
    };
    broker.inner.runtime.spawn(put).await.unwrap();
}

async fn it_waits(rabbit: &Rabbit, queue_type: QueueType, recoveries: u32) {
    let prefix = format!("early-{queue_type:?}-{recoveries}");
    let broker = open(rabbit, |options| (options.queue_type, options.prefix) = (queue_type, prefix.clone())).await;
    lost(&broker, recoveries).await;
    let consumer = session(&broker, 0).await;
    let fetched = consumer.fetch(1);
    // An hour is 112,500 units of 32 ms: the level of 2^16.
    let level = format!("{prefix}/v1/delay/16");
    let waits = || rabbit.queue(&level).is_some_and(|queue| queue.messages == 1);
    tokio::select! {
        biased;
        early = fetched => panic!("it came early: {early:?}"),
        () = until("it waits for an hour", waits) => {}
    }
    assert_eq!(ScheduledJobs::size(broker.scheduled_jobs().unwrap()).await.unwrap(), 1);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_job_that_goes_on_waits_for_its_time() {
    let rabbit = Rabbit::start();
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        for recoveries in [0, 1] {
            it_waits(&rabbit, queue_type, recoveries).await;
        }
    }
}
