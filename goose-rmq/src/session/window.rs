//! How many unacknowledged jobs the consumers of a queue may have together: as many as were asked for.
//!
//! AMQP pushes jobs until a consumer has as many as its limit allows, and the limit is fixed when it begins. So a fetch for
//! which there is not enough room gets one more consumer, with room for what is missing. As jobs end, the room that they
//! had is there for the next fetch; a pool asks for about the same each time, and soon needs no more consumers.
//!
//! Jobs that have ended but are not settled yet take up room too, for a moment. A busy pool has many of those, and would
//! collect room for all of them and then fill it with jobs that others could run. So up to the size of the pool room is
//! made at once, and beyond that only for a fetch that has waited.
//!
//! Room that nobody asks for any more is taken back when a job comes for which there is no fetch, see `hand_back`. Consumers
//! are not replaced meanwhile. While one has room, a job may be on its way to it, and what a quorum queue sends
//! to a consumer that is being cancelled comes after the server has said that it is gone; then the client library
//! drops it, and nobody has it until the channel ends. So only consumers without room are cancelled, as far as possible.

use std::time::Duration;

/// More is of no use to anybody, and quorum queues of RabbitMQ 4 allow no more.
pub(super) const MOST: usize = 2000;

/// So many consumers of one queue are enough: those that are full are put together into a new one.
const MANY: usize = 6;

/// How long a fetch has to wait before it gets room beyond the size of its pool.
pub(super) const HUNGER: Duration = Duration::from_millis(10);

/// What a fetch wants, whichever queue it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) want: usize,
    /// It has waited for a while.
    pub(super) is_hungry: bool,
    /// How many jobs the pool means to hold.
    pub(super) pool: usize,
    /// How many claims ended lately.
    pub(super) recent: usize,
}

/// What there is of one queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Supply {
    /// How many jobs are here for the fetch, of this queue or of those before it.
    pub(super) ready: usize,
    /// How many consumers there are, what their limits are together, and how many jobs they may still get.
    pub(super) consumers: usize,
    pub(super) limits: usize,
    pub(super) room: usize,
    /// How many jobs of this queue are being run.
    pub(super) running: usize,
}

impl Supply {
    /// Whether the fetch could get more if there were more room.
    pub(super) fn is_short(self, fetch: Fetch) -> bool {
        fetch.want.saturating_sub(self.ready).min(MOST) > self.room
    }
}

/// A consumer to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct More {
    pub(super) limit: u16,
    /// In place of those that are full.
    pub(super) replaces: bool,
}

/// The consumer that a fetch needs; `None` if there is room enough.
pub(super) fn more(fetch: Fetch, supply: Supply) -> Option<More> {
    let missing = fetch.want.saturating_sub(supply.ready).min(MOST).saturating_sub(supply.room);
    let allowed = fetch.pool.max(fetch.want).saturating_sub(supply.limits);
    let missing = if fetch.is_hungry { missing } else { missing.min(allowed) };
    if missing == 0 {
        return None;
    }
    let replaces = supply.consumers >= MANY;
    // What the replaced ones have delivered gives room back to nobody. Where claims end quickly that room will be wanted at
    // once; where they end slowly it would be filled with jobs that nobody asks for.
    let in_advance = if replaces { supply.running.min(fetch.recent) } else { 0 };
    let limit = u16::try_from((missing + in_advance).min(MOST)).ok()?;
    Some(More { limit, replaces })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Supply = Supply { ready: 0, consumers: 0, limits: 0, room: 0, running: 0 };

    fn fetch(want: usize) -> Fetch {
        Fetch { want, is_hungry: false, pool: 5, recent: 0 }
    }

    fn limit(fetch: Fetch, supply: Supply) -> Option<u16> {
        more(fetch, supply).map(|more| more.limit)
    }

    #[test]
    fn a_fetch_gets_room_for_what_is_missing() {
        assert_eq!(limit(fetch(0), NOTHING), None);
        assert_eq!(limit(fetch(16), NOTHING), Some(16));
        assert_eq!(limit(fetch(16), Supply { ready: 6, ..NOTHING }), Some(10));
        assert_eq!(limit(fetch(16), Supply { ready: 16, ..NOTHING }), None);
        assert_eq!(limit(fetch(16), Supply { consumers: 1, limits: 6, room: 6, ..NOTHING }), Some(10));
        assert_eq!(limit(fetch(16), Supply { consumers: 1, limits: 16, room: 16, ..NOTHING }), None);
        assert_eq!(limit(fetch(100_000), NOTHING), Some(2000));
        assert_eq!(limit(fetch(100_000), Supply { consumers: 1, limits: 2000, room: 2000, ..NOTHING }), None);
    }

    #[test]
    fn beyond_the_size_of_the_pool_only_who_has_waited_gets_room() {
        let full = |limits| Supply { consumers: 1, limits, ..NOTHING };
        assert_eq!(limit(fetch(2), full(3)), Some(2));
        assert_eq!(limit(fetch(2), full(4)), Some(1));
        assert_eq!(limit(fetch(2), full(5)), None);
        assert!(full(5).is_short(fetch(2)));
        assert_eq!(limit(Fetch { is_hungry: true, ..fetch(2) }, full(5)), Some(2));
        assert_eq!(limit(fetch(20), full(5)), Some(15), "it asks for as much in one go");
    }

    #[test]
    fn many_consumers_become_one_with_room_for_what_ends_soon() {
        let supply = Supply { consumers: MANY, running: 24, ..NOTHING };
        assert_eq!(more(fetch(1), supply), Some(More { limit: 1, replaces: true }));
        assert_eq!(more(Fetch { recent: 5, ..fetch(1) }, supply), Some(More { limit: 6, replaces: true }));
        assert_eq!(more(Fetch { recent: 1000, ..fetch(1) }, supply), Some(More { limit: 25, replaces: true }));
        let few = Supply { consumers: 2, ..supply };
        assert_eq!(more(Fetch { recent: 1000, ..fetch(1) }, few), Some(More { limit: 1, replaces: false }));
    }
}
