//! Declaring on a real server, and what then happens to messages there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{ErrorKind, QueueName};
use goose_services::rabbit::Rabbit;

use super::*;
use crate::amqp::lapin::Connector;
use crate::amqp::{Channel, Confirmation, Connect, Lifetime, Role, Value};
use crate::delay::{self, Path, Precision, path};

struct Stage {
    runtime: tokio::runtime::Runtime,
    rabbit: Rabbit,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, rabbit: Rabbit::start() }
    }

    fn options(&self, prefix: &str, queue_type: QueueType) -> RmqOptions {
        let mut options = RmqOptions::new(self.rabbit.url());
        (options.prefix, options.queue_type) = (prefix.to_owned(), queue_type);
        options
    }

    fn link(&self, options: &RmqOptions) -> Arc<Link> {
        let connect: Arc<dyn Connect> = Arc::new(Connector::new(options).unwrap());
        let runtime = self.runtime.handle().clone();
        self.runtime.block_on(Link::open(connect, Role::Control, Duration::from_secs(10), 1, &runtime)).unwrap()
    }

    fn topology(&self, prefix: &str, queue_type: QueueType) -> Arc<Topology> {
        let options = self.options(prefix, queue_type);
        let stream = Table::from([("x-queue-type".to_owned(), Value::Text("stream".to_owned()))]);
        let streams = Streams { dead: stream.clone(), journal: stream };
        Arc::new(Topology::new(self.link(&options), &options, streams))
    }
}

const TYPES: [(&str, QueueType); 2] = [("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];

#[test]
fn a_server() {
    let stage = Stage::new();
    for (prefix, queue_type) in TYPES {
        everything_is_declared_once_by_many(&stage, prefix, queue_type);
        messages_arrive_at_their_time(&stage, prefix, queue_type);
        what_has_no_queue_is_kept(&stage, prefix, queue_type);
        what_comes_back_together_is_declared_once(&stage, prefix, queue_type);
    }
    another_type_is_refused_and_other_arguments_are_not(&stage);
}

fn everything_is_declared_once_by_many(stage: &Stage, prefix: &str, queue_type: QueueType) {
    let topology = stage.topology(prefix, queue_type);
    let queues: Vec<QueueName> = (0..40).map(|n| QueueName::new(format!("q.{n}")).unwrap()).collect();
    assert!(!topology.knows_cascade() && !topology.knows_queue(&queues[0]));
    let began = Instant::now();
    stage.runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for queue in queues.iter().chain(&queues) {
            let queue = queue.clone();
            let (one, two) = (Arc::clone(&topology), Arc::clone(&topology));
            tasks.spawn(async move { one.ensure_queue(&queue).await });
            tasks.spawn(async move { two.ensure_cascade().await });
        }
        tasks.join_all().await.into_iter().collect::<Result<()>>().unwrap();
    });
    println!("{prefix}: 40 queues and the cascade in {:?}", began.elapsed());
    assert!(topology.knows_cascade() && queues.iter().all(|queue| topology.knows_queue(queue)));
    // Another process finds them as it would declare them.
    let other = stage.topology(prefix, queue_type);
    stage.runtime.block_on(async {
        other.ensure_cascade().await.unwrap();
        other.ensure_queue(&queues[0]).await.unwrap();
    });
}

async fn publish(channel: &dyn Channel, names: &Names, queue: &QueueName, path: Path, id: String) {
    let (exchange, routing_key) = names.address(queue, path);
    let headers = Table::new();
    let message = Outgoing { exchange, routing_key, message_id: id, priority: HIGH, headers, body: Arc::from(*b"x") };
    let word = channel.publish(&message).await.unwrap();
    assert!(matches!(word, Confirmation::Acked { returned: None }), "{word:?}");
}

