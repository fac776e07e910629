//! Dead jobs on a real server: several processes at once, a replay that dies in the middle, and what queues give up.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use goose_core::broker::capability::DeadContent;
use goose_core::broker::{Broker, DeathCause, DeathReason};
use goose_core::{Clock, Job, JobName, Payload, SystemClock, codec};
use goose_services::rabbit::Rabbit;

use super::*;
use crate::delay::Path;
use crate::log::Text;
use crate::message::{self, Rank, Ticket};
use crate::{QueueType, RmqBroker, RmqOptions};

async fn open(rabbit: &Rabbit, prefix: &str) -> RmqBroker {
    RmqOptions::new(rabbit.url()).prefix(prefix).queue_type(QueueType::Quorum).open().await.unwrap()
}

fn queue() -> QueueName {
    QueueName::new("mail").unwrap()
}

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1]))
}

fn large_job() -> Job {
    Job::new(JobName::new("a").unwrap(), queue(), Payload::message_pack(vec![1; 1_000]))
}

fn burial(job: &Job) -> Burial {
    let reason = DeathReason::new(DeathCause::Buried, "no use");
    Burial::new(job.id, codec::encode(job).into(), queue(), reason, SystemClock.now())
}

/// Buries some and answers their ids, in order.
async fn bury(broker: &RmqBroker, n: usize) -> Vec<JobId> {
    let jobs: Vec<Job> = (0..n).map(|_| job()).collect();
    let words = broker.inner.dead.bury(jobs.iter().map(burial).collect()).await;
    words.into_iter().collect::<Result<()>>().unwrap();
    jobs.iter().map(|job| job.id).collect()
}

async fn ready_in_queue(broker: &RmqBroker) -> u64 {
    broker.enqueued_jobs().unwrap().size(&queue()).await.unwrap()
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
    let rabbit = Rabbit::start();
    of_many_who_pop_each_gets_others(&rabbit).await;
    of_many_who_replay_one_does(&rabbit).await;
    a_replay_that_dies_is_finished_by_another(&rabbit).await;
    what_a_queue_gives_up_is_dead(&rabbit).await;
    what_is_deleted_among_the_enqueued_can_be_replayed(&rabbit).await;
    what_was_cut_off_is_gone_and_the_rest_is_right(&rabbit).await;
}

async fn of_many_who_pop_each_gets_others(rabbit: &Rabbit) {
    let (one, two) = (open(rabbit, "pop").await, open(rabbit, "pop").await);
    let buried = bury(&one, 60).await;
    let pop = async |broker: &RmqBroker| {
        let mut popped = Vec::new();
        while let Some(dead) = broker.dead_jobs().unwrap().pop().await.unwrap() {
            popped.push(dead.id);
        }
        popped
    };
    let (a, b, c) = tokio::join!(pop(&one), pop(&two), pop(&two));
    assert!(!a.is_empty() && !b.is_empty() && !c.is_empty(), "{} {} {}", a.len(), b.len(), c.len());
    let all: Vec<JobId> = [a, b, c].concat();
    assert_eq!(all.len(), 60, "nobody got one that another had");
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), buried.into_iter().collect());
    one.close().await.unwrap();
    two.close().await.unwrap();
}

async fn of_many_who_replay_one_does(rabbit: &Rabbit) {
    let (one, two) = (open(rabbit, "replay").await, open(rabbit, "replay").await);
    let buried = bury(&one, 1_200).await;
    let (first, second) = (one.dead_jobs().unwrap(), two.dead_jobs().unwrap());
    let (a, b, c) = tokio::join!(first.replay_n(2_000), second.replay_n(2_000), second.replay(buried[700]));
    let c = u64::from(c.unwrap());
    let sum = a.unwrap() + b.unwrap() + c;
    assert_eq!(sum, 1_200, "each is counted by the one who has replayed it");
    assert_eq!((first.size().await.unwrap(), second.size().await.unwrap()), (0, 0));
    eventually("all are in the queue, once", async || ready_in_queue(&two).await == 1_200).await;
    one.close().await.unwrap();
    two.close().await.unwrap();
}

async fn a_replay_that_dies_is_finished_by_another(rabbit: &Rabbit) {
    let (one, two) = (open(rabbit, "dies").await, open(rabbit, "dies").await);
    let buried = bury(&one, 2).await;
    let dead = &one.inner.dead;
    dead.up_to_date().await.unwrap();
    // As a process does it that is killed then.
    let place = dead.stream.state().of(buried[0]).unwrap();
    let claim = Note::Claim { deaths: vec![place.known()], by: Text(JobId::new()), at: SystemClock.now().as_millis() };
    assert_eq!(dead.stream.append_and_read_back(claim.entry()).await.unwrap(), 1);
    let left = two.dead_jobs().unwrap();
    assert_eq!(left.size().await.unwrap(), 1, "one is being replayed");
    assert!(!left.replay(buried[0]).await.unwrap() && !left.delete(buried[0]).await.unwrap());
    assert_eq!(left.purge().await.unwrap(), 1, "only the other");
    // A minute later.
    two.inner.dead.stream.state_mut().lapse();
    assert_eq!(left.size().await.unwrap(), 1, "nobody is any more");
    assert!(left.replay(buried[0]).await.unwrap());
    assert_eq!(left.size().await.unwrap(), 0);
    eventually("it is in the queue", async || ready_in_queue(&two).await == 1).await;
    one.close().await.unwrap();
    two.close().await.unwrap();
}

