//! How many unacknowledged jobs a consumer may have: as many as were asked for.
//!
//! AMQP pushes jobs until a consumer has as many as its limit allows, and the limit is fixed when it begins. So a fetch
//! that asks for more than the limit has room for needs another consumer; one that asks for far less gets another one
//! too, or it would take jobs that others could run. A pool asks for about the same each time, and keeps its consumer.
//!
//! A new consumer starts from zero, whatever its predecessor delivered and is still being run here. As those jobs end, room
//! for others is wanted that the new limit does not have. So a session in which claims end quickly gives it room for them
//! from the start, and has a few jobs for a moment that nobody asked for; one in which they end slowly does not.

/// More is of no use to anybody, and quorum queues of RabbitMQ 4 allow no more.
pub(super) const MOST: usize = 2000;

/// What there is of one queue, and what a fetch wants of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// How many jobs the waiting fetch asks for.
    pub(super) want: usize,
    /// How many are here for it, from this queue or from those before it.
    pub(super) ready: usize,
    /// Limit of the consumer that there is, and how many of its jobs are not acknowledged.
    pub(super) consumer: Option<(usize, usize)>,
    /// How many jobs of this queue are being run, whichever consumer delivered them.
    pub(super) running: usize,
    /// How many claims ended lately.
    pub(super) recent: usize,
}

/// The limit of the consumer that should take the place of the one there is; `None` if that one will do.
pub(super) fn new_limit(demand: Demand) -> Option<u16> {
    let missing = demand.want.saturating_sub(demand.ready).min(MOST);
    if missing == 0 {
        return None;
    }
    let wanted = missing + demand.running.min(demand.recent);
    if let Some((limit, unacknowledged)) = demand.consumer {
        let room = limit.saturating_sub(unacknowledged);
        if (missing..=2 * wanted).contains(&room) {
            return None;
        }
    }
    u16::try_from(wanted.min(MOST)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Demand = Demand { want: 0, ready: 0, consumer: None, running: 0, recent: 0 };

    #[test]
    fn nobody_consumes_for_a_fetch_that_has_what_it_wants() {
        assert_eq!(new_limit(IDLE), None);
        assert_eq!(new_limit(Demand { want: 3, ready: 3, ..IDLE }), None);
    }

    #[test]
    fn the_first_consumer_has_room_for_what_is_missing() {
        assert_eq!(new_limit(Demand { want: 16, ..IDLE }), Some(16));
        assert_eq!(new_limit(Demand { want: 16, ready: 6, ..IDLE }), Some(10));
        assert_eq!(new_limit(Demand { want: 100_000, ..IDLE }), Some(2000));
    }

    #[test]
    fn a_consumer_is_kept_while_it_has_about_the_room_that_is_wanted() {
        let kept = |limit, unacknowledged, want| {
            new_limit(Demand { want, consumer: Some((limit, unacknowledged)), ..IDLE }).is_none()
        };
        assert!(kept(25, 0, 25) && kept(25, 20, 5) && kept(25, 20, 3));
        assert!(!kept(25, 20, 6), "too small");
        assert!(!kept(25, 0, 12), "it would take twice as many");
        assert!(kept(25, 0, 13));
        // It delivered more than its limit allows: it was given up in the meantime.
        assert!(!kept(5, 7, 1));
    }

    #[test]
    fn slow_jobs_get_no_room_in_advance_and_quick_ones_do() {
        let busy = Demand { want: 1, running: 24, ..IDLE };
        assert_eq!(new_limit(busy), Some(1));
        assert_eq!(new_limit(Demand { recent: 5, ..busy }), Some(6));
        assert_eq!(new_limit(Demand { recent: 1000, ..busy }), Some(25));
    }

    #[test]
    fn early_jobs_that_are_held_do_not_keep_others_out() {
        // The limit is used up by a job whose time has not come.
        assert_eq!(new_limit(Demand { want: 1, consumer: Some((1, 1)), ..IDLE }), Some(1));
    }

    proptest! {
        #[test]
        fn a_new_consumer_is_not_replaced_at_once(
            want in 1_usize..5000, ready in 0_usize..100, running in 0_usize..3000, recent in 0_usize..3000,
        ) {
            let demand = Demand { want, ready, consumer: None, running, recent };
            if let Some(limit) = new_limit(demand) {
                let consumer = Some((usize::from(limit), 0));
                prop_assert_eq!(new_limit(Demand { consumer, ..demand }), None);
            }
        }
    }
}
