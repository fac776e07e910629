//! One channel of the library.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_core::Stream;
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use lapin::Confirmation as LapinConfirmation;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use tokio::sync::watch;

use super::classify::{classify, is_missing, unconfirmed, unsent};
use super::convert::{delivered, id, properties, short, to_table};
use crate::amqp::{Channel, Confirmation, Delivered, Deliveries, ExchangeKind, Lifetime, Outgoing, QueueState, Table};

/// The reply code of a channel that ends in good order.
const GOODBYE: u16 = 200;

/// How long the library has to say itself how the calls end that wait when a connection does.
const LAST_WORDS: Duration = Duration::from_millis(200);

pub(super) struct LapinChannel {
    /// The last handle closes the channel. Futures of publishes and acknowledgements have one, too.
    lapin: Arc<lapin::Channel>,
    connection: Life,
}

impl fmt::Debug for LapinChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinChannel").field("id", &self.lapin.id()).finish_non_exhaustive()
    }
}

impl LapinChannel {
    pub(super) fn new(lapin: lapin::Channel, connection: Life) -> Self {
        Self { lapin: Arc::new(lapin), connection }
    }

    /// Waits for the answer to a call, but not longer than the connection lasts: one that is made while it ends is forgotten by
    /// the library.
    async fn ask<T>(&self, what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = call => answer.map_err(|error| classify(error, what)),
            () = self.connection.ended() => {
                let words = format!("cannot {what}: the connection to the server ended before it answered");
                Err(Error::new(ErrorKind::Unavailable, words))
            }
        }
    }
}

/// Whether a connection is there.
#[derive(Debug, Clone)]
pub(super) struct Life(pub(super) watch::Receiver<bool>);

impl Life {
    /// Returns a moment after its end.
    async fn ended(&self) {
        // Where nobody is left to tell, it is over as well.
        let _ = self.0.clone().wait_for(|is_there| !is_there).await;
        tokio::time::sleep(LAST_WORDS).await;
    }
}

fn state(queue: &lapin::Queue) -> QueueState {
    QueueState { ready: queue.message_count().into(), consumers: queue.consumer_count().into() }
}

