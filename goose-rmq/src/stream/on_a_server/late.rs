//! A server that answers at once and begins to send late.

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

#[derive(Debug)]
struct Late<T>(T);

impl Connect for Late<Connector> {
    fn connect(&self, role: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        Box::pin(async move { Ok(Arc::new(Late(self.0.connect(role).await?)) as Arc<dyn Connection>) })
    }
}

impl Connection for Late<Arc<dyn Connection>> {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        Box::pin(async move { Ok(Arc::new(Late(self.0.open_channel().await?)) as Arc<dyn Channel>) })
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
            let begins = Box::pin(tokio::time::sleep(LATE));
            Ok(Box::new(LateDeliveries { begins, deliveries }) as Box<dyn Deliveries>)
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
    deliveries: Box<dyn Deliveries>,
}

impl Deliveries for LateDeliveries {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivered>> {
        if !self.begins.is_elapsed() && self.begins.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.deliveries.poll_next(context)
    }
}

pub(super) async fn all_is_read_before_it_counts_as_read(rabbit: &Rabbit) {
    let before = Process::on(rabbit, "late").await;
    let entries: Vec<NewEntry> = (0..2_500).map(|n| entry(&n.to_string())).collect();
    before.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
    eventually("the server has counted", async || rabbit.queue("late").is_some_and(|queue| queue.messages > 0)).await;

    let late = Process::on(rabbit, "late").await;
    let connector = Connector::new(&RmqOptions::new(rabbit.url())).unwrap();
    let (patience, runtime) = (Duration::from_secs(20), &late.stream.wires.runtime);
    let control = Link::open(Arc::new(Late(connector)), Role::Control, patience, 1, runtime).await.unwrap();
    let read = |name: &str| {
        let wires = Wires { control: Arc::clone(&control), ..late.stream.wires.clone() };
        Stream::<Told>::new(wires, name.to_owned(), arguments(1 << 30, 64 << 20))
    };
    let (full, empty) = (read("late"), read("nothing"));
    rabbit.memory_alarm(true);
    let caught_up = tokio::join!(full.catch_up(), empty.catch_up());
    let (told, nothing) = (full.state().bodies().len(), empty.state().bodies().len());
    rabbit.memory_alarm(false);
    caught_up.0.unwrap();
    caught_up.1.unwrap();
    assert_eq!((told, nothing), (2_500, 0));
    control.close().await;
    before.close().await;
    late.close().await;
}
