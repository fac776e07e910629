//! The task that owns the publishing channel.
//!
//! Futures of publishes are polled for the first time in order, which takes their numbers and queues their frames in
//! order, and then parked until the server's word. They are kept until their end even when nobody waits for them any more:
//! the client library would collect them for ever otherwise.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::window::Window;
use super::{Limits, PublishError, Restore};
use crate::amqp::link::Link;
use crate::amqp::{Channel, Confirmation, Outgoing};
use crate::error::closed;

/// How often those that are over their time are looked for.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// How many looks in a row must find nothing new before confirms are believed: what came back is told with some
/// confirm of the same burst, not always with its own.
const LOOKS: usize = 2;

/// Messages to publish together, and where their words go.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) messages: Vec<Outgoing>,
    pub(super) reply: oneshot::Sender<Vec<Result<(), PublishError>>>,
}

/// The words on the messages of one request, as they come in.
#[derive(Debug)]
struct Answers {
    words: Vec<Option<Result<(), PublishError>>>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<Result<(), PublishError>>>>,
}

/// One message on its way.
#[derive(Debug)]
struct Item {
    message: Outgoing,
    /// None for a message that came back after it was believed to be stored: nobody waits for it.
    waiter: Option<(Arc<Mutex<Answers>>, usize)>,
    /// It came back once already.
    is_second_try: bool,
    /// Since when it waits to be sent.
    since: Instant,
}

impl Item {
    fn answer(self, word: Result<(), PublishError>) {
        let Some((answers, index)) = self.waiter else {
            if let Err(error) = word {
                tracing::error!(
                    job.id = self.message.message_id,
                    ?error,
                    "lost a message that came back from the server late"
                );
            }
            return;
        };
        let mut answers = answers.lock();
        if let Some(slot @ None) = answers.words.get_mut(index) {
            *slot = Some(word);
            answers.missing -= 1;
        }
        if answers.missing == 0
            && let Some(reply) = answers.reply.take()
        {
            let words = std::mem::take(&mut answers.words).into_iter().flatten().collect();
            // Nobody waits any more: fine.
            let _ = reply.send(words);
        }
    }
}

type Word = (u64, u64, Result<Confirmation>);

pub(super) struct Actor {
    link: Arc<Link>,
    limits: Limits,
    restore: Arc<dyn Restore>,
    window: Window,
    waiting: VecDeque<Item>,
    channel: Option<Arc<dyn Channel>>,
    /// Counts channels: words from an earlier one are not about this one's messages.
    generation: u64,
    next: u64,
    sent: HashMap<u64, Item>,
    /// Sent messages and when their time is over, in order.
    deadlines: VecDeque<(u64, Instant)>,
    on_the_way: FuturesUnordered<BoxFuture<'static, Word>>,
    /// Came back, with their own confirm still to come.
    returned: HashSet<String>,
}

impl Actor {
    pub(super) fn new(link: Arc<Link>, limits: Limits, restore: Arc<dyn Restore>) -> Self {
        Self {
            window: Window::new(limits.window),
            link,
            limits,
            restore,
            waiting: VecDeque::new(),
            channel: None,
            generation: 0,
            next: 0,
            sent: HashMap::new(),
            deadlines: VecDeque::new(),
            on_the_way: FuturesUnordered::new(),
            returned: HashSet::new(),
        }
    }

    /// Serves until nobody can ask any more and everything has its word.
    pub(super) async fn serve(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut blocked = self.link.blocked();
        let mut is_open = true;
        while is_open || !self.waiting.is_empty() || !self.sent.is_empty() {
            let is_blocked = blocked.borrow_and_update().is_some();
            if !is_blocked && !self.waiting.is_empty() {
                self.send_waiting().await;
            }
            tokio::select! {
                request = requests.recv(), if is_open => match request {
                    Some(request) => {
                        self.take(request);
                        while let Ok(request) = requests.try_recv() {
                            self.take(request);
                        }
                    }
                    None => is_open = false,
                },
                Some(word) = self.on_the_way.next() => self.hear(word).await,
                _ = looks.tick() => self.give_up_on_the_late(blocked.borrow().clone()),
                changed = blocked.changed() => if changed.is_err() { return },
            }
        }
    }

    fn take(&mut self, request: Request) {
        let count = request.messages.len();
        if count == 0 {
            let _ = request.reply.send(Vec::new());
            return;
        }
        let words = (0..count).map(|_| None).collect();
        let answers = Arc::new(Mutex::new(Answers { words, missing: count, reply: Some(request.reply) }));
        let since = Instant::now();
        for (index, message) in request.messages.into_iter().enumerate() {
            let waiter = Some((Arc::clone(&answers), index));
            self.waiting.push_back(Item { message, waiter, is_second_try: false, since });
        }
    }

    /// Sends as many as the window allows, on a new channel if need be.
    async fn send_waiting(&mut self) {
        if self.sent.len() >= self.window.size() {
            return;
        }
        if self.channel.as_ref().is_none_or(|channel| !channel.is_open()) {
            self.drop_channel(&Error::new(ErrorKind::Unavailable, "the channel was closed"));
            match open_channel(Arc::clone(&self.link)).await {
                Ok(channel) => {
                    self.generation += 1;
                    self.channel = Some(channel);
                }
                Err(error) => return self.refuse_waiting(&error),
            }
        }
        let Some(channel) = self.channel.clone() else { return };
        while self.sent.len() < self.window.size() {
            let Some(item) = self.waiting.pop_front() else { return };
            let (number, generation) = (self.next, self.generation);
            self.next += 1;
            let word = channel.publish(&item.message);
            let mut sending: BoxFuture<'static, Word> = Box::pin(async move { (number, generation, word.await) });
            self.deadlines.push_back((number, Instant::now() + self.limits.confirm));
            self.sent.insert(number, item);
            // Takes its place among the frames now. What is ready at once is put back for `hear` all the same.
            match poll_once(&mut sending) {
                Poll::Pending => self.on_the_way.push(sending),
                Poll::Ready(word) => self.on_the_way.push(Box::pin(std::future::ready(word))),
            }
        }
    }

