//! One queue of a session, without a server.

use super::*;

fn slot(now: Instant) -> Slot {
    Slot::new(QueueName::default(), QueueType::Classic, now)
}

fn fetch(want: usize) -> Fetch {
    Fetch { want, is_hungry: false, pool: 10, recent: 0 }
}

#[test]
fn a_new_consumer_is_in_doubt_until_its_first_burst_is_known_to_be_here() {
    let now = Instant::now();
    let mut slot = slot(now);
    assert_eq!(slot.doubt(now), (Doubt::None, None));
    slot.consume(1, 5);
    assert_eq!(slot.doubt(now), (Doubt::Order, None));
    assert_eq!(slot.can_be_cancelled(now), Err(None));
    slot.is_proved(7);
    assert_eq!(slot.doubt(now), (Doubt::Order, None));
    slot.is_proved(1);
    assert_eq!(slot.doubt(now), (Doubt::None, None));
    slot.consume(2, 9);
    assert_eq!(slot.doubt(now), (Doubt::Order, None));
}

#[test]
fn only_a_full_consumer_is_in_doubt_after_acknowledgements_and_only_for_a_moment() {
    let now = Instant::now();
    let mut slot = slot(now);
    slot.consume(1, 2);
    slot.is_proved(1);
    slot.arrived(1);
    slot.acknowledged(1, now);
    assert_eq!(slot.doubt(now), (Doubt::None, None), "it had room before");
    slot.arrived(1);
    slot.arrived(1);
    slot.acknowledged(1, now);
    assert_eq!(slot.doubt(now), (Doubt::More, Some(now + GRACE)));
    assert_eq!(slot.doubt(now + GRACE), (Doubt::None, None));
    slot.arrived(1);
    assert_eq!(slot.doubt(now), (Doubt::None, None), "it is full again");
}

#[test]
fn a_consumer_is_not_cancelled_while_what_acknowledgements_made_room_for_is_on_its_way() {
    let (start, millisecond) = (Instant::now(), Duration::from_millis(1));
    let at = |n: u32| start + millisecond * n;
    let mut slot = slot(start);
    slot.consume(1, 3);
    slot.is_proved(1);
    assert_eq!(slot.can_be_cancelled(at(0)), Ok(()), "the server had nothing");
    (0..3).for_each(|_| slot.arrived(1));
    assert_eq!(slot.can_be_cancelled(at(0)), Ok(()), "it is full");
    // They come more slowly than jobs end: it is never full again, and each is waited for.
    slot.acknowledged(1, at(0));
    slot.acknowledged(1, at(5));
    assert_eq!(slot.can_be_cancelled(at(6)), Err(Some(at(0) + PATIENCE)));
    slot.arrived(1);
    slot.acknowledged(1, at(18));
    assert_eq!(slot.can_be_cancelled(at(22)), Err(Some(at(5) + PATIENCE)));
    slot.arrived(1);
    slot.arrived(1);
    assert_eq!(slot.can_be_cancelled(at(23)), Ok(()));
    // It had no more.
    slot.acknowledged(1, at(30));
    assert_eq!(slot.can_be_cancelled(at(30)), Err(Some(at(30) + PATIENCE)));
    assert_eq!(slot.can_be_cancelled(at(30) + PATIENCE), Ok(()));
    slot.acknowledged(1, at(60));
    assert_eq!(slot.can_be_cancelled(at(60)), Ok(()));
}

#[test]
fn consumers_are_added_for_what_is_missing_and_full_ones_put_together() {
    let now = Instant::now();
    let mut slot = slot(now);
    for number in 1..=6 {
        assert_eq!(slot.more(fetch(1), 0, now), Some(More { limit: 1, replaces: false }));
        slot.consume(number, 1);
        assert_eq!(slot.more(fetch(1), 0, now), None, "it is being made");
        slot.is_proved(number);
        assert_eq!(slot.more(fetch(1), 0, now), None, "it has room");
        slot.arrived(number);
    }
    slot.acknowledged(6, now);
    assert_eq!(slot.more(fetch(2), 0, now), Some(More { limit: 1, replaces: true }));
    assert_eq!(slot.cancel_full(), [1, 2, 3, 4, 5]);
    assert_eq!(slot.cancel(), [6]);
    // Jobs of cancelled ones give room to nobody.
    slot.acknowledged(1, now);
    assert_eq!(slot.more(fetch(1), 0, now), Some(More { limit: 1, replaces: false }));
    slot.is_paused = true;
    assert_eq!(slot.more(fetch(1), 0, now), None);
}

#[test]
fn a_queue_without_the_room_that_a_fetch_wants_may_have_more() {
    let now = Instant::now();
    let mut slot = slot(now);
    assert_eq!(slot.offer(fetch(1), 0, now).doubt, Doubt::Order, "nobody has asked the server");
    slot.consume(1, 2);
    slot.is_proved(1);
    slot.arrived(1);
    assert_eq!(slot.offer(fetch(1), 0, now).doubt, Doubt::None);
    assert_eq!(slot.offer(fetch(2), 0, now).doubt, Doubt::Order);
    assert_eq!(slot.offer(fetch(2), 2, now).doubt, Doubt::None);
    let of_a_small_pool = Fetch { pool: 2, ..fetch(2) };
    assert_eq!(slot.offer(of_a_small_pool, 0, now).doubt, Doubt::More);
    assert_eq!(slot.offer(Fetch { is_hungry: true, ..of_a_small_pool }, 0, now).doubt, Doubt::Order);
    slot.is_paused = true;
    assert_eq!(slot.offer(fetch(2), 0, now).doubt, Doubt::None);
}

#[test]
fn copies_of_recovered_jobs_are_waited_for() {
    let now = Instant::now();
    let mut slot = slot(now);
    slot.expect_copies(2, now);
    assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_ARE_STORED_WITHIN)));
    slot.copy_came();
    assert_eq!(slot.more(fetch(1), 0, now), None, "there will be room");
    slot.copies_are_stored(1, now);
    assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_ARE_STORED_WITHIN)));
    slot.copies_are_stored(1, now);
    assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_COME_WITHIN)));
    // Another session has got the other one.
    assert_eq!(slot.doubt(now + COPIES_COME_WITHIN), (Doubt::None, None));
    slot.copy_came();
    assert_eq!(slot.doubt(now), (Doubt::None, None));
}

#[test]
fn what_goes_back_is_waited_for_until_it_is_stored() {
    let now = Instant::now();
    let mut slot = slot(now);
    slot.is_going_back(now);
    assert_eq!(slot.doubt(now), (Doubt::Order, Some(now + COPIES_ARE_STORED_WITHIN)));
    assert_eq!(slot.more(fetch(1), 0, now), None, "it would get what stood behind");
    assert!(slot.more(fetch(1), 0, now + COPIES_ARE_STORED_WITHIN).is_some(), "others may run meanwhile");
    slot.is_back();
    assert_eq!(slot.doubt(now), (Doubt::None, None));
    assert!(slot.more(fetch(1), 0, now).is_some());
}
