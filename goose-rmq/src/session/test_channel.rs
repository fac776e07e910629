//! A channel without a server, for tests of what is sent.

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::amqp::{Channel, Confirmation, Deliveries, ExchangeKind, Lifetime, Outgoing, QueueState, Table};

/// Writes down acknowledgements; can do nothing else.
#[derive(Debug, Default)]
pub(super) struct TestChannel {
    acks: Mutex<Vec<(u64, bool)>>,
    given_back: Mutex<Vec<u64>>,
    is_over: AtomicBool,
}

impl TestChannel {
    /// What was acknowledged since the last call.
    pub(super) fn acks(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.acks.lock())
    }

    /// What was given back since the last call.
    pub(super) fn given_back(&self) -> Vec<u64> {
        std::mem::take(&mut self.given_back.lock())
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

fn no<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "there is no server")) })
}

impl Channel for TestChannel {
    fn declare_queue<'a>(&'a self, _: &'a str, _: Lifetime, _: &'a Table) -> BoxFuture<'a, Result<QueueState>> {
        no()
    }
    fn inspect_queue<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<QueueState>>> {
        no()
    }
    fn delete_queue<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<u64>> {
        no()
    }
    fn purge_queue<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<u64>> {
        no()
    }
    fn declare_exchange<'a>(&'a self, _: &'a str, _: ExchangeKind, _: &'a Table) -> BoxFuture<'a, Result<()>> {
        no()
    }
    fn bind_queue<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<()>> {
        no()
    }
    fn bind_exchange<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<()>> {
        no()
    }
    fn confirm(&self) -> BoxFuture<'_, Result<()>> {
        no()
    }
    fn publish<'a>(&'a self, _: &'a Outgoing) -> BoxFuture<'static, Result<Confirmation>> {
        no()
    }
    fn limit_next_consumer(&self, _: u16) -> BoxFuture<'_, Result<()>> {
        no()
    }
    fn consume<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Table) -> BoxFuture<'a, Result<Box<dyn Deliveries>>> {
        no()
    }
    fn cancel<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        no()
    }
    fn ack(&self, delivery_tag: u64, multiple: bool) -> BoxFuture<'static, Result<()>> {
        self.acks.lock().push((delivery_tag, multiple));
        Box::pin(async { Ok(()) })
    }
    fn give_back(&self, delivery_tag: u64) -> BoxFuture<'static, Result<()>> {
        self.given_back.lock().push(delivery_tag);
        Box::pin(async { Ok(()) })
    }
    fn round_trip(&self) -> BoxFuture<'_, Result<()>> {
        no()
    }
    fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        no()
    }
}
