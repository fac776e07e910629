//! Streams on a real server: what is read when connections break, the server dies, or the stream is another one.

mod late;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use goose_core::broker::Broker;
use goose_services::rabbit::Rabbit;

use super::*;
use crate::publisher::PublishError;
use crate::{RmqBroker, RmqOptions};

/// Keeps everything that it is told, in order.
#[derive(Debug, Default)]
struct Told(Vec<(u64, String)>);

impl Fold for Told {
    fn empty() -> Self {
        Self::default()
    }

    fn fold(&mut self, entry: &Entry) -> u64 {
        self.0.push((entry.offset, String::from_utf8(entry.body.clone()).unwrap()));
        entry.offset
    }
}

impl Told {
    fn bodies(&self) -> Vec<&str> {
        self.0.iter().map(|(_, body)| body.as_str()).collect()
    }
}

/// A process: a handle of its own, and a stream read through it.
struct Process {
    broker: RmqBroker,
    stream: Arc<Stream<Told>>,
}

impl Process {
    async fn on(rabbit: &Rabbit, name: &str) -> Self {
        Self::with(rabbit, name, arguments(1 << 30, 64 << 20)).await
    }

    async fn with(rabbit: &Rabbit, name: &str, arguments: Table) -> Self {
        let mut options = RmqOptions::new(rabbit.url());
        options.blocked_timeout = Duration::from_millis(300);
        let broker = options.open().await.unwrap();
        let inner = &broker.inner;
        let (control, publisher) = (Arc::clone(&inner.links.control), Arc::clone(&inner.publisher));
        let wires = Wires { runtime: inner.runtime.handle().clone(), control, publisher, is_cluster: false };
        let stream = Stream::new(wires, name.to_owned(), arguments);
        Self { broker, stream }
    }

    async fn say(&self, body: &str) -> Result<(), PublishError> {
        self.stream.append(&[entry(body)]).await.pop().unwrap()
    }

    /// What there is, up to now.
    async fn told(&self) -> Vec<String> {
        self.stream.catch_up().await.unwrap();
        self.stream.state().bodies().into_iter().map(str::to_owned).collect()
    }

    async fn close(self) {
        self.broker.close().await.unwrap();
    }
}

