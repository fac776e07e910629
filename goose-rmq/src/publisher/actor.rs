//! The task of one channel: takes messages in, keeps as many under way as the pace allows, and answers each.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{BoxFuture, Error, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::flights::{Flights, Ticket};
use super::pace::Pace;
use super::places::Places;
use super::refused::Refused;
use super::request::Request;
use super::retired::Retired;
use super::verdict::{Fate, fate};
use super::{PublishError, Restore};
use crate::again::again;
use crate::amqp::link::Link;
use crate::amqp::{Channel, Confirmation};
use crate::hooks::{FailedJob, FailureReason, Hooks, tell};
use crate::options::{QueueType, RmqOptions};

/// How many requests are taken in at a time.
const BURST: usize = 256;
/// Between two attempts to open a channel, when the connection stands and the server says no.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Actor {
    pub(super) link: Arc<Link>,
    restore: Arc<dyn Restore>,
    hooks: Hooks,
    pub(super) limits: Limits,
    inbox: UnboundedReceiver<Request>,
    /// Nobody will send anything more.
    is_last: bool,
    /// Waiting for their turn, in order.
    pub(super) queue: VecDeque<Request>,
    pub(super) flights: Flights<UnderWay, Result<Confirmation>>,
    sent: u64,
    /// The ids of what is under way: never the same twice, for returned messages are told apart by it.
    pub(super) ids: HashSet<Arc<str>>,
    /// The ids of those that were given up, and how many of each there are.
    pub(super) given_up: HashMap<Arc<str>, usize>,
    pub(super) places: Places,
    /// Of messages that were returned and are not confirmed yet.
    pub(super) returned: HashSet<String>,
    /// When what is under way is given up, the oldest first.
    pub(super) deadlines: VecDeque<(Instant, Ticket)>,
    /// Of what is under way, those that were given up.
    pub(super) stragglers: usize,
    /// When there was word on anything last.
    pub(super) heard: Instant,
    pub(super) pace: Pace,
    pub(super) channel: Option<Arc<dyn Channel>>,
    /// The connection of the channel, by its epoch.
    pub(super) connection: u64,
    /// Counts channels.
    pub(super) generation: u64,
    /// Earlier ones, on which there may be word to come.
    pub(super) retired: Vec<Retired>,
    opening: Option<BoxFuture<'static, Result<Arc<dyn Channel>>>>,
    /// Since when there is no channel.
    pub(super) cut_off: Instant,
    blocked: watch::Receiver<Option<String>>,
    /// Of the connection: another one is there.
    epoch: watch::Receiver<u64>,
    /// Since when the server blocks publishers, and why.
    pub(super) blocked_since: Option<(Instant, String)>,
    restoring: JoinSet<(Request, Result<()>)>,
    pub(super) refused: Refused,
    failed: Vec<FailedJob>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) confirm: Duration,
    pub(super) blocked: Duration,
    /// Whether there is another server to go to.
    pub(super) is_cluster: bool,
}

pub(super) struct UnderWay {
    /// Counts what goes out.
    number: u64,
    pub(super) id: Arc<str>,
    pub(super) place: Arc<str>,
    /// The channel it is under way on.
    pub(super) channel: u64,
    /// `None` when it was given up and answered.
    pub(super) request: Option<Request>,
}

impl Actor {
    pub(super) fn new(
        link: Arc<Link>,
        restore: Arc<dyn Restore>,
        options: &RmqOptions,
    ) -> (UnboundedSender<Request>, Self) {
        let (sender, inbox) = unbounded_channel();
        let limits = Limits {
            connect: options.connect_timeout,
            confirm: options.confirm_timeout,
            blocked: options.blocked_timeout,
            is_cluster: options.urls.len() > 1,
        };
        let actor = Self {
            blocked: link.blocked(),
            epoch: link.epoch(),
            link,
            restore,
            hooks: options.hooks.clone(),
            limits,
            inbox,
            is_last: false,
            queue: VecDeque::new(),
            flights: Flights::new(),
            sent: 0,
            ids: HashSet::new(),
            given_up: HashMap::new(),
            places: Places::default(),
            returned: HashSet::new(),
            deadlines: VecDeque::new(),
            stragglers: 0,
            heard: Instant::now(),
            pace: Pace::new(options.window),
            channel: None,
            connection: 0,
            generation: 0,
            retired: Vec::new(),
            opening: None,
            cut_off: Instant::now(),
            blocked_since: None,
            restoring: JoinSet::new(),
            refused: Refused::new((options.queue_type == QueueType::Quorum).then_some(limits.blocked)),
            failed: Vec::new(),
        };
        (sender, actor)
    }