/// Consumers that take what there is and die with it, one after another.
async fn die_with_it(broker: &RmqBroker, queue: &str, until: impl AsyncFn() -> bool) {
    for n in 0..200 {
        let channel = broker.inner.links.consume.channel().await.unwrap();
        channel.limit_next_consumer(1).await.unwrap();
        let mut deliveries = channel.consume(queue, "c", &Table::new()).await.unwrap();
        tokio::select! {
            delivered = deliveries.next() => drop(delivered.unwrap()),
            () = async { while !until().await { tokio::time::sleep(Duration::from_millis(5)).await } } => {
                println!("given up after {n} deliveries");
                return;
            }
        }
        channel.close().await.unwrap();
    }
    panic!("the queue never gives it up");
}

async fn what_a_queue_gives_up_is_dead(rabbit: &Rabbit) {
    let broker = open(rabbit, "given-up").await;
    let inner = &broker.inner;
    inner.topology.ensure_queue(&queue()).await.unwrap();
    let (job, junk) = (job(), JobId::new());
    let (exchange, key) = inner.topology.names.address(&queue(), Path::NOW);
    let ticket = Ticket::now(Rank::Normal, SystemClock.now());
    let whole = message::outgoing(&job, &ticket, exchange.clone(), key.clone());
    let raw = message::sealed(junk, (*b"junk").into(), &ticket, exchange, key.clone());
    let size = async || broker.dead_jobs().unwrap().size().await.unwrap();
    for (message, dead) in [(whole, 1), (raw, 2)] {
        inner.publisher.publish(message).await.unwrap();
        die_with_it(&broker, &key, async || size().await == dead).await;
    }
    let of_job = broker.dead_jobs().unwrap().find_by_id(job.id).await.unwrap().unwrap();
    assert_eq!((of_job.job(), &of_job.queue, of_job.reason.cause), (Some(&job), &queue(), DeathCause::Poison));
    let of_junk = broker.dead_jobs().unwrap().find_by_id(junk).await.unwrap().unwrap();
    assert!(matches!(&of_junk.content, DeadContent::Undecodable(bytes) if bytes == b"junk"), "{of_junk:?}");
    assert_eq!((&of_junk.queue, of_junk.reason.cause), (&queue(), DeathCause::Undecodable));
    assert!(broker.dead_jobs().unwrap().replay(job.id).await.unwrap());
    assert!(!broker.dead_jobs().unwrap().replay(junk).await.unwrap());
    assert_eq!(size().await, 1, "what is no job stays");
    broker.close().await.unwrap();
}

async fn what_is_deleted_among_the_enqueued_can_be_replayed(rabbit: &Rabbit) {
    let broker = open(rabbit, "restore").await;
    let buried = bury(&broker, 1).await;
    // Somebody thought that it waits in its queue.
    assert!(broker.enqueued_jobs().unwrap().delete(buried[0]).await.unwrap());
    assert!(broker.inner.log.is_deleted(buried[0], Timestamp::EPOCH));
    assert!(broker.dead_jobs().unwrap().replay(buried[0]).await.unwrap());
    assert!(!broker.inner.log.is_deleted(buried[0], Timestamp::EPOCH), "whoever replays it wants it to run");
    broker.close().await.unwrap();
}

async fn what_was_cut_off_is_gone_and_the_rest_is_right(rabbit: &Rabbit) {
    let (one, two) = (open(rabbit, "cut").await, open(rabbit, "cut").await);
    let small = stream::arguments(200_000, 50_000);
    stream::declare(&one.inner.links.control, &one.inner.topology.names.dead(), &small).await.unwrap();
    let (of_one, of_two) = (one.dead_jobs().unwrap(), two.dead_jobs().unwrap());
    assert_eq!(of_one.size().await.unwrap(), 0);
    let mut buried = Vec::new();
    for _ in 0..60 {
        let jobs: Vec<Job> = (0..20).map(|_| large_job()).collect();
        let words = one.inner.dead.bury(jobs.iter().map(burial).collect()).await;
        words.into_iter().collect::<Result<()>>().unwrap();
        buried.extend(jobs.iter().map(|job| job.id));
    }
    // One process has seen all of them die, the other one reads what is left.
    let left = of_two.size().await.unwrap();
    assert!(left > 100 && left < 600, "{left} are left");
    eventually("one has noticed", async || of_one.size().await.unwrap() == left).await;
    let sizes = one.inner.dead.sizes().await.unwrap();
    assert_eq!(sizes, [(queue(), left)]);
    for dead in [of_one, of_two] {
        assert!(dead.find_by_id(buried[0]).await.unwrap().is_none());
        assert!(!dead.replay(buried[0]).await.unwrap() && !dead.delete(buried[0]).await.unwrap());
        let first = buried[buried.len() - usize::try_from(left).unwrap()];
        assert!(dead.find_by_id(first).await.unwrap().is_some());
    }
    assert!(of_one.replay(buried[1_199]).await.unwrap());
    let (a, b) = tokio::join!(of_one.replay_n(2_000), of_two.replay_n(2_000));
    assert_eq!(a.unwrap() + b.unwrap() + 1, left);
    assert_eq!((of_one.size().await.unwrap(), of_two.size().await.unwrap()), (0, 0));
    eventually("they are in the queue, once", async || ready_in_queue(&two).await == left).await;
    // It goes on.
    let again = bury(&two, 3).await;
    assert_eq!(of_one.pop().await.unwrap().map(|dead| dead.id), Some(again[0]));
    one.close().await.unwrap();
    two.close().await.unwrap();
}
