//! One queue says nothing, or is told the same id again: the others of its channel go on.

use super::super::places::STUCK;
use super::*;

/// Short, and long enough for what is to have its word in time.
const PATIENCE: Duration = Duration::from_secs(2);

/// To another queue that takes the same channel.
fn to_another(id: &str) -> Outgoing {
    let here = index(&message(id), CHANNELS);
    let names = (0..).map(|n| Outgoing { routing_key: format!("q{n}"), ..message(id) });
    names.into_iter().find(|other| index(other, CHANNELS) == here).unwrap()
}

impl Stage {
    /// A message to another queue of the channel has its turn, and its word, at once.
    fn another_goes_on(&self, id: &str, sent: usize, channel: &FakeChannel) {
        let began = Instant::now();
        let word = begin_one(&self.publisher, to_another(id));
        assert_eq!(self.server.sent(0, sent).last().unwrap(), id);
        channel.ack(id);
        wait(word).unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "it waited for {:?}", began.elapsed());
    }
}

#[test]
fn an_id_without_a_word_may_be_sent_again_and_stops_nobody() {
    let stage = Stage::new(|options| options.confirm_timeout = PATIENCE);
    let first = stage.publish(&["a"]);
    let channel = stage.first();
    let words = first.all();
    assert!(matches!(words[..], [Err(PublishError::TimedOut)]), "{words:?}");
    // What it was told to do. The first may be stored or not; this one has a word of its own.
    let again = stage.publish(&["a"]);
    stage.server.sent(0, 2);
    stage.another_goes_on("b", 3, &channel);
    channel.ack("a");
    channel.ack("a");
    assert!(again.all()[0].is_ok());
}

#[test]
fn a_second_message_under_an_id_that_is_under_way_waits_alone() {
    let stage = Stage::new(|_| {});
    let first = stage.publish(&["a"]);
    stage.server.sent(0, 1);
    let channel = stage.first();
    let second = stage.publish(&["a"]);
    stage.another_goes_on("b", 2, &channel);
    channel.ack("a");
    assert_eq!(stage.server.sent(0, 3), ["a", "b", "a"]);
    channel.ack("a");
    assert!(first.all()[0].is_ok() && second.all()[0].is_ok());
}

#[test]
fn a_stuck_queue_takes_the_window_from_nobody_for_long() {
    let stage = Stage::new(|options| options.window = 4);
    let stuck = stage.publish(&["a", "b", "c", "d"]);
    stage.server.sent(0, 4);
    let channel = stage.first();
    let (more, began) = (stage.publish(&["e"]), Instant::now());
    stage.another_goes_on("f", 5, &channel);
    assert!(began.elapsed() < 3 * STUCK, "{:?}", began.elapsed());
    stage.another_goes_on("g", 6, &channel);
    // It goes on where it was.
    for id in ["a", "b", "c", "d"] {
        channel.ack(id);
    }
    stage.server.sent(0, 7);
    channel.ack("e");
    assert!(stuck.all().iter().chain(&more.all()).all(Result::is_ok));
}

/// The server's return of the second is told with the confirm of the first, which nobody waits for any more.
#[test]
fn what_comes_back_under_an_id_that_is_under_way_twice_is_sent_again() {
    let stage = Stage::new(|options| options.confirm_timeout = PATIENCE);
    let first = stage.publish(&["a"]);
    let channel = stage.first();
    assert!(matches!(first.all()[..], [Err(PublishError::TimedOut)]));
    let again = stage.publish(&["a"]);
    stage.server.sent(0, 2);
    channel.say("a", acked("a"));
    channel.ack("a");
    stage.server.sent(0, 3);
    channel.ack("a");
    assert!(again.all()[0].is_ok());
}

/// The client library may forget what is handed in at the very moment when the connection breaks.
#[test]
fn what_is_forgotten_at_the_end_of_its_channel_is_unknown_soon() {
    let stage = Stage::new(|_| {});
    let forgotten = stage.publish(&["a", "b"]);
    stage.server.sent(0, 2);
    stage.first().end_in_silence();
    // Somebody has to find out that it is over.
    let next = stage.publish(&["c"]);
    assert_eq!(stage.server.sent(1, 1), ["c"]);
    stage.server.channel(1).ack("c");
    assert!(next.all()[0].is_ok());
    let words = forgotten.all();
    assert!(words.iter().all(|word| matches!(word, Err(PublishError::Unknown(_)))), "{words:?}");
    // Its id is free.
    let again = stage.publish(&["a"]);
    stage.server.sent(1, 2);
    stage.server.channel(1).ack("a");
    assert!(again.all()[0].is_ok());
}
