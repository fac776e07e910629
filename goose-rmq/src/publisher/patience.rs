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
        let waiting = self.queue.front().map(|request| self.patience(request));
        under_way.into_iter().chain(waiting).chain(self.refused.again_at()).min()
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
            if let Some(request) = self.flights.get_mut(ticket).and_then(|under_way| under_way.request.take()) {
                self.stragglers += 1;
                is_mute |= self.heard + self.limits.confirm <= deadline;
                self.fail(request, PublishError::TimedOut);
            }
        }
        if is_mute && self.limits.is_cluster {
            self.leave();
        }
        while let Some(request) = self.queue.front() {
            if self.patience(request) > now {
                break;
            }
            let Some(request) = self.queue.pop_front() else { break };
            let error = self.why_not_sent();
            self.fail(request, error);
        }
        if self.stragglers > 0 && self.stragglers >= self.pace.window() {
            self.give_up_channel();
        }
    }

    /// A node that is cut off from the others, or has not understood who leads a queue, may go on without ever confirming
    /// anything. Another one may know better.
    fn leave(&self) {
        tracing::warn!("the server confirms nothing; will connect to another one");
        let (link, epoch) = (Arc::clone(&self.link), self.epoch);
        tokio::spawn(async move { link.leave(epoch).await });
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
        self.ids.clear();
        self.returned.clear();
        self.deadlines.clear();
        self.stragglers = 0;
        if let Some(channel) = self.channel.take() {
            tokio::spawn(async move { channel.close().await });
        }
        self.cut_off = Instant::now();
    }
}
