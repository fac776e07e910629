//! Publishing to a server that says what the test wants, when it wants: what no real server can be made to do.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind};
use goose_services::eventually;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::*;
use crate::amqp::fake::{FakeChannel, Server, Shared};
use crate::amqp::{Confirmation, Connect, Role, Table};
use crate::runtime::Runtime;

mod elections;
mod stuck;

type Word = Result<(), PublishError>;

#[derive(Debug)]
struct Nothing;

impl Restore for Nothing {
    fn restore<'a>(&'a self, _: &'a Outgoing) -> BoxFuture<'a, CoreResult<()>> {
        Box::pin(async { Ok(()) })
    }
}

struct Stage {
    _runtime: Runtime,
    server: Arc<Server>,
    publisher: Publisher,
}

impl Stage {
    fn new(change: impl FnOnce(&mut RmqOptions)) -> Self {
        let mut options = RmqOptions::new("amqp://nowhere");
        change(&mut options);
        let runtime = Runtime::start().unwrap();
        let server = Arc::new(Server::default());
        let connect: Arc<dyn Connect> = Arc::new(Shared(Arc::clone(&server)));
        let handle = runtime.handle().clone();
        let link = runtime.spawn(async move { Link::open(connect, Role::Publish, SOON, 1, &handle).await });
        let link = wait(link).unwrap().unwrap();
        let publisher = Publisher::new(link, &options, Arc::new(Nothing), runtime.handle());
        Self { _runtime: runtime, server, publisher }
    }

    /// Publishes and does not wait. All goes to one queue, so to one channel.
    fn publish(&self, ids: &[&str]) -> Words {
        Words(ids.iter().map(|id| begin(&self.publisher, id)).collect())
    }

    fn first(&self) -> Arc<FakeChannel> {
        self.server.sent(0, 1);
        self.server.channel(0)
    }
}

/// The words on messages that were published one by one.
struct Words(Vec<oneshot::Receiver<Word>>);

impl Words {
    fn all(self) -> Vec<Word> {
        self.0.into_iter().map(|word| wait(word).unwrap()).collect()
    }
}

fn begin(publisher: &Publisher, id: &str) -> oneshot::Receiver<Word> {
    begin_one(publisher, message(id))
}

fn begin_one(publisher: &Publisher, message: Outgoing) -> oneshot::Receiver<Word> {
    let (sender, receiver) = oneshot::channel();
    let word = publisher.publish(message);
    std::thread::spawn(move || sender.send(wait(word)));
    receiver
}

const SOON: Duration = Duration::from_millis(200);

fn wait<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().build().unwrap().block_on(future)
}

fn message(id: &str) -> Outgoing {
    Outgoing {
        exchange: "".into(),
        routing_key: "q".to_owned(),
        message_id: id.to_owned(),
        priority: 0,
        headers: Table::new(),
        body: Arc::from(*b"x"),
    }
}

fn named(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn told(options: &mut RmqOptions) -> Receiver<Vec<FailureReason>> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    options.hooks.failed = Some(Arc::new(move |failed| {
        let reasons = failed.iter().map(crate::hooks::FailedJob::reason).collect();
        sender.lock().send(reasons).unwrap();
    }));
    receiver
}

fn acked(returned: &str) -> CoreResult<Confirmation> {
    Ok(Confirmation::Acked { returned: Some(returned.to_owned()) })
}

/// The word on the lost message is read before that with which the server's return is told.
#[test]
fn a_confirm_is_not_believed_before_those_that_were_told_with_it() {
    let stage = Stage::new(|_| {});
    let words = stage.publish(&["lost", "stored"]);
    let sent = stage.server.sent(0, 2);
    let channel = stage.first();
    assert_eq!(sent, ["lost", "stored"]);
    channel.say_late("stored", acked("lost"));
    channel.ack("lost");
    // It is sent again, and comes back again, with its own confirm.
    stage.server.sent(0, 3);
    channel.say("lost", acked("lost"));
    let words = words.all();
    assert!(matches!(words[..], [Err(PublishError::Unroutable), Ok(())]), "{words:?}");
}

/// What is told long before the message's own confirm is remembered.
#[test]
fn a_message_that_came_back_early_is_remembered_until_its_confirm() {
    let stage = Stage::new(|_| {});
    let first = stage.publish(&["stored"]);
    stage.server.sent(0, 1);
    let lost = stage.publish(&["lost"]);
    stage.server.sent(0, 2);
    let channel = stage.first();
    channel.say("stored", acked("lost"));
    assert!(first.all().iter().all(Result::is_ok));
    channel.ack("lost");
    stage.server.sent(0, 3);
    channel.ack("lost");
    assert!(lost.all().iter().all(Result::is_ok), "it was stored the second time");
}

#[test]
fn the_same_id_is_never_under_way_twice() {
    let stage = Stage::new(|_| {});
    let twice = stage.publish(&["a", "a", "b"]);
    stage.server.sent(0, 1);
    let channel = stage.first();
    assert_eq!(channel.under_way(), 1, "the second waits, and what is behind it");
    channel.ack("a");
    assert_eq!(stage.server.sent(0, 3), ["a", "a", "b"]);
    channel.ack("b");
    channel.nack("a");
    let words = twice.all();
    assert!(matches!(words[..], [Ok(()), Err(PublishError::Nacked), Ok(())]), "{words:?}");
}

