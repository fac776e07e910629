//! The raw probe over RabbitMQ: the client library as its own examples use it, at its best.
//!
//! Messages are persistent and confirmed, each caller has a channel of its own, and acknowledgements are single and not
//! waited for.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_core::Stream;
use goose_core::{Job, Payload, QueueName, codec};
use goose_rmq::QueueType;
use goose_worker::JobArgs;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::task::JoinSet;

use crate::Result;
use crate::cost::seconds_of;
use crate::jobs::NoOp;

const QUEUE: &str = "goose-bench/probe";

/// The arguments of a job that does nothing, in bytes.
const ARGUMENTS: usize = 200;

/// Unconfirmed messages of all callers together, where none waits for each; as many as the broker's.
const WINDOW: usize = 1024;

pub(crate) struct RmqProbe {
    publish: Connection,
    consume: Connection,
    /// The envelope of a job: as many bytes as the broker sends.
    body: Arc<[u8]>,
    pid: Option<u32>,
}

impl RmqProbe {
    pub(crate) async fn connect(url: &str, queue_type: QueueType, pid: Option<u32>) -> Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let (publish, consume) = (connect().await?, connect().await?);
        let channel = publish.create_channel().await?;
        channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
        let mut arguments = FieldTable::default();
        if queue_type == QueueType::Quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        } else {
            arguments.insert("x-max-priority".into(), AMQPValue::LongLongInt(1));
        }
        channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
        let job = Job::new(NoOp::NAME.parse()?, QueueName::default(), Payload::message_pack(vec![b'x'; ARGUMENTS]));
        let body = codec::encode(&job).into();
        Ok(Self { publish, consume, body, pid })
    }

    pub(crate) fn server_seconds(&self) -> Result<Option<f64>> {
        self.pid.map(|pid| seconds_of(&pid.to_string())).transpose()
    }

    pub(crate) async fn enqueue(&self, callers: u32, batch: u32, jobs: u32) -> Result<()> {
        let window = if batch == 1 { 1 } else { WINDOW / usize::try_from(callers)?.clamp(1, WINDOW) };
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let share = jobs / callers + u32::from(caller < jobs % callers);
            let channel = self.publish.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            tasks.spawn(publish(channel, Arc::clone(&self.body), share, window));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    pub(crate) async fn drain(&self, in_flight: u32) -> Result<()> {
        let channel = self.consume.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let left = channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await?.message_count();
        channel.basic_qos(in_flight.try_into()?, BasicQosOptions::default()).await?;
        let no_arguments = FieldTable::default();
        let mut consumer =
            channel.basic_consume(QUEUE.into(), "probe".into(), BasicConsumeOptions::default(), no_arguments).await?;
        for _ in 0..left {
            let next = poll_fn(|context| Pin::new(&mut consumer).poll_next(context)).await;
            let delivery = next.ok_or("the server ended the consumer")??;
            let ack = channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            begin(ack).await;
        }
        // Behind all acknowledgements.
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        let channel = self.publish.create_channel().await?;
        channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }
}

async fn publish(channel: Channel, body: Arc<[u8]>, jobs: u32, window: usize) -> Result<()> {
    let mut on_the_way = VecDeque::new();
    for n in 0..jobs {
        if on_the_way.len() == window {
            confirmed(on_the_way.pop_front()).await?;
        }
        let (channel, body) = (channel.clone(), Arc::clone(&body));
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(format!("{n:036}").into());
        let mut word = Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            channel.basic_publish("".into(), QUEUE.into(), options, &body, properties).await?.await
        });
        let answer = begin(&mut word).await;
        on_the_way.push_back((answer, word));
    }
    while !on_the_way.is_empty() {
        confirmed(on_the_way.pop_front()).await?;
    }
    Ok(())
}

/// A message on its way, and the answer if it came at once: a future must not be polled again then.
type Sent<F> = (Option<lapin::Result<Confirmation>>, F);

async fn confirmed(sent: Option<Sent<impl Future<Output = lapin::Result<Confirmation>>>>) -> Result<()> {
    let answer = match sent {
        None => return Ok(()),
        Some((Some(answer), _)) => answer,
        Some((None, word)) => word.await,
    };
    match answer? {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("the server did not store a message: {other:?}").into()),
    }
}

/// Polls once: the frames are queued then. Returns the answer if it is there already.
async fn begin<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