fn entry(body: &str) -> NewEntry {
    NewEntry::new(Table::new(), body.as_bytes())
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server() {
    let mut rabbit = Rabbit::start();
    a_new_stream_can_be_used_by_all_at_once(&rabbit).await;
    let began = Instant::now();
    let lap = |what| println!("{:?}: {what}", began.elapsed());
    lap("");
    all_read_the_same_and_what_was_said_before(&rabbit).await;
    lap("same");
    places_are_found_again(&rabbit).await;
    lap("places");
    what_is_cut_off_is_left_out(&rabbit).await;
    lap("cut");
    a_queue_is_not_taken_for_a_stream(&rabbit).await;
    reading_works_while_the_server_takes_nothing_in(&rabbit).await;
    lap("alarm");
    late::all_is_read_before_it_counts_as_read(&rabbit).await;
    lap("late");
    late::a_reader_that_is_sent_nothing_more_begins_again(&rabbit).await;
    lap("stops");
    broken_connections_lose_and_double_nothing(&rabbit).await;
    lap("broken");
    a_stream_that_is_made_again_is_read_from_its_beginning(&rabbit).await;
    lap("again");
    a_restart_of_the_server_loses_nothing(&mut rabbit).await;
}

async fn a_new_stream_can_be_used_by_all_at_once(rabbit: &Rabbit) {
    for n in 0..20 {
        let name = format!("new {n}");
        let (one, two, three) =
            tokio::join!(Process::on(rabbit, &name), Process::on(rabbit, &name), Process::on(rabbit, &name));
        let (a, b, c) = tokio::join!(one.say("a"), two.say("b"), three.told());
        assert!(a.is_ok() && b.is_ok() && c.len() <= 2, "{n}: {a:?} {b:?} {c:?}");
        assert_eq!(three.told().await.len(), 2);
        for process in [one, two, three] {
            let epoch = *process.broker.inner.links.control.epoch().borrow();
            assert_eq!(epoch, 1, "nobody was disconnected");
            process.close().await;
        }
    }
}

async fn all_read_the_same_and_what_was_said_before(rabbit: &Rabbit) {
    let (one, two) = (Process::on(rabbit, "same").await, Process::on(rabbit, "same").await);
    let say = async |process: &Process, who: &str| {
        for n in 0..20 {
            let entries: Vec<NewEntry> = (0..100).map(|m| entry(&format!("{who} {}", n * 100 + m))).collect();
            process.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
        }
    };
    // One reads from the start, the other begins when all is there.
    one.stream.start();
    tokio::join!(say(&one, "one"), say(&two, "two"));
    let (first, second) = (one.told().await, two.told().await);
    assert_eq!((first.len(), &first), (4_000, &second), "all of it, in the same order");
    for who in ["one", "two"] {
        let of: Vec<&String> = first.iter().filter(|body| body.starts_with(who)).collect();
        assert!(of.iter().enumerate().all(|(n, body)| **body == format!("{who} {n}")), "in the order of {who}");
    }
    // What somebody else said a moment ago is known after catching up, each time.
    for n in 0..200 {
        one.say(&format!("later {n}")).await.unwrap();
        assert_eq!(two.told().await.last(), Some(&format!("later {n}")));
    }
    let answers: HashSet<u64> = {
        let all = (0..50).map(async |n| one.stream.append_and_read_back(entry(&format!("asked {n}"))).await.unwrap());
        let mut answers = HashSet::new();
        for answer in all {
            answers.insert(answer.await);
        }
        answers
    };
    assert_eq!(answers.len(), 50, "each has a place of its own");
    // Said twice with the same id, as after a word that did not come, it counts once.
    let twice = entry("twice");
    let words = one.stream.append(&[twice.clone(), twice.clone(), twice]).await;
    assert!(words.iter().all(Result::is_ok), "{words:?}");
    for process in [&one, &two] {
        assert_eq!(process.told().await.iter().filter(|body| *body == "twice").count(), 1);
    }
    // As when the word on the first was lost: nobody waits for the second for ever.
    let again = entry("again");
    for process in [&one, &one, &two] {
        process.stream.append(std::slice::from_ref(&again)).await.pop().unwrap().unwrap();
        assert_eq!(process.told().await.iter().filter(|body| *body == "again").count(), 1);
    }
    assert!(one.stream.own.lock().is_empty() && two.stream.own.lock().is_empty(), "nothing is waited for");
    one.close().await;
    two.close().await;
}

async fn places_are_found_again(rabbit: &Rabbit) {
    let process = Process::on(rabbit, "places").await;
    let entries: Vec<NewEntry> = (0..9_000).map(|n| entry(&n.to_string())).collect();
    process.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
    process.told().await;
    let all = process.stream.state().0.clone();
    // Neighbours, and such with gaps that are jumped over.
    let wanted: Vec<usize> = (0..300).chain([1_000, 1_001, 4_000, 8_998, 8_999]).collect();
    let places: Vec<u64> = wanted.iter().map(|n| all[*n].0).collect();
    let found = process.stream.pick(&places).await.unwrap();
    let bodies: Vec<String> = found.iter().map(|entry| String::from_utf8(entry.body.clone()).unwrap()).collect();
    assert_eq!(bodies, wanted.iter().map(usize::to_string).collect::<Vec<_>>());
    assert!(process.stream.pick(&[]).await.unwrap().is_empty());
    process.close().await;
}

async fn what_is_cut_off_is_left_out(rabbit: &Rabbit) {
    let process = Process::with(rabbit, "cut", arguments(200_000, 50_000)).await;
    process.stream.start();
    let body = "x".repeat(1_000);
    for n in 0..60 {
        // Each of these is written as a whole, and looked at for its size.
        let entries: Vec<NewEntry> = (0..20).map(|m| entry(&format!("{n}.{m} {body}"))).collect();
        process.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
    }
    process.told().await;
    let all = process.stream.state().0.clone();
    let late = Process::on(rabbit, "cut").await;
    late.told().await;
    let left = late.stream.state().0.clone();
    assert!(left.len() < all.len() / 2 && left.len() > 100, "{} of {} are left", left.len(), all.len());
    assert_eq!(left, all[all.len() - left.len()..], "other limits are accepted, and the end is there");
    let places = [all[0].0, all[5].0, left[0].0, left[left.len() - 1].0];
    let found: Vec<u64> = late.stream.pick(&places).await.unwrap().iter().map(|entry| entry.offset).collect();
    assert_eq!(found, places[2..]);
    process.close().await;
    late.close().await;
}

async fn a_queue_is_not_taken_for_a_stream(rabbit: &Rabbit) {
    let process = Process::on(rabbit, "queue").await;
    let channel = process.broker.inner.links.control.channel().await.unwrap();
    let classic = Table::from([("x-queue-type".to_owned(), Value::Text("classic".to_owned()))]);
    channel.declare_queue("queue", crate::amqp::Lifetime::Durable, &classic).await.unwrap();
    let error = process.stream.catch_up().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("the queue queue is no stream, delete it"), "{error:#}");
    // And it is a stream as soon as somebody has done that.
    rabbit.delete_queue("queue");
    eventually("the stream is read", async || process.stream.catch_up().await.is_ok()).await;
    process.close().await;
}