#[test]
fn three_refusals_close_the_window_and_acks_open_it_in_steps() {
    let mut batches = None;
    let stage = Stage::new(|options| {
        options.window = 100;
        batches = Some(told(options));
    });
    let ids: Vec<String> = (0..1_000).map(|_| goose_core::JobId::new().to_string()).collect();
    let words = stage.publisher.publish_all(ids.iter().map(|id| message(id)).collect());
    let sent = stage.server.sent(0, 100);
    let channel = stage.first();
    assert_eq!(channel.under_way(), 100);
    for id in &sent[..3] {
        channel.nack(id);
    }
    let batches = batches.unwrap();
    let told = batches.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(told, [FailureReason::Nacked; 3], "together");
    // Nothing more goes out before the others have their word; then one at a time.
    let mut waiting: Vec<String> = sent[3..].to_vec();
    let mut next = 100;
    let one_more = |waiting: &mut Vec<String>, next: &mut usize| {
        *next += 1;
        let all = stage.server.sent(0, *next);
        assert_eq!(all.len(), *next);
        waiting.push(all[*next - 1].clone());
    };
    for id in waiting.drain(..) {
        channel.nack(&id);
    }
    one_more(&mut waiting, &mut next);
    for _ in 0..4 {
        assert_eq!(channel.under_way(), 1);
        channel.ack(&waiting.remove(0));
        one_more(&mut waiting, &mut next);
    }
    // The fifth in a row.
    channel.ack(&waiting.remove(0));
    next += 8;
    eventually("eight go out", || channel.under_way() == 8);
    for id in &stage.server.sent(0, next)[next - 8..next - 3] {
        channel.ack(id);
    }
    eventually("64 go out", || channel.under_way() == 64);
    let all = stage.server.sent(0, 1);
    for id in &all[all.len() - 5..] {
        channel.ack(id);
    }
    eventually("all hundred go out", || channel.under_way() == 100);
    drop(words);
}

#[test]
fn what_has_no_word_in_time_is_told_so_and_its_channel_is_given_up_when_there_are_many() {
    let stage = Stage::new(|options| {
        options.window = 4;
        options.confirm_timeout = SOON;
    });
    let first = stage.publish(&["a", "b"]);
    stage.server.sent(0, 2);
    let began = Instant::now();
    let words = first.all();
    assert!(words.iter().all(|word| matches!(word, Err(PublishError::TimedOut))), "{words:?}");
    assert!(began.elapsed() >= SOON / 2);
    // A late word frees its place, and is of no interest any more.
    let channel = stage.first();
    channel.ack("a");
    let next = stage.publish(&["c", "d", "e"]);
    stage.server.sent(0, 5);
    channel.ack("d");
    let words = next.all();
    assert!(matches!(words[..], [Err(PublishError::TimedOut), Ok(()), Err(PublishError::TimedOut)]), "{words:?}");
    // The fourth without a word: the channel is of no use.
    let last = stage.publish(&["f"]);
    stage.server.sent(0, 6);
    assert!(matches!(last.all()[..], [Err(PublishError::TimedOut)]));
    let after = stage.publish(&["g"]);
    assert_eq!(stage.server.sent(1, 1), ["g"]);
    stage.server.channel(1).ack("g");
    assert!(after.all()[0].is_ok());
}

#[test]
fn a_channel_that_breaks_leaves_the_sent_unknown_and_the_others_go_on_in_order() {
    let stage = Stage::new(|options| options.window = 10);
    let ids = named(30);
    let words = stage.publisher.publish_all(ids.iter().map(|id| message(id)).collect());
    assert_eq!(stage.server.sent(0, 10), ids[..10]);
    let channel = stage.first();
    channel.ack("0");
    stage.server.sent(0, 11);
    channel.end();
    // Those that had not been sent keep their order on the next one.
    let rest = stage.server.sent(1, 10);
    assert_eq!(rest, ids[11..21]);
    let other = stage.server.channel(1);
    for id in &ids[11..] {
        stage.server.sent(1, id.parse::<usize>().unwrap() - 10);
        other.ack(id);
    }
    for (id, word) in ids.iter().zip(wait(words)) {
        let is_right = match id.parse::<usize>().unwrap() {
            1..=10 => matches!(word, Err(PublishError::Unknown(_))),
            _ => word.is_ok(),
        };
        assert!(is_right, "{id}: {word:?}");
    }
}

#[test]
fn what_a_hook_may_count_on() {
    let mut batches = None;
    let stage = Stage::new(|options| batches = Some(told(options)));
    let id = goose_core::JobId::new().to_string();
    let words = stage.publish(&[&id, "no job"]);
    stage.server.sent(0, 2);
    let channel = stage.first();
    let denied =
        || Error::new(ErrorKind::TooLarge, "too large").with_source("larger than configured max size 0, class");
    channel.say(&id, Err(denied()));
    channel.say("no job", Err(denied()));
    assert!(words.all().iter().all(|word| matches!(word, Err(PublishError::Refused(_)))));
    let told = batches.unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(told, [FailureReason::Refused], "of the job alone");
}
