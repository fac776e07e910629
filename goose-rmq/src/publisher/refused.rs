//! What a quorum queue refuses, and may take in a moment later.
//!
//! A quorum queue refuses messages while it has no leader: for a second or two after a node has died. And on RabbitMQ 3.10 a
//! channel that was new to the queue in that moment is refused for as long as the dead node is away, whoever leads by then:
//! it asks that node alone. A refusal does not say why it came, so each is taken for such a moment first: the message,
//! which is stored nowhere, goes out again on a new channel. When its queue has refused everything for as long as an enqueue waits
//! for a server that takes nothing in, it is believed: then the queue is full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::PublishError;
use super::actor::Actor;
use super::places::place;
use super::request::Request;
use crate::amqp::Outgoing;

/// The pauses between attempts, doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Messages that were refused, and wait for another attempt.
#[derive(Debug)]
pub(super) struct Refused {
    /// How long a queue may refuse everything before that is told; `None` where a refusal has no other cause than the queue.
    limit: Option<Duration>,
    /// Since when each queue, or exchange of the cascade, refuses everything.
    since: HashMap<String, Since>,
    waiting: Vec<Request>,
    /// When they are sent again.
    again_at: Option<Instant>,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    began: Instant,
    /// Another node was asked meanwhile.
    has_left: bool,
}

/// What a refusal is taken for.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Final,
    Passing,
    /// Of this node, perhaps.
    OfNode,
}

impl Refused {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: HashMap::new(), waiting: Vec::new(), again_at: None, pause: FIRST_PAUSE }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// What a refusal of this message is taken for.
    fn judge(&mut self, message: &Outgoing, now: Instant) -> Refusal {
        let Some(limit) = self.limit else { return Refusal::Final };
        let since = self.since.entry(place(message).to_owned()).or_insert(Since { began: now, has_left: false });
        let passed = now.saturating_duration_since(since.began);
        if passed >= limit {
            Refusal::Final
        } else if passed >= limit / 2 && !std::mem::replace(&mut since.has_left, true) {
            Refusal::OfNode
        } else {
            Refusal::Passing
        }
    }
}

impl Actor {
    pub(super) fn acked(&mut self, request: Request) {
        self.pace.acked();
        if !self.refused.since.is_empty() && self.refused.since.remove(place(&request.message)).is_some() {
            self.refused.pause = FIRST_PAUSE;
        }
        request.answer(Ok(()));
    }

    pub(super) fn nacked(&mut self, mut request: Request) {
        self.pace.nacked();
        let now = Instant::now();
        match self.refused.judge(&request.message, now) {
            Refusal::Final => return self.fail(request, PublishError::Nacked),
            Refusal::OfNode if self.limits.is_cluster => self.leave("refuses what others may take"),
            Refusal::OfNode | Refusal::Passing => {}
        }
        request.sent = false;
        let Refused { waiting, again_at, pause, .. } = &mut self.refused;
        waiting.push(request);
        if again_at.is_none() {
            *again_at = Some(now + *pause);
            *pause = (*pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends what was refused again when its time has come, before everything else and on a new channel.
    pub(super) fn try_refused_again(&mut self) {
        if self.refused.again_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.refused.again_at = None;
        tracing::debug!(messages = self.refused.waiting.len(), "sending again what was refused");
        let waiting = std::mem::take(&mut self.refused.waiting);
        waiting.into_iter().rev().for_each(|request| self.put_first(request));
        let Some(channel) = self.channel.take() else { return };
        self.cut_off = Instant::now();
        // There may be word to come on others, until they are given up.
        let limit = self.limits.confirm;
        self.retire(&channel, limit);
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            let _ = channel.close().await;
        });
    }
}
