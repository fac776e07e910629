//! What is told to the server of deliveries: that claims have ended, and which have got lost here; and whether it has heard.

use std::time::Instant;

use goose_core::Result;

use super::begun::{Begun, begin};
use super::ledger::Ack;
use super::state::{Stage, State};

impl State {
    /// Acknowledges claims, which ends them and makes room for others. The frames are out when this returns. There is no answer
    /// to them, see [`hear`](Self::hear).
    pub(super) fn acknowledge(&mut self, tags: impl IntoIterator<Item = u64>, now: Instant) {
        let Some(channel) = self.channel.clone() else { return };
        let (acks, claims) = self.ledger.close(tags);
        let mut ended = 0;
        for claim in claims {
            let slot = &mut self.slots[claim.slot];
            slot.acknowledged(claim.consumer, now);
            if matches!(claim.stage, Stage::Out { .. } | Stage::Ending { .. }) {
                slot.running = slot.running.saturating_sub(1);
                ended += 1;
            }
            self.show(claim.slot);
            if let (Some(copy), Some((notes, _))) = (claim.ticket.copy, &self.notes) {
                notes.ended(copy);
            }
        }
        self.pace.ended(ended, now);
        for Ack { tag, multiple } in acks {
            let _on_its_way = begin(channel.ack(tag, multiple));
        }
    }

    /// The channel, and the highest tag seen on it.
    pub(super) fn highest(&self) -> (u64, u64) {
        (self.generation, self.ledger.highest())
    }

    /// Gives back what was delivered and has got lost: tags that are missing below one that was seen before everything that was here
    /// was taken in. A consumer that was cancelled has lost them.
    pub(super) fn give_back_lost(&mut self, generation: u64, seen: u64) {
        let Some(channel) = self.channel.clone().filter(|_| self.generation == generation) else { return };
        let lost = self.ledger.give_up_below(seen);
        for tag in &lost {
            let _on_its_way = begin(channel.give_back(*tag));
        }
        if !lost.is_empty() {
            tracing::debug!(jobs = lost.len(), "jobs came to a consumer that was gone; they go back to their queues");
        }
    }

    /// Asks the server for an answer behind everything that was sent on the channel until now: with that answer it has
    /// heard all of it. What was only written may be lost with the connection. `None` if there is no channel.
    ///
    /// The question is a limit for the next consumer. So consumers are made under the same lock.
    pub(super) fn hear(&self) -> Option<Begun<Result<()>>> {
        let channel = self.channel.clone()?;
        Some(begin(Box::pin(async move { channel.round_trip().await })))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bench::Bench;

    #[test]
    fn what_a_cancelled_consumer_has_lost_goes_back() {
        let mut bench = Bench::one();
        bench.consume(0, 1, 9);
        bench.arrive(0, 1, Duration::ZERO);
        bench.tags = 3;
        bench.arrive(0, 1, Duration::ZERO);
        let (generation, seen) = bench.state.highest();
        // One below it was here and had not been taken in yet.
        bench.tags = 1;
        bench.arrive(0, 1, Duration::ZERO);
        bench.tags = 5;
        bench.arrive(0, 1, Duration::ZERO);
        bench.state.give_back_lost(generation + 1, seen);
        assert!(bench.channel.given_back().is_empty(), "of another channel");
        bench.state.give_back_lost(generation, seen);
        assert_eq!(bench.channel.given_back(), [3], "5 may still come");
        bench.state.acknowledge([1, 2, 4], bench.now);
        assert_eq!(bench.channel.acks(), [(4, true)]);
    }
}
