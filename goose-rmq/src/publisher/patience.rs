//! How long messages wait: for their turn, for the server's word, for a server that blocks or is away.

use std::sync::Arc;
use std::time::Instant;

use goose_core::{Error, ErrorKind};

use super::PublishError;
use super::actor::Actor;
use super::request::Request;

impl Actor {
    /// When the next one has waited long enough, or for its next attempt.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let under_way = self.deadlines.front().map(|(deadline, _)| *deadline);
        let waiting = self.queue.front().into_iter().chain(self.places.first_aside());
        let waiting = waiting.map(|request| self.patience(request)).min();
        // What is behind a full window goes out when a place that fills it turns out to be stuck.
        let stuck = self.is_anything_waiting().then(|| self.places.stuck_at(Instant::now())).flatten();
        let over = self.retired.iter().map(|channel| channel.over_at).min();
        under_way.into_iter().chain(waiting).chain(stuck).chain(over).chain(self.refused.again_at()).min()
    }

    /// How long a request waits for its turn.
    fn patience(&self, request: &Request) -> Instant {
        match &self.blocked_since {
            Some((since, _)) => request.arrived.max(*since) + self.limits.blocked,
            None if self.channel.is_none() => request.arrived.max(self.cut_off) + self.limits.connect,
            // The server says nothing on those before it.
            None => request.arrived + self.limits.confirm,
        }
    }

    /// Answers those who have waited long enough.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        // Nothing at all has been confirmed since that was sent.
        let mut is_mute = false;
        while self.deadlines.front().is_some_and(|(deadline, _)| *deadline <= now) {
            let Some((deadline, ticket)) = self.deadlines.pop_front() else { break };
            // Its future is kept: one that is dropped unresolved stays in the library's list for ever.
            let Some(under_way) = self.flights.get_mut(ticket) else { continue };
            if let Some(request) = under_way.request.take() {
                // Its id is free for whoever takes the advice to enqueue the job again.
                self.ids.remove(&under_way.id);
                *self.given_up.entry(Arc::clone(&under_way.id)).or_default() += 1;
                self.places.gave_up(&under_way.place);
                self.stragglers += 1;
                is_mute |= self.heard + self.limits.confirm <= deadline;
                self.fail(request, PublishError::TimedOut);
            }
        }
        if is_mute && self.limits.is_cluster {
            self.leave("confirms nothing");
        }
        while let Some(request) = self.queue.front() {
            if self.patience(request) > now {
                break;
            }
            let Some(request) = self.queue.pop_front() else { break };
            let error = self.why_not_sent();
            self.fail(request, error);
        }
        self.look_after_retired(now);
        while let Some(request) = self.take_expired_aside(now) {
            let error = self.why_not_sent();
            self.fail(request, error);
        }
        // While there is word on others, it is not the channel that is at fault; but there is an end to that, too.
        let is_silent = now.saturating_duration_since(self.heard) >= self.limits.confirm;
        let many = self.pace.window() * if is_silent { 1 } else { 4 };
        if self.stragglers > 0 && self.stragglers >= many {
            self.give_up_channel();
        }
    }

    /// A node that is cut off from the others, or has not understood who leads a queue, may go on without ever confirming
    /// anything. Another one may know better.
    pub(super) fn leave(&self, what_it_does: &str) {
        tracing::warn!("the server {what_it_does}; will connect to another one");
        let (link, epoch) = (Arc::clone(&self.link), self.connection);
        tokio::spawn(async move { link.leave(epoch).await });
    }

    fn take_expired_aside(&mut self, now: Instant) -> Option<Request> {
        let mut places = std::mem::take(&mut self.places);
        let expired = places.take_expired(|request| self.patience(request) <= now, now);
        self.places = places;
        expired
    }

    /// A message that was given up has ended. Whether it came back is of no interest; but when another one is under way under
    /// its id, nobody can tell whose return that was. So the mark is for that one: it is sent again, at worst for nothing.
    pub(super) fn forget_straggler(&mut self, id: &str) {
        self.stragglers -= 1;
        let Some(count) = self.given_up.get_mut(id) else { return };
        *count -= 1;
        if *count == 0 {
            self.given_up.remove(id);
            if !self.ids.contains(id) {
                self.returned.remove(id);
            }
        }
    }

    fn why_not_sent(&self) -> PublishError {
        if let Some((_, reason)) = &self.blocked_since {
            return PublishError::Blocked(reason.clone());
        }
        let message = match self.link.last_error() {
            Some(why) => format!("no connection to the server within {:?}: {why}", self.limits.connect),
            None => "the server takes too long to confirm the jobs before this one; nothing was sent".to_owned(),
        };
        PublishError::NotSent(Error::new(ErrorKind::Unavailable, message))
    }

    /// A channel on which the server has nothing to say any more is of no use.
    fn give_up_channel(&mut self) {
        tracing::warn!(unconfirmed = self.flights.len(), "the server confirms nothing; a new channel is opened");
        for under_way in self.flights.take_all() {
            if let Some(request) = under_way.request {
                let why = Error::new(ErrorKind::Unavailable, "the server confirmed nothing on this channel");
                self.fail(request, PublishError::Unknown(why));
            }
        }
        self.retired.clear();
        self.ids.clear();
        self.given_up.clear();
        self.places.begin_again();
        self.returned.clear();
        self.deadlines.clear();
        self.stragglers = 0;
        if let Some(channel) = self.channel.take() {
            tokio::spawn(async move { channel.close().await });
        }
        self.cut_off = Instant::now();
    }
}