/// Issue 8: hardly ever late, and never earlier than they may be.
fn messages_arrive_at_their_time(stage: &Stage, prefix: &str, queue_type: QueueType) {
    let topology = stage.topology(prefix, queue_type);
    let queue = QueueName::new("delays").unwrap();
    let mut late: Vec<f64> = stage.runtime.block_on(async {
        topology.ensure_cascade().await.unwrap();
        topology.ensure_queue(&queue).await.unwrap();
        let channel = topology.link.channel().await.unwrap();
        channel.confirm().await.unwrap();
        let mut sent = Vec::new();
        for n in 0..80_u32 {
            let delay = Duration::from_millis(u64::from(n) * 37);
            let path = path(delay, Precision::Exact, delay::hop(queue_type));
            sent.push((Instant::now(), delay, path));
            publish(&*channel, &topology.names, &queue, path, n.to_string()).await;
        }
        channel.limit_next_consumer(1000).await.unwrap();
        let mut deliveries = channel.consume(&topology.names.ready(&queue), "c", &Table::new()).await.unwrap();
        let mut late = Vec::new();
        for _ in &sent {
            let delivered = deliveries.next().await.unwrap();
            let n: usize = delivered.message_id.unwrap().parse().unwrap();
            let (from, delay, path) = sent[n];
            let after = from.elapsed();
            assert!(after + path.hold() + Duration::from_millis(2) >= delay, "{n} came after {after:?}, held {path:?}");
            late.push((after.as_secs_f64() - delay.as_secs_f64()) * 1e3);
            channel.ack(delivered.tag, false).await.unwrap();
        }
        late
    });
    late.sort_by(f64::total_cmp);
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!("{prefix}: late by {:.0}, {:.0}, {:.0}, {:.0} ms (min, p50, p90, max)", at(0), at(50), at(90), at(100));
    assert!(at(50) < 50.0, "{late:?}");
}

fn what_has_no_queue_is_kept(stage: &Stage, prefix: &str, queue_type: QueueType) {
    let topology = stage.topology(prefix, queue_type);
    let nowhere = QueueName::new("nowhere").unwrap();
    stage.runtime.block_on(async {
        topology.ensure_cascade().await.unwrap();
        let channel = topology.link.channel().await.unwrap();
        channel.confirm().await.unwrap();
        let path = path(Duration::from_millis(200), Precision::Exact, Duration::ZERO);
        publish(&*channel, &topology.names, &nowhere, path, "lost".to_owned()).await;
        channel.limit_next_consumer(1).await.unwrap();
        let mut kept = channel.consume(&topology.names.unroutable(), "c", &Table::new()).await.unwrap();
        assert_eq!(kept.next().await.unwrap().message_id.as_deref(), Some("lost"));
    });
}

/// Many messages came back: each brings its queue and the cascade back, and they do it together.
fn what_comes_back_together_is_declared_once(stage: &Stage, prefix: &str, queue_type: QueueType) {
    let topology = stage.topology(prefix, queue_type);
    let queue = QueueName::new("gone").unwrap();
    let (exchange, routing_key) =
        topology.names.address(&queue, path(Duration::from_secs(9), Precision::Exact, Duration::ZERO));
    stage.runtime.block_on(async {
        topology.ensure_cascade().await.unwrap();
        topology.ensure_queue(&queue).await.unwrap();
        let once = || topology.known(|known| [&known.cascade, &known.queues[&queue].0].map(Arc::clone));
        let before = once();
        let message = Outgoing {
            exchange,
            routing_key,
            message_id: "1".to_owned(),
            priority: HIGH,
            headers: Table::new(),
            body: Arc::from(*b"x"),
        };
        let mut restored = Vec::new();
        for _ in 0..100 {
            restored.push(Box::pin(topology.restore(&message)));
        }
        let mut seen = Vec::new();
        std::future::poll_fn(|context| {
            for one in &mut restored {
                assert!(one.as_mut().poll(context).is_pending(), "the server has to be asked");
                seen.push(topology.known(|known| Arc::clone(&known.cascade)));
            }
            std::task::Poll::Ready(())
        })
        .await;
        assert!(seen.iter().all(|once| Arc::ptr_eq(once, &seen[0])), "declared once for all");
        for one in restored {
            one.await.unwrap();
        }
        let after = once();
        assert!(before.iter().zip(&after).all(|(before, after)| !Arc::ptr_eq(before, after)), "declared again");
    });
}

fn another_type_is_refused_and_other_arguments_are_not(stage: &Stage) {
    let queue = QueueName::new("q.0").unwrap();
    for (prefix, other) in [("classic", QueueType::Quorum), ("quorum", QueueType::Classic)] {
        let options = stage.options(prefix, other);
        // The base of another type is refused first where it was declared before.
        let topology = stage.topology(prefix, other);
        let error = stage.runtime.block_on(topology.ensure_queue(&queue)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{options:?}");
        println!("{error:#}");
        assert!(error.to_string().contains("another prefix"), "{error:#}");
    }
    let topology = stage.topology("odd", QueueType::Classic);
    stage.runtime.block_on(async {
        let channel = topology.link.channel().await.unwrap();
        let ready = topology.names.ready(&queue);
        channel.declare_queue(&ready, Lifetime::Durable, &Table::new()).await.unwrap();
        topology.ensure_queue(&queue).await.unwrap();
        assert!(topology.knows_queue(&queue));
    });
}