    /// Runs until nobody can send anything more and all is answered.
    pub(super) async fn run(mut self) {
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let (mut ended, mut incoming) = (Vec::new(), Vec::new());
        self.look_if_blocked();
        loop {
            self.try_refused_again();
            self.send();
            self.open_if_needed();
            self.tell_of_failures();
            if self.is_last
                && !self.is_anything_waiting()
                && self.flights.len() == self.stragglers
                && self.restoring.is_empty()
                && self.refused.is_empty()
            {
                return;
            }
            let due = self.next_deadline();
            if let Some(due) = due
                && timer.deadline() != due.into()
            {
                timer.as_mut().reset(due.into());
            }
            tokio::select! {
                biased;
                () = poll_fn(|context| self.flights.poll(context, &mut ended)), if !self.flights.is_empty() => {
                    self.confirmed(&mut ended);
                }
                count = self.inbox.recv_many(&mut incoming, BURST), if !self.is_last => {
                    self.is_last = count == 0;
                    self.queue.extend(incoming.drain(..));
                }
                opened = opened(&mut self.opening), if self.opening.is_some() => self.opened(opened),
                Ok(()) = self.blocked.changed() => self.look_if_blocked(),
                Ok(()) = self.epoch.changed() => {
                    if self.channel.as_ref().is_some_and(|channel| !channel.is_open()) {
                        self.lose_channel();
                    }
                }
                Some(restored) = self.restoring.join_next(), if !self.restoring.is_empty() => {
                    if let Ok((request, restored)) = restored {
                        self.restored(request, restored);
                    }
                }
                () = &mut timer, if due.is_some() => self.expire(),
            }
        }
    }

    /// Sends as much as may be under way.
    fn send(&mut self) {
        if self.blocked_since.is_some() {
            return;
        }
        let Some(channel) = self.channel.clone() else { return };
        let (now, mut look_aside) = (Instant::now(), true);
        while self.is_anything_waiting() && !self.is_window_full(now) {
            if !channel.is_open() {
                self.lose_channel();
                return;
            }
            let Some(mut request) = self.next_to_send(&mut look_aside, now) else { return };
            request.sent = true;
            let id: Arc<str> = request.message.message_id.as_str().into();
            let future = channel.publish(&request.message);
            self.ids.insert(Arc::clone(&id));
            let place = self.places.sent(&request.message, now);
            self.sent += 1;
            let (number, channel) = (self.sent, self.generation);
            match self.flights.insert(UnderWay { number, id, place, channel, request: Some(request) }, future) {
                Ok(ticket) => self.deadlines.push_back((now + self.limits.confirm, ticket)),
                Err(ended) => self.confirmed(&mut vec![ended]),
            }
        }
    }

    /// Answers what has ended.
    fn confirmed(&mut self, ended: &mut Vec<(UnderWay, Result<Confirmation>)>) {
        // The library gives a returned message to any of the confirms that come together with its own. So none is believed
        // before all of them have been looked at.
        loop {
            let known = ended.len();
            self.let_confirms_land();
            self.flights.collect(ended);
            if ended.len() == known {
                break;
            }
        }
        let now = Instant::now();
        for (_, confirmation) in &*ended {
            if confirmation.is_ok() {
                self.heard = now;
            }
            if let Ok(Confirmation::Acked { returned: Some(id) } | Confirmation::Nacked { returned: Some(id) }) =
                confirmation
            {
                self.returned.insert(id.clone());
            }
        }
        // Words come in any order; "in a row" means the order of sending.
        ended.sort_unstable_by_key(|(under_way, _)| under_way.number);
        let mut unsent = Vec::new();
        for (under_way, confirmation) in ended.drain(..) {
            self.places.heard(&under_way.place, under_way.request.is_none(), now);
            let Some(request) = under_way.request else {
                self.forget_straggler(&under_way.id);
                continue;
            };
            self.ids.remove(&under_way.id);
            let came_back = self.returned.remove(&*under_way.id);
            match confirmation {
                Ok(Confirmation::Acked { .. }) if came_back => self.came_back(request),
                Ok(Confirmation::Acked { .. }) => self.acked(request),
                Ok(Confirmation::Nacked { .. }) => self.nacked(request),
                Err(error) => unsent.extend(self.cut(request, error)),
            }
        }
        unsent.into_iter().rev().for_each(|request| self.put_first(request));
        // Most end in the order in which they were sent.
        while self.deadlines.front().is_some_and(|(_, ticket)| self.flights.get_mut(*ticket).is_none()) {
            self.deadlines.pop_front();
        }
        if self.flights.is_empty() {
            // Ids of nobody: what was returned twice, or has no id.
            self.returned.clear();
        }
        if self.channel.as_ref().is_some_and(|channel| !channel.is_open()) {
            self.lose_channel();
        }
    }

