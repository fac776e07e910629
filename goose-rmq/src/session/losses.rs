//! What becomes of a session when its channel, a consumer or a queue is taken from it.

use std::sync::Arc;
use std::time::Instant;

use goose_core::{Error, ErrorKind};

use super::task::{FIRST_PAUSE, LONGEST_PAUSE, Task};
use super::wires::{Event, Wire};

impl Task {
    /// The channel is gone, and every claim with it.
    pub(super) fn lose(&mut self, why: Option<&Error>) {
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        self.wires.iter_mut().for_each(|wire| *wire = Wire::default());
        self.opening = 0;
        self.ending.begin_again();
        let mut state = self.session.state();
        let lost = state.ledger.len();
        if let Some(channel) = state.channel.clone().filter(|channel| channel.is_open()) {
            // So that others get the jobs now.
            self.calls.spawn(async move {
                let _ = channel.close().await;
            });
        }
        state.lose(Instant::now());
        state.losses += 1;
        let words = why.map_or_else(|| "the channel was closed".to_owned(), |why| format!("{why:#}"));
        if !state.phase.is_ending() {
            tracing::warn!(
                jobs = lost,
                error = words,
                "a session lost its channel, and its jobs to others; it goes on"
            );
        }
        state.last_error = Some(words);
        drop(state);
        self.session.settled.notify_waiters();
        // What it was consuming may be what is wrong.
        self.session.queues.iter().for_each(|queue| self.session.inner.topology.forget_queue(queue));
    }

    /// Consumers could not be made. The end of the channel may have been noticed before that was told (`is_stale`). A queue that
    /// was deleted is declared again with the next channel; what comes twice, or is a matter of rights, will not go by itself.
    pub(super) fn refused(&mut self, error: Error, is_stale: bool) {
        if !is_stale {
            self.lose(Some(&error));
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > 1 || error.kind() == ErrorKind::PermissionDenied {
            self.fail(error);
        }
    }

    /// Lets the waiting fetch fail.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.session.state();
        state.last_error = Some(format!("{error:#}"));
        if state.wanted > 0 {
            state.failure = Some(error);
            drop(state);
            self.session.delivered.notify_one();
        }
    }

    /// The server has cancelled a consumer: its queue was deleted. It is declared again, after a pause.
    pub(super) fn restore(&mut self, slot: usize, number: u64) {
        let session = Arc::clone(&self.session);
        let mut state = session.state();
        state.slots[slot].drop_consumer(number);
        // When the channel is over, all consumers come to their end.
        let is_open = state.channel.as_ref().is_some_and(|channel| channel.is_open());
        if !is_open || state.phase.is_ending() || state.slots[slot].is_missing {
            return;
        }
        state.slots[slot].is_missing = true;
        let generation = state.generation;
        drop(state);
        let (tell, topology) = (self.tell.clone(), Arc::clone(&session.inner.topology));
        self.calls.spawn(async move {
            let queue = &session.queues[slot];
            tracing::warn!(queue = %queue, "the server has cancelled a consumer, perhaps its queue was deleted; declaring it again");
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                topology.forget_queue(queue);
                let Err(error) = topology.ensure_queue(queue).await else { break };
                pause = (pause * 2).min(LONGEST_PAUSE);
                if tell.send((generation, Event::CannotRestore(error))).is_err() {
                    return;
                }
            }
            let _ = tell.send((generation, Event::Restored(slot)));
        });
    }
}
