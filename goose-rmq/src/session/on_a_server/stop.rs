//! Stops of sessions while the server takes nothing in.

use std::sync::Arc;
use std::task::{Context, Wake};

use goose_core::broker::Broker;
use tokio::sync::Notify;

use super::*;

/// A waker that says so, and polls nothing.
#[derive(Default)]
struct Told(Notify);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

async fn what_runs_is_still_settled(rabbit: &Rabbit, queue_type: QueueType) {
    let broker = open(rabbit, |options| {
        (options.prefix, options.queue_type) = (format!("stop-{queue_type:?}"), queue_type);
        // Long enough for what runs when it stops.
        options.heartbeat = Duration::from_secs(5);
    })
    .await;
    enqueue(&broker, 8).await;
    let consumer = session(&broker, 8).await;
    rabbit.memory_alarm(true);
    // The server notices who publishes when he does.
    let elsewhere =
        Job::new(JobName::new("a").unwrap(), QueueName::new("other").unwrap(), Payload::message_pack(vec![]));
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move { broker.enqueue(vec![elsewhere; 1]).await.map(drop) }
    });
    let mut blocked = broker.inner.links.publish.blocked();
    in_time("blocked", blocked.wait_for(Option::is_some)).await.unwrap();
    // Room for all of them, of which two are taken: a fetch that is given up when it could have them.
    let told = Arc::new(Told::default());
    let mut all = consumer.fetch(8);
    assert!(all.as_mut().poll(&mut Context::from_waker(&Arc::clone(&told).into())).is_pending());
    in_time("jobs", told.0.notified()).await;
    drop(all);
    let taken = take(&*consumer, 2).await;
    let stopped = in_time("a stop", consumer.stop()).await;
    let held = consumer.holds(&taken[0].receipt) && consumer.holds(&taken[1].receipt);
    let settled = settle(&*consumer, &taken[0], Verdict::Done).await;
    rabbit.memory_alarm(false);
    assert!(stopped.is_err(), "it could not hand back the others");
    assert!(held && settled.is_ok(), "{queue_type:?}: {held} {settled:?}");
    settle(&*consumer, &taken[1], Verdict::Done).await.unwrap();
    drop(consumer);
    let _ = publishing.await.unwrap();
    let consumer = session(&broker, 0).await;
    let mut left = numbers(&take(&*consumer, 6).await);
    left.sort_unstable();
    assert_eq!(left, [2, 3, 4, 5, 6, 7]);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_still_settled_after_a_stop_that_can_hand_back_nothing() {
    let rabbit = Rabbit::start();
    what_runs_is_still_settled(&rabbit, QueueType::Classic).await;
    what_runs_is_still_settled(&rabbit, QueueType::Quorum).await;
}