    /// The channel ended before there was word on this one. It is handed back if it was never sent.
    fn cut(&mut self, mut request: Request, error: Error) -> Option<Request> {
        match fate(&error, &request.message) {
            Fate::NotSent => {
                request.sent = false;
                return Some(request);
            }
            Fate::Lost => self.came_back(request),
            Fate::Refused => self.fail(request, PublishError::Refused(error)),
            Fate::Unknown => self.fail(request, PublishError::Unknown(error)),
        }
        None
    }

    /// The server had no place for it. It is not stored.
    fn came_back(&mut self, mut request: Request) {
        let message = &request.message;
        tracing::debug!(id = message.message_id, key = message.routing_key, "a message came back");
        if let Some(job) = FailedJob::of(message, FailureReason::Unroutable) {
            tell(&self.hooks.returned, || job);
        }
        if request.again {
            return self.fail(request, PublishError::Unroutable);
        }
        (request.again, request.sent) = (true, false);
        let restore = Arc::clone(&self.restore);
        self.restoring.spawn(async move {
            let restored = restore.restore(&request.message).await;
            (request, restored)
        });
    }

    fn restored(&mut self, mut request: Request, restored: Result<()>) {
        match restored {
            Ok(()) => {
                request.arrived = Instant::now();
                self.put_first(request);
            }
            Err(error) => self.fail(request, PublishError::NotSent(error)),
        }
    }

    pub(super) fn fail(&mut self, request: Request, error: PublishError) {
        if self.hooks.failed.is_some() {
            self.failed.extend(FailedJob::of(&request.message, error.reason()));
        }
        request.answer(Err(error));
    }

    /// Tells the program of the failures so far, unless refusals are just beginning: they are told together.
    fn tell_of_failures(&mut self) {
        let are_more_to_come = self.pace.in_doubt() && self.flights.len() > self.stragglers;
        if !self.failed.is_empty() && !are_more_to_come {
            let failed = std::mem::take(&mut self.failed);
            tell(&self.hooks.failed, || failed);
        }
    }

    fn lose_channel(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.retire(&channel, Duration::ZERO);
        }
        self.cut_off = Instant::now();
    }

    fn open_if_needed(&mut self) {
        if self.channel.is_none() && self.opening.is_none() && self.is_anything_waiting() {
            self.open_after(Duration::ZERO);
        }
    }

    fn open_after(&mut self, pause: Duration) {
        let link = Arc::clone(&self.link);
        self.opening = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let channel = link.channel().await?;
            channel.confirm().await?;
            Ok(channel)
        }));
    }

    fn opened(&mut self, opened: Result<Arc<dyn Channel>>) {
        self.opening = None;
        match opened {
            Ok(channel) => {
                self.generation += 1;
                self.channel = Some(channel);
                self.connection = *self.link.epoch().borrow();
            }
            // Those that can wait longer do, until their time is up.
            Err(error) if error.kind().is_retryable() => {
                self.expire();
                if self.is_anything_waiting() {
                    self.open_after(PAUSE);
                }
            }
            Err(error) => {
                for request in self.places.take_aside().into_iter().chain(std::mem::take(&mut self.queue)) {
                    self.fail(request, PublishError::NotSent(again(&error)));
                }
            }
        }
    }

    fn look_if_blocked(&mut self) {
        let reason = self.blocked.borrow_and_update().clone();
        self.blocked_since = reason.map(|reason| match self.blocked_since.take() {
            Some((since, _)) => (since, reason),
            None => (Instant::now(), reason),
        });
    }
}

async fn opened(opening: &mut Option<BoxFuture<'static, Result<Arc<dyn Channel>>>>) -> Result<Arc<dyn Channel>> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}