async fn reading_works_while_the_server_takes_nothing_in(rabbit: &Rabbit) {
    let before = Process::on(rabbit, "alarm").await;
    before.say("before").await.unwrap();
    rabbit.memory_alarm(true);
    let late = Process::on(rabbit, "alarm").await;
    let told = late.told().await;
    let refused = late.say("meanwhile").await;
    rabbit.memory_alarm(false);
    assert_eq!(told, ["before"]);
    assert!(matches!(refused, Err(PublishError::Blocked(_))), "{refused:?}");
    eventually("it takes in more", async || late.say("after").await.is_ok()).await;
    assert_eq!(before.told().await, ["before", "after"]);
    before.close().await;
    late.close().await;
}

async fn broken_connections_lose_and_double_nothing(rabbit: &Rabbit) {
    let (reader, writer) = (Process::on(rabbit, "broken").await, Process::on(rabbit, "broken").await);
    reader.told().await;
    let is_over = AtomicBool::new(false);
    let (said, unknown) = (AtomicU64::new(0), AtomicU64::new(0));
    let write = async {
        let mut all = Vec::new();
        for n in 0.. {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            let body = n.to_string();
            match writer.say(&body).await {
                Ok(()) => {
                    said.fetch_add(1, Ordering::AcqRel);
                    all.push((body, true));
                }
                Err(PublishError::Unknown(_) | PublishError::TimedOut) => {
                    unknown.fetch_add(1, Ordering::AcqRel);
                    all.push((body, false));
                }
                Err(_) => {}
            }
        }
        all
    };
    let cut = async {
        for _ in 0..8 {
            let enough = said.load(Ordering::Acquire) + 200;
            eventually("more is said", async || said.load(Ordering::Acquire) >= enough).await;
            rabbit.close_connections();
        }
        is_over.store(true, Ordering::Release);
    };
    let (all, ()) = tokio::join!(write, cut);
    let told = reader.told().await;
    let mut sure = told.iter();
    for (body, is_sure) in &all {
        assert!(!is_sure || sure.any(|told| told == body), "{body} was lost or has changed its place");
    }
    let different: HashSet<&String> = told.iter().collect();
    assert_eq!(different.len(), told.len(), "nothing came twice");
    let writers = writer.told().await;
    assert_eq!(writers, told);
    println!("8 cuts: {} said, {} unknown, {} read", said.into_inner(), unknown.into_inner(), told.len());
    reader.close().await;
    writer.close().await;
}

async fn a_stream_that_is_made_again_is_read_from_its_beginning(rabbit: &Rabbit) {
    let (reader, writer) = (Process::on(rabbit, "again").await, Process::on(rabbit, "again").await);
    for n in 0..10 {
        writer.say(&format!("old {n}")).await.unwrap();
    }
    assert_eq!(reader.told().await.len(), 10);
    rabbit.delete_queue("again");
    // Whoever says something next makes it again; the server tells readers.
    writer.say("new 0").await.unwrap();
    eventually("only the new is left", async || reader.told().await == ["new 0"]).await;
    // The same while the reader's connection is down: it asks for a place that is another's now, or does not exist.
    for length in [1, 30] {
        let before = reader.told().await.len();
        let reading = reader.stream.progress();
        rabbit.eval(
            "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"again\">>)), \
             [rabbit_networking:close_connection(C, \"test\") || C <- rabbit_networking:local_connections()], \
             {ok, _} = rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)",
        );
        let third = Process::on(rabbit, "again").await;
        for n in 0..length {
            third.say(&format!("of {length}: {n}")).await.unwrap();
        }
        let last = format!("of {length}: {}", length - 1);
        eventually("only the newest is left", async || {
            reader.stream.catch_up().await.is_ok() && {
                let state = reader.stream.state();
                state.bodies().first() == Some(&format!("of {length}: 0").as_str())
                    && state.bodies().last() == Some(&last.as_str())
            }
        })
        .await;
        println!("{before} entries were replaced by {length}; {:?}", reading.borrow());
        third.close().await;
    }
    reader.close().await;
    writer.close().await;
}

async fn a_restart_of_the_server_loses_nothing(rabbit: &mut Rabbit) {
    let process = Process::on(rabbit, "restart").await;
    for n in 0..100 {
        process.say(&n.to_string()).await.unwrap();
    }
    assert_eq!(process.told().await.len(), 100);
    rabbit.kill();
    let waiting = Arc::clone(&process.stream);
    let waiting = tokio::spawn(async move { waiting.append_and_read_back(entry("meanwhile")).await });
    rabbit.restart();
    // It waited for the server, or says that it does not know; then the same can be said again.
    if let Err(error) = waiting.await.unwrap() {
        assert!(error.is_retryable(), "{error:#}");
    }
    eventually("it goes on", async || process.say("after").await.is_ok()).await;
    let told = process.told().await;
    assert_eq!(told[..100], (0..100).map(|n: i32| n.to_string()).collect::<Vec<_>>());
    assert_eq!(told.iter().filter(|body| *body == "after").count(), 1);
    let late = Process::on(rabbit, "restart").await;
    assert_eq!(late.told().await, told);
    process.close().await;
    late.close().await;
}
