//! A server that is played by the test: it says the word on each message, when and how the test wants, and writes down
//! what is acknowledged. For tests of what is sent, and when; it delivers nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Channel, Confirmation, Connect, Connection, ConnectionEvent, Deliveries, ExchangeKind, Lifetime, Outgoing,
    QueueState, Role, Table,
};

type Word = Result<Confirmation>;

/// What all channels of the server share.
#[derive(Debug, Default)]
pub(crate) struct Server {
    channels: Mutex<Vec<Arc<FakeChannel>>>,
    goodbyes: AtomicUsize,
}

/// One channel as the server sees it.
#[derive(Debug, Default)]
pub(crate) struct FakeChannel {
    /// Every id that was sent, in order.
    sent: Mutex<Vec<String>>,
    waiting: Mutex<Vec<(String, oneshot::Sender<Word>)>>,
    /// Words that the library has read and has not told yet.
    landing: Mutex<Vec<(String, Word)>>,
    acks: Mutex<Vec<(u64, bool)>>,
    given_back: Mutex<Vec<u64>>,
    is_over: AtomicBool,
}

impl Server {
    /// The channels that were opened so far.
    pub(crate) fn channels(&self) -> usize {
        self.channels.lock().len()
    }

    /// Connections that were closed in good order.
    pub(crate) fn goodbyes(&self) -> usize {
        self.goodbyes.load(Ordering::Acquire)
    }

    pub(crate) fn channel(&self, index: usize) -> Arc<FakeChannel> {
        Arc::clone(&self.channels.lock()[index])
    }

    /// Waits until a channel has been sent so many messages in all, and says which.
    pub(crate) fn sent(&self, channel: usize, messages: usize) -> Vec<String> {
        let enough = || self.channels() > channel && self.channel(channel).sent.lock().len() >= messages;
        goose_services::eventually("so many messages are sent", enough);
        self.channel(channel).sent.lock().clone()
    }
}

impl FakeChannel {
    /// Says the word on a message.
    pub(crate) fn say(&self, id: &str, word: Word) {
        let mut waiting = self.waiting.lock();
        let index = waiting.iter().position(|(other, _)| other == id).unwrap();
        let (_, sender) = waiting.remove(index);
        // Nobody may be waiting any more.
        let _ = sender.send(word);
    }

    pub(crate) fn ack(&self, id: &str) {
        self.say(id, Ok(Confirmation::Acked { returned: None }));
    }

    pub(crate) fn nack(&self, id: &str) {
        self.say(id, Ok(Confirmation::Nacked { returned: None }));
    }

    /// This word is there, but told a moment later than those that follow it.
    pub(crate) fn say_late(&self, id: &str, word: Word) {
        self.landing.lock().push((id.to_owned(), word));
    }

    /// What was acknowledged since the last call.
    pub(crate) fn acks(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.acks.lock())
    }

    /// What was given back since the last call.
    pub(crate) fn given_back(&self) -> Vec<u64> {
        std::mem::take(&mut self.given_back.lock())
    }

    /// How many wait for a word.
    pub(crate) fn under_way(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Ends it, and forgets what is under way: no word will come.
    pub(crate) fn end_in_silence(&self) {
        self.is_over.store(true, Ordering::Release);
        // The test says no more, and the senders must not be dropped: that would be a word.
        std::mem::forget(std::mem::take(&mut *self.waiting.lock()));
    }

    /// Ends it as a broken connection does.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        for (_, sender) in self.waiting.lock().drain(..) {
            let _ = sender.send(Err(Error::new(ErrorKind::OutcomeUnknown, "the connection broke")));
        }
    }
}

/// Where connections lead.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<Server>);

impl Connect for Shared {
    fn connect(&self, _: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        let connection = Arc::new(Self(Arc::clone(&self.0)));
        Box::pin(async { Ok(connection as Arc<dyn Connection>) })
    }
}

impl Connection for Shared {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        let channel = Arc::new(FakeChannel::default());
        self.0.channels.lock().push(Arc::clone(&channel));
        Box::pin(async { Ok(Arc::new(channel) as Arc<dyn Channel>) })
    }

    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.goodbyes.fetch_add(1, Ordering::AcqRel);
        Box::pin(async {})
    }

    fn cut(&self) {}
}

fn no<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this server only takes in")) })
}

impl Channel for Arc<FakeChannel> {
    fn publish<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'static, Word> {
        let (channel, id) = (Self::clone(self), message.message_id.clone());
        Box::pin(async move {
            if channel.is_over.load(Ordering::Acquire) {
                return Err(Error::new(ErrorKind::Unavailable, "the channel was closed; nothing was sent"));
            }
            let (sender, word) = oneshot::channel();
            channel.waiting.lock().push((id.clone(), sender));
            channel.sent.lock().push(id);
            word.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::OutcomeUnknown, "the channel is gone")))
        })
    }

    fn let_confirms_land(&self) {
        let landing = std::mem::take(&mut *self.landing.lock());
        for (id, word) in landing {
            self.say(&id, word);
        }
    }

    fn confirm(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.end();
        Box::pin(async { Ok(()) })
    }

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
}
