//! A server that answers at once and begins to send late, or stops sending.

use std::pin::Pin;
use std::task::{Context, Poll};

use goose_core::BoxFuture;
use tokio::time::Sleep;

use super::*;
use crate::amqp::lapin::Connector;
use crate::amqp::{
    Channel, Confirmation, Connect, Connection, ConnectionEvent, Delivered, Deliveries, ExchangeKind, Lifetime,
    Outgoing, QueueState, Role,
};

/// Much later than anybody waits who takes silence for the end.
const LATE: Duration = Duration::from_millis(2_500);

/// What is played by whatever is made of it.
#[derive(Debug, Clone)]
enum Play {
    Late,
    /// The first consumer gets so many.
    Stops(Arc<Mutex<Option<usize>>>),
}

#[derive(Debug)]
struct Late<T>(T, Play);

impl Connect for Late<Connector> {
    fn connect(&self, role: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        Box::pin(async move { Ok(Arc::new(Late(self.0.connect(role).await?, self.1.clone())) as Arc<dyn Connection>) })
    }
}

impl Connection for Late<Arc<dyn Connection>> {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        Box::pin(async move { Ok(Arc::new(Late(self.0.open_channel().await?, self.1.clone())) as Arc<dyn Channel>) })
    }
    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent> {
        self.0.next_event()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
    fn cut(&self) {
        self.0.cut();
    }
}

impl Channel for Late<Arc<dyn Channel>> {
    fn declare_queue<'a>(&'a self, name: &'a str, how: Lifetime, args: &'a Table) -> BoxFuture<'a, Result<QueueState>> {
        self.0.declare_queue(name, how, args)
    }
    fn inspect_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<QueueState>>> {
        self.0.inspect_queue(name)
    }
    fn delete_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>> {
        self.0.delete_queue(name)
    }
    fn purge_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>> {
        self.0.purge_queue(name)
    }
    fn declare_exchange<'a>(&'a self, name: &'a str, kind: ExchangeKind, args: &'a Table) -> BoxFuture<'a, Result<()>> {
        self.0.declare_exchange(name, kind, args)
    }
    fn bind_queue<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.0.bind_queue(queue, exchange, key)
    }
    fn bind_exchange<'a>(&'a self, exchange: &'a str, source: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.0.bind_exchange(exchange, source, key)
    }
    fn confirm(&self) -> BoxFuture<'_, Result<()>> {
        self.0.confirm()
    }
    fn publish<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'static, Result<Confirmation>> {
        self.0.publish(message)
    }
    fn limit_next_consumer(&self, unacknowledged: u16) -> BoxFuture<'_, Result<()>> {
        self.0.limit_next_consumer(unacknowledged)
    }
    fn consume<'a>(
        &'a self,
        queue: &'a str,
        tag: &'a str,
        args: &'a Table,
    ) -> BoxFuture<'a, Result<Box<dyn Deliveries>>> {
        Box::pin(async move {
            let deliveries = self.0.consume(queue, tag, args).await?;
            let (late, left) = match &self.1 {
                Play::Late => (LATE, None),
                Play::Stops(left) => (Duration::ZERO, left.lock().take()),
            };
            let begins = Box::pin(tokio::time::sleep(late));
            Ok(Box::new(LateDeliveries { begins, left, deliveries }) as Box<dyn Deliveries>)
        })
    }
    fn cancel<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<()>> {
        self.0.cancel(tag)
    }
    fn ack(&self, delivery_tag: u64, multiple: bool) -> BoxFuture<'static, Result<()>> {
        self.0.ack(delivery_tag, multiple)
    }
    fn give_back(&self, delivery_tag: u64) -> BoxFuture<'static, Result<()>> {
        self.0.give_back(delivery_tag)
    }
    fn round_trip(&self) -> BoxFuture<'_, Result<()>> {
        self.0.round_trip()
    }
    fn is_open(&self) -> bool {
        self.0.is_open()
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.0.close()
    }
}

#[derive(Debug)]
struct LateDeliveries {
    begins: Pin<Box<Sleep>>,
    left: Option<usize>,
    deliveries: Box<dyn Deliveries>,
}

impl Deliveries for LateDeliveries {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivered>> {
        if !self.begins.is_elapsed() && self.begins.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if self.left == Some(0) {
            return Poll::Pending;
        }
        let delivered = self.deliveries.poll_next(context);
        if delivered.is_ready() {
            self.left = self.left.map(|left| left - 1);
        }
        delivered
    }
}

impl Late<Connector> {
    /// A stream that is read through what is played, and its connection.
    async fn stream(self, rabbit: &Process, name: &str) -> (Arc<Link>, Arc<Stream<Told>>) {
        let wires = &rabbit.stream.wires;
        let patience = Duration::from_secs(20);
        let control = Link::open(Arc::new(self), Role::Control, patience, 1, &wires.runtime).await.unwrap();
        let wires = Wires { control: Arc::clone(&control), ..wires.clone() };
        (control, Stream::new(wires, name.to_owned(), arguments(1 << 30, 64 << 20)))
    }
}

pub(super) async fn all_is_read_before_it_counts_as_read(rabbit: &Rabbit) {
    let before = Process::on(rabbit, "late").await;
    let entries: Vec<NewEntry> = (0..2_500).map(|n| entry(&n.to_string())).collect();
    before.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
    eventually("the server has counted", async || rabbit.queue("late").is_some_and(|queue| queue.messages > 0)).await;

    let late = Process::on(rabbit, "late").await;
    let played = || Late(Connector::new(&RmqOptions::new(rabbit.url())).unwrap(), Play::Late);
    let ((one, full), (other, empty)) = tokio::join!(played().stream(&late, "late"), played().stream(&late, "nothing"));
    rabbit.memory_alarm(true);
    let caught_up = tokio::join!(full.catch_up(), empty.catch_up());
    let (told, nothing) = (full.state().bodies().len(), empty.state().bodies().len());
    rabbit.memory_alarm(false);
    caught_up.0.unwrap();
    caught_up.1.unwrap();
    assert_eq!((told, nothing), (2_500, 0));
    one.close().await;
    other.close().await;
    before.close().await;
    late.close().await;
}

pub(super) async fn a_reader_that_is_sent_nothing_more_begins_again(rabbit: &Rabbit) {
    let process = Process::on(rabbit, "stops").await;
    for n in 0..10 {
        process.say(&n.to_string()).await.unwrap();
    }
    let play = Play::Stops(Arc::new(Mutex::new(Some(4))));
    let played = Late(Connector::new(&RmqOptions::new(rabbit.url())).unwrap(), play);
    let (control, stream) = played.stream(&process, "stops").await;
    stream.catch_up().await.unwrap();
    assert_eq!(stream.state().bodies().len(), 10);
    control.close().await;
    process.close().await;
}
