//! Channels that another one has taken the place of, and what is still under way on them.
//!
//! A channel that broke tells so to everything on it, as a rule: what was handed to the client library in the moment when it
//! found out may be forgotten there. So what has no word a while after the end of its channel will not have one.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind};

use super::PublishError;
use super::actor::Actor;
use crate::amqp::Channel;

/// So long after the end of a channel everything on it has been told.
const TOLD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Retired {
    generation: u64,
    channel: Weak<dyn Channel>,
    /// There is no word to come any more.
    pub(super) over_at: Instant,
}

impl Actor {
    /// The channel of this moment is used no more, and ends within this time.
    pub(super) fn retire(&mut self, channel: &Arc<dyn Channel>, ends_within: Duration) {
        if !self.flights.is_empty() {
            let (generation, over_at) = (self.generation, Instant::now() + ends_within + TOLD);
            self.retired.push(Retired { generation, channel: Arc::downgrade(channel), over_at });
        }
    }

    /// On all channels on which there may be word to come.
    pub(super) fn let_confirms_land(&self) {
        if let Some(channel) = &self.channel {
            channel.let_confirms_land();
        }
        for channel in self.retired.iter().filter_map(|retired| retired.channel.upgrade()) {
            channel.let_confirms_land();
        }
    }

    /// Answers what is still under way on channels that are over.
    pub(super) fn look_after_retired(&mut self, now: Instant) {
        let over: Vec<u64> = self.retired.iter().filter(|one| one.over_at <= now).map(|one| one.generation).collect();
        if over.is_empty() {
            return;
        }
        self.retired.retain(|retired| retired.over_at > now);
        for forgotten in self.flights.take_where(|under_way| over.contains(&under_way.channel)) {
            self.places.heard(&forgotten.place, forgotten.request.is_none(), now);
            let Some(request) = forgotten.request else {
                self.forget_straggler(&forgotten.id);
                continue;
            };
            self.ids.remove(&forgotten.id);
            let why = Error::new(ErrorKind::OutcomeUnknown, "the channel ended, and nothing was heard of the message");
            self.fail(request, PublishError::Unknown(why));
        }
    }
}
