//! Queues that were deleted under a session are declared again.

use std::sync::Arc;

use super::task::{FIRST_PAUSE, LONGEST_PAUSE, Task};
use super::wires::Event;

impl Task {
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
