//! How many unacknowledged jobs the consumers of a queue may have together: as many as were asked for.
//!
//! AMQP pushes jobs until a consumer has as many as its limit allows, and the limit is fixed when it begins. So a fetch for
//! which there is not enough room gets one more consumer, with room for what is missing. As jobs end, the room that they
//! had is there for the next fetch; a pool asks for about the same each time, and soon needs no more consumers.
//!
//! Room that nobody asks for any more is taken back when a job comes for which there is no fetch, see `hand_back`. Consumers
//! are not replaced meanwhile. While one has room, a job may be on its way to it, and what a quorum queue sends
//! to a consumer that is being cancelled comes after the server has said that it is gone; then the client library
//! drops it, and nobody has it until the channel ends. So only consumers without room are cancelled, as far as possible.

/// More is of no use to anybody, and quorum queues of RabbitMQ 4 allow no more.
pub(super) const MOST: usize = 2000;

/// So many consumers of one queue are enough: those that are full are put together into a new one.
const MANY: usize = 6;

/// What there is of one queue, and what a fetch wants of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand {
    /// How many jobs the waiting fetch wants beyond those that are here.
    pub(super) missing: usize,
    /// How many consumers there are, and how many jobs they may still get.
    pub(super) consumers: usize,
    pub(super) room: usize,
    /// How many jobs of this queue are being run.
    pub(super) running: usize,
    /// How many claims ended lately.
    pub(super) recent: usize,
}

/// A consumer to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct More {
    pub(super) limit: u16,
    /// In place of those that are full.
    pub(super) replaces: bool,
}

/// The consumer that a fetch needs; `None` if there is room enough.
pub(super) fn more(demand: Demand) -> Option<More> {
    let missing = demand.missing.min(MOST);
    if missing <= demand.room {
        return None;
    }
    let replaces = demand.consumers >= MANY;
    // What the replaced ones have delivered gives room back to nobody. Where claims end quickly that room will be wanted at
    // once; where they end slowly it would be filled with jobs that nobody asks for.
    let in_advance = if replaces { demand.running.min(demand.recent) } else { 0 };
    let limit = u16::try_from((missing - demand.room + in_advance).min(MOST)).ok()?;
    Some(More { limit, replaces })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(demand: Demand) -> Option<u16> {
        more(demand).map(|more| more.limit)
    }

    #[test]
    fn a_fetch_gets_room_for_what_is_missing() {
        let demand = Demand::default();
        assert_eq!(limit(demand), None);
        assert_eq!(limit(Demand { missing: 16, ..demand }), Some(16));
        assert_eq!(limit(Demand { missing: 16, consumers: 1, room: 6, ..demand }), Some(10));
        assert_eq!(limit(Demand { missing: 16, consumers: 1, room: 16, ..demand }), None);
        assert_eq!(limit(Demand { missing: 100_000, ..demand }), Some(2000));
        assert_eq!(limit(Demand { missing: 100_000, consumers: 1, room: 2000, ..demand }), None);
    }

    #[test]
    fn many_consumers_become_one_with_room_for_what_ends_soon() {
        let demand = Demand { missing: 1, consumers: MANY, running: 24, ..Demand::default() };
        assert_eq!(more(demand), Some(More { limit: 1, replaces: true }));
        assert_eq!(more(Demand { recent: 5, ..demand }), Some(More { limit: 6, replaces: true }));
        assert_eq!(more(Demand { recent: 1000, ..demand }), Some(More { limit: 25, replaces: true }));
        assert_eq!(more(Demand { recent: 1000, consumers: 2, ..demand }), Some(More { limit: 1, replaces: false }));
    }
}