impl Channel for LapinChannel {
    fn declare_queue<'a>(&'a self, name: &'a str, how: Lifetime, args: &'a Table) -> BoxFuture<'a, Result<QueueState>> {
        Box::pin(async move {
            let options = QueueDeclareOptions {
                durable: how == Lifetime::Durable,
                exclusive: how == Lifetime::Exclusive,
                ..Default::default()
            };
            let declared = self.lapin.queue_declare(short(name)?, options, to_table(args)?);
            Ok(state(&self.ask(&format!("declare the queue {name}"), declared).await?))
        })
    }

    fn inspect_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<QueueState>>> {
        Box::pin(async move {
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let looked = self.lapin.queue_declare(short(name)?, options, FieldTable::default());
            let looked = async {
                match looked.await {
                    Err(error) if is_missing(&error) => Ok(None),
                    looked => looked.map(|queue| Some(state(&queue))),
                }
            };
            self.ask(&format!("look at the queue {name}"), looked).await
        })
    }

    fn delete_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let deleted = self.lapin.queue_delete(short(name)?, QueueDeleteOptions::default());
            Ok(self.ask(&format!("delete the queue {name}"), deleted).await?.into())
        })
    }

    fn purge_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let purged = self.lapin.queue_purge(short(name)?, QueuePurgeOptions::default());
            Ok(self.ask(&format!("purge the queue {name}"), purged).await?.into())
        })
    }

    fn declare_exchange<'a>(&'a self, name: &'a str, kind: ExchangeKind, args: &'a Table) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let kind = match kind {
                ExchangeKind::Topic => lapin::ExchangeKind::Topic,
                ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
            };
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let declared = self.lapin.exchange_declare(short(name)?, kind, options, to_table(args)?);
            self.ask(&format!("declare the exchange {name}"), declared).await
        })
    }

    fn bind_queue<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (names, options) = ((short(queue)?, short(exchange)?, short(key)?), QueueBindOptions::default());
            let bound = self.lapin.queue_bind(names.0, names.1, names.2, options, FieldTable::default());
            self.ask(&format!("bind the queue {queue}"), bound).await
        })
    }

    fn bind_exchange<'a>(&'a self, exchange: &'a str, source: &'a str, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (names, options) = ((short(exchange)?, short(source)?, short(key)?), ExchangeBindOptions::default());
            let bound = self.lapin.exchange_bind(names.0, names.1, names.2, options, FieldTable::default());
            self.ask(&format!("bind the exchange {exchange}"), bound).await
        })
    }

    fn confirm(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.ask("ask for confirms", self.lapin.confirm_select(ConfirmSelectOptions::default())).await
        })
    }

    fn publish<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'static, Result<Confirmation>> {
        let (channel, body) = (Arc::clone(&self.lapin), Arc::clone(&message.body));
        let parts = short(&message.exchange)
            .and_then(|exchange| Ok((exchange, short(&message.routing_key)?, properties(message)?)));
        Box::pin(async move {
            let (exchange, key, properties) = parts?;
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            // The first poll takes the confirm's number and queues the frames; then comes the wait for the socket, then
            // that for the server's word.
            let sent = channel.basic_publish(exchange, key, options, &body, properties).await;
            let confirm = sent.map_err(unsent)?;
            match confirm.await.map_err(unconfirmed)? {
                LapinConfirmation::Ack(message) => Ok(Confirmation::Acked { returned: message.as_ref().map(id) }),
                LapinConfirmation::Nack(message) => Ok(Confirmation::Nacked { returned: message.as_ref().map(id) }),
                // Would be a success that means nothing.
                LapinConfirmation::NotRequested => {
                    Err(Error::new(ErrorKind::Internal, "published on a channel without confirms"))
                }
            }
        })
    }

    fn let_confirms_land(&self) {
        // The library tells confirms under a lock, those that one acknowledgement is about all under the same. This call
        // takes that lock at its first poll, and what it does then is of no consequence here.
        let waiting = pin!(self.lapin.wait_for_confirms());
        let _ = waiting.poll(&mut Context::from_waker(Waker::noop()));
    }

    fn limit_next_consumer(&self, unacknowledged: u16) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let set = self.lapin.basic_qos(unacknowledged, BasicQosOptions { global: false });
            self.ask("limit a consumer", set).await
        })
    }

    fn consume<'a>(
        &'a self,
        queue: &'a str,
        tag: &'a str,
        args: &'a Table,
    ) -> BoxFuture<'a, Result<Box<dyn Deliveries>>> {
        Box::pin(async move {
            let options = BasicConsumeOptions::default();
            let consumer = self.lapin.basic_consume(short(queue)?, short(tag)?, options, to_table(args)?);
            let consumer = self.ask(&format!("consume the queue {queue}"), consumer).await?;
            Ok(Box::new(LapinDeliveries { consumer }) as Box<dyn Deliveries>)
        })
    }

    fn cancel<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let cancelled = self.lapin.basic_cancel(short(tag)?, BasicCancelOptions::default());
            self.ask("cancel a consumer", cancelled).await
        })
    }

    fn ack(&self, delivery_tag: u64, multiple: bool) -> BoxFuture<'static, Result<()>> {
        let channel = Arc::clone(&self.lapin);
        // Not by the library's `Acker`, which sends a task through its queue for each.
        Box::pin(async move {
            let acked = channel.basic_ack(delivery_tag, BasicAckOptions { multiple }).await;
            acked.map_err(|error| classify(error, "acknowledge"))
        })
    }

    fn give_back(&self, delivery_tag: u64) -> BoxFuture<'static, Result<()>> {
        let channel = Arc::clone(&self.lapin);
        Box::pin(async move {
            let nacked = channel.basic_nack(delivery_tag, BasicNackOptions { multiple: false, requeue: true }).await;
            nacked.map_err(|error| classify(error, "give a message back"))
        })
    }

    fn round_trip(&self) -> BoxFuture<'_, Result<()>> {
        // The only method without any effect that is answered: a limit for consumers that nobody starts without setting
        // it first.
        self.limit_next_consumer(1)
    }

    fn is_open(&self) -> bool {
        self.lapin.status().connected()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.ask("close a channel", self.lapin.close(GOODBYE, "OK".into())).await })
    }
}

#[derive(Debug)]
struct LapinDeliveries {
    consumer: lapin::Consumer,
}

impl Deliveries for LapinDeliveries {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivered>> {
        match ready!(Pin::new(&mut self.consumer).poll_next(context)) {
            Some(Ok(delivery)) => Poll::Ready(Some(delivered(delivery))),
            // The error is that of the channel, and whoever uses it next is told.
            Some(Err(_)) | None => Poll::Ready(None),
        }
    }
}
