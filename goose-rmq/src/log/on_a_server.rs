//! The control log on a real server: snapshots, sessions that die in silence, and counts that come through.

use std::time::Instant;

use goose_core::Timestamp;
use goose_core::broker::{Broker, WorkerIdentity};
use goose_services::rabbit::Rabbit;

use super::*;
use crate::amqp::Lifetime;
use crate::{RmqBroker, RmqOptions};

async fn open(rabbit: &Rabbit, prefix: &str) -> RmqBroker {
    RmqOptions::new(rabbit.url()).prefix(prefix).open().await.unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server() {
    let rabbit = Rabbit::start();
    what_is_cut_off_is_still_known(&rabbit).await;
    deletions_are_not_remembered_without_end(&rabbit).await;
    sessions_are_counted_until_they_do_not_answer(&rabbit).await;
    counts_come_through_whatever_happens_to_connections(&rabbit).await;
}

async fn deletions_are_not_remembered_without_end(rabbit: &Rabbit) {
    let broker = open(rabbit, "many").await;
    let log = &broker.inner.log;
    assert!(log.delete(JobId::new(), ENQUEUED, None).await.unwrap());
    let long = SystemClock.now().saturating_add(ENQUEUED);
    let fill = |until| {
        let many = (0..MOST_DELETED).map(|_| (JobId::new(), content::Deletion { at: until, until }));
        log.stream.state_mut().content.deleted = many.collect();
    };
    fill(long);
    let error = log.delete(JobId::new(), ENQUEUED, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:#}");
    // What is not remembered any more is in nobody's way.
    fill(Timestamp::EPOCH);
    assert!(log.delete(JobId::new(), ENQUEUED, None).await.unwrap());
    broker.close().await.unwrap();
}

/// The stream is made so small that its beginning goes soon; a snapshot must have been written by then.
async fn what_is_cut_off_is_still_known(rabbit: &Rabbit) {
    let broker = open(rabbit, "cut").await;
    let log = &broker.inner.log;
    let channel = broker.inner.links.control.channel().await.unwrap();
    let small = stream::arguments(1_000_000, 200_000);
    channel.declare_queue("cut/v1/log", Lifetime::Durable, &small).await.unwrap();
    let id = JobId::new();
    assert!(log.pause(&queue("a")).await.unwrap() && log.pause(&queue("b")).await.unwrap());
    assert!(log.delete(id, ENQUEUED, None).await.unwrap());
    let mut enqueued = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while !log.stream.state().was_compacted() {
        assert!(Instant::now() < end, "no snapshot is written");
        let entries: Vec<_> =
            (0..500).map(|_| Said::Count(said::Counts { enqueued: 1, ..said::Counts::default() }).entry()).collect();
        enqueued += 500;
        log.stream.append(&entries).await.into_iter().collect::<Result<(), _>>().unwrap();
        log.catch_up().await.unwrap();
    }
    assert!(log.resume(&queue("b")).await.unwrap());
    let late = open(rabbit, "cut").await;
    assert_eq!(late.inner.log.paused().await.unwrap(), [queue("a")]);
    assert!(late.inner.log.is_deleted(id, Timestamp::EPOCH));
    assert_eq!(late.inner.log.totals().await.unwrap().enqueued, enqueued);
    let first = late.inner.log.stream.state().first_read();
    assert!(first > Some(2), "the beginning is gone: {first:?}");
    println!("{enqueued} entries, a snapshot, and the first that is left is {first:?}");
    broker.close().await.unwrap();
    late.close().await.unwrap();
}

async fn sessions_are_counted_until_they_do_not_answer(rabbit: &Rabbit) {
    let (one, two) = (open(rabbit, "census").await, open(rabbit, "census").await);
    let presence = |name: &str, at| {
        Presence::new(WorkerIdentity::current(), Timestamp::from_millis(at), [queue(name), queue("both")])
    };
    let first = one.inner.log.arrive(presence("a", 1)).await;
    let second = two.inner.log.arrive(presence("b", 2)).await;
    first.show(0, 3, 0, 0);
    first.show(1, 0, 2, 0);
    second.show(1, 4, 0, 1);
    for log in [&one.inner.log, &two.inner.log] {
        let workers = log.workers().await.unwrap();
        assert_eq!(workers.iter().map(|worker| worker.running).collect::<Vec<_>>(), [3, 4], "the oldest first");
        assert_eq!(workers[0].queues, [queue("a"), queue("both")]);
        let holdings = log.holdings().await.unwrap();
        assert_eq!(holdings[&queue("a")], Holdings { running: 3, held: 0, moving: 0 });
        assert_eq!(holdings[&queue("both")], Holdings { running: 4, held: 2, moving: 1 });
        assert_eq!(holdings[&queue("b")], Holdings::default());
    }
    // Dies without a word; the next who asks waits for its answer, and those after do not.
    one.inner.runtime.shut_down().await;
    assert_eq!(two.inner.log.workers().await.unwrap().len(), 1);
    let began = Instant::now();
    assert_eq!(two.inner.log.workers().await.unwrap().len(), 1);
    assert!(began.elapsed() < Duration::from_millis(900), "asked in vain again, for {:?}", began.elapsed());
    // One that was taken for dead and is not says so.
    let three = open(rabbit, "census").await;
    three.inner.log.say(Said::Left { sessions: vec![Text(second.id())] }).await.unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while three.inner.log.workers().await.unwrap().len() != 1 {
        assert!(Instant::now() < end, "it does not come back");
    }
    two.inner.log.leave(&second);
    two.close().await.unwrap();
    assert_eq!(three.inner.log.workers().await.unwrap(), []);
    three.close().await.unwrap();
}

async fn counts_come_through_whatever_happens_to_connections(rabbit: &Rabbit) {
    let (writer, reader) = (open(rabbit, "counts").await, open(rabbit, "counts").await);
    let mut counted = 0;
    for n in 0..5 {
        for _ in 0..100 {
            writer.inner.log.count(Count::Succeeded, 1);
            counted += 1;
        }
        writer.inner.log.used(&queue(&format!("q{n}")));
        rabbit.close_connections();
        let end = Instant::now() + Duration::from_secs(20);
        while reader.inner.log.totals().await.map_or(0, |totals| totals.succeeded) < counted {
            assert!(Instant::now() < end, "counts are lost");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    writer.inner.log.count(Count::Succeeded, 1);
    writer.close().await.unwrap();
    assert_eq!(reader.inner.log.totals().await.unwrap().succeeded, counted + 1, "nothing twice, and the last at close");
    let known: Vec<String> = reader.inner.log.queues().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(known, ["q0", "q1", "q2", "q3", "q4"]);
    reader.close().await.unwrap();
}