    /// Takes in one word and all that are there already, then believes them.
    async fn hear(&mut self, first: Word) {
        let mut words = vec![first];
        let mut idle = 0;
        while idle < LOOKS && !self.sent.is_empty() {
            let before = words.len();
            while let Poll::Ready(Some(word)) = poll_next(&mut self.on_the_way) {
                words.push(word);
            }
            idle = if words.len() == before { idle + 1 } else { 0 };
            if idle < LOOKS && !self.on_the_way.is_empty() {
                tokio::task::yield_now().await;
            } else if self.on_the_way.is_empty() {
                break;
            }
        }
        let mut late = Vec::new();
        for (.., word) in &mut words {
            if let Ok(Confirmation::Acked { returned } | Confirmation::Nacked { returned }) = word
                && let Some(message) = returned.take()
            {
                self.returned.insert(message.message_id.clone());
                late.push(*message);
            }
        }
        for (number, generation, word) in words {
            self.believe(number, generation, word).await;
        }
        // Those whose own confirm was believed before: they are sent again from what came back.
        for message in late {
            let is_expected = self.sent.values().any(|item| item.message.message_id == message.message_id);
            if self.returned.contains(&message.message_id) && !is_expected {
                self.returned.remove(&message.message_id);
                let item = Item { message, waiter: None, is_second_try: false, since: Instant::now() };
                self.again(item).await;
            }
        }
    }

    async fn believe(&mut self, number: u64, generation: u64, word: Result<Confirmation>) {
        // Gone if its time was over.
        let Some(item) = self.sent.remove(&number) else { return };
        match word {
            Ok(Confirmation::Acked { .. }) => {
                self.window.confirmed();
                if self.returned.remove(&item.message.message_id) {
                    self.again(item).await
                } else {
                    item.answer(Ok(()))
                }
            }
            Ok(Confirmation::Nacked { .. }) => {
                if self.window.refused() {
                    tracing::warn!("the server refuses messages; from now on one is sent at a time");
                }
                item.answer(Err(PublishError::Nacked));
            }
            Err(error) => {
                if generation == self.generation {
                    self.drop_channel(&error);
                }
                item.answer(Err(PublishError::Unknown(error)));
            }
        }
    }

    /// Sends a message again that came back, once.
    async fn again(&mut self, item: Item) {
        if item.is_second_try {
            return item.answer(Err(PublishError::Unroutable));
        }
        tracing::warn!(to = item.message.routing_key, "a message found no queue; will declare it and send it again");
        let restore = Arc::clone(&self.restore);
        match restore.restore(&item.message).await {
            Ok(()) => self.waiting.push_front(Item { is_second_try: true, since: Instant::now(), ..item }),
            Err(error) => item.answer(Err(PublishError::NotSent(error))),
        }
    }

    /// Everything sent on the channel that stood until now may or may not be stored.
    fn drop_channel(&mut self, error: &Error) {
        if self.channel.take().is_none() {
            return;
        }
        self.generation += 1;
        self.deadlines.clear();
        self.returned.clear();
        // In the order in which they were sent.
        let mut numbers: Vec<u64> = self.sent.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(item) = self.sent.remove(&number) {
                let error = Error::new(error.kind(), format!("{error:#}"));
                item.answer(Err(PublishError::Unknown(error)));
            }
        }
    }

    fn refuse_waiting(&mut self, error: &Error) {
        for item in self.waiting.drain(..) {
            item.answer(Err(PublishError::NotSent(Error::new(error.kind(), format!("{error:#}")))));
        }
    }

    /// Tells those that wait for too long: for a word, or for a server that blocks.
    fn give_up_on_the_late(&mut self, blocked: Option<String>) {
        let now = Instant::now();
        while self.deadlines.front().is_some_and(|(_, deadline)| *deadline <= now) {
            let Some((number, _)) = self.deadlines.pop_front() else { break };
            if let Some(item) = self.sent.remove(&number) {
                item.answer(Err(PublishError::TimedOut));
            }
        }
        // Those that have their word already need no deadline.
        while self.deadlines.front().is_some_and(|(number, _)| !self.sent.contains_key(number)) {
            self.deadlines.pop_front();
        }
        let Some(reason) = blocked else { return };
        while self.waiting.front().is_some_and(|item| now.duration_since(item.since) >= self.limits.blocked) {
            let Some(item) = self.waiting.pop_front() else { break };
            item.answer(Err(PublishError::Blocked(reason.clone())));
        }
    }
}

impl Drop for Actor {
    /// When the runtime ends before everybody has a word.
    fn drop(&mut self) {
        self.refuse_waiting(&closed());
        self.drop_channel(&closed());
    }
}

async fn open_channel(link: Arc<Link>) -> Result<Arc<dyn Channel>> {
    let channel = link.channel().await?;
    channel.confirm().await?;
    Ok(channel)
}

fn poll_once<T>(future: &mut BoxFuture<'static, T>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()))
}

fn poll_next(words: &mut FuturesUnordered<BoxFuture<'static, Word>>) -> Poll<Option<Word>> {
    use futures_util::stream::Stream;
    Pin::new(words).poll_next(&mut Context::from_waker(std::task::Waker::noop()))
}
