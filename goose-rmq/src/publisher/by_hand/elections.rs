//! Quorum queues without a leader, and nodes that never learn who leads.

use super::*;
use crate::options::QueueType;

fn on_a_cluster(options: &mut RmqOptions) {
    options.queue_type = QueueType::Quorum;
    options.urls.push("amqp://elsewhere".to_owned());
}

#[test]
fn what_a_quorum_queue_refuses_goes_out_again_on_a_new_channel_before_what_came_later() {
    let stage = Stage::new(on_a_cluster);
    let words = stage.publish(&["a", "b"]);
    stage.server.sent(0, 2);
    let first = stage.first();
    first.nack("a");
    first.nack("b");
    assert_eq!(stage.server.sent(1, 2), ["a", "b"]);
    let second = stage.server.channel(1);
    second.nack("b");
    second.ack("a");
    assert_eq!(stage.server.sent(2, 1), ["b"]);
    stage.server.channel(2).ack("b");
    assert!(words.all().iter().all(Result::is_ok));
}

#[test]
fn a_quorum_queue_that_goes_on_refusing_is_believed_and_a_classic_one_at_once() {
    let classic = Stage::new(|_| ());
    let words = classic.publish(&["a"]);
    classic.first().nack("a");
    assert!(matches!(words.all()[..], [Err(PublishError::Nacked)]));
    assert_eq!(classic.server.channels(), 1);

    let stage = Stage::new(|options| {
        on_a_cluster(options);
        options.blocked_timeout = Duration::from_millis(500);
    });
    let began = Instant::now();
    let mut word = begin(&stage.publisher, "a");
    let mut channel = 0;
    let word = loop {
        let is_sent = || stage.server.channels() > channel && stage.server.channel(channel).under_way() == 1;
        if is_sent() {
            stage.server.channel(channel).nack("a");
            channel += 1;
        }
        if let Ok(word) = word.try_recv() {
            break word;
        }
        std::thread::yield_now();
    };
    assert!(matches!(word, Err(PublishError::Nacked)), "{word:?}");
    assert!(began.elapsed() >= Duration::from_millis(500) && channel >= 3, "{channel} attempts");
    assert_eq!(stage.server.goodbyes(), 1, "another node was asked, once");
    // It is known to refuse everything: the next one is told at once.
    let next = stage.publish(&["b"]);
    stage.server.sent(channel - 1, 2);
    stage.server.channel(channel - 1).nack("b");
    assert!(matches!(next.all()[..], [Err(PublishError::Nacked)]));
}

#[test]
fn a_node_that_confirms_nothing_at_all_is_left_and_one_that_confirms_something_is_not() {
    let limit = Duration::from_millis(300);
    for is_mute in [true, false] {
        let stage = Stage::new(|options| {
            on_a_cluster(options);
            options.confirm_timeout = limit;
        });
        let words = stage.publish(&["a", "b"]);
        stage.server.sent(0, 2);
        if !is_mute {
            stage.first().ack("b");
        }
        assert!(matches!(words.all()[0], Err(PublishError::TimedOut)));
        if is_mute {
            eventually("the connection is closed", || stage.server.goodbyes() == 1);
        } else {
            // Whoever has been told was told after the decision.
            stage.publish(&["c"]);
            stage.server.sent(0, 3);
            assert_eq!(stage.server.goodbyes(), 0);
        }
    }
}
