//! Pauses, deletions, dead jobs and figures: when the server restarts, takes nothing in, or loses their streams.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test reports"
)]

use std::time::{Duration, Instant};

use goose_core::broker::{
    Broker, Consumer, ConsumerOptions, DeathCause, DeathReason, Delivery, QueueSet, SettleError, Settlement, Verdict,
};
use goose_core::{Clock, ErrorKind, Job, JobId, JobName, Payload, QueueName, Schedule, SystemClock};
use goose_rmq::{QueueType, RmqBroker, RmqOptions};
use goose_services::rabbit::Rabbit;

/// What happens at once takes longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// For so long nothing must come.
const QUIET: Duration = Duration::from_millis(300);

async fn open(rabbit: &Rabbit, prefix: &str) -> RmqBroker {
    RmqOptions::new(rabbit.url()).prefix(prefix).open().await.unwrap()
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn job(on: &str) -> Job {
    Job::new(JobName::new("a").unwrap(), queue(on), Payload::message_pack(vec![1]))
}

async fn enqueue(broker: &RmqBroker, job: Job) -> JobId {
    broker.enqueue(vec![job]).await.unwrap().pop().unwrap().into_result().unwrap()
}

async fn consume(broker: &RmqBroker, queues: &[&str]) -> Box<dyn Consumer> {
    let queues = QueueSet::strict(queues.iter().copied()).unwrap();
    tokio::time::timeout(LIMIT, broker.consume(ConsumerOptions::new(queues, 4))).await.expect("in time").unwrap()
}

async fn take(consumer: &dyn Consumer) -> Delivery {
    tokio::time::timeout(LIMIT, consumer.fetch(1)).await.expect("a job in time").unwrap().pop().unwrap()
}

/// Takes the next job that has not ended. A classic queue writes acknowledgements down a moment late, so jobs that ended just
/// before the server was killed may come again: a copy, never a job that was deleted or is paused.
async fn take_another_than(ended: &[JobId], consumer: &dyn Consumer) -> Delivery {
    loop {
        let delivery = take(consumer).await;
        if !ended.contains(&delivery.job.id) {
            return delivery;
        }
        settle(consumer, &delivery, Verdict::Done).await;
    }
}

/// Enqueued when it is handed in, as the client does it.
async fn enqueue_now(broker: &RmqBroker, mut job: Job) -> JobId {
    job.enqueued_at = SystemClock.now();
    enqueue(broker, job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_enqueued_again_after_its_deletion_runs() {
    let rabbit = Rabbit::start();
    let (broker, other) = (open(&rabbit, "again").await, open(&rabbit, "again").await);
    let again = job("again");
    enqueue_now(&broker, again.clone()).await;
    assert!(broker.enqueued_jobs().unwrap().delete(again.id).await.unwrap());
    let mut second = again.clone();
    second.args = Payload::message_pack(vec![2]);
    enqueue_now(&broker, second.clone()).await;
    let consumer = consume(&other, &["again"]).await;
    let came = take(&*consumer).await;
    assert_eq!((came.job.id, &came.job.args), (again.id, &second.args), "the first one was deleted");
    settle(&*consumer, &came, Verdict::Done).await;
    nothing_comes(&*consumer).await;
    consumer.stop().await.unwrap();
    // And it can be deleted again.
    enqueue_now(&broker, second.clone()).await;
    broker.enqueued_jobs().unwrap().delete(again.id).await.unwrap();
    let consumer = consume(&other, &["again"]).await;
    nothing_comes(&*consumer).await;
    broker.close().await.unwrap();
    other.close().await.unwrap();
}

async fn nothing_comes(consumer: &dyn Consumer) {
    let came = tokio::time::timeout(QUIET, consumer.fetch(1)).await;
    assert!(came.is_err(), "{came:?}");
}

async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) {
    let answer = consumer.settle(&[Settlement::new(delivery.receipt, verdict)]).await.pop().unwrap();
    answer.unwrap();
}

fn bury(delivery: &Delivery) -> Verdict {
    Verdict::Bury { job: Box::new(delivery.job.clone()), reason: DeathReason::new(DeathCause::Buried, "no use") }
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_holds() {
    let mut rabbit = Rabbit::start();
    while_the_server_takes_nothing_in(&rabbit).await;
    a_burial_that_the_server_does_not_take_loses_nothing(&rabbit).await;
    when_the_streams_are_deleted(&rabbit).await;
    after_a_restart_of_the_server(&mut rabbit).await;
}

/// What a server does that is killed within half a second after its first stream was made: it knows of its streams, has none of
/// them, and lets nobody make or delete them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_its_streams_is_told_from_a_slow_one_and_can_be_repaired() {
    let mut rabbit = Rabbit::start();
    let broker = open(&rabbit, "lost").await;
    let consumer = consume(&broker, &["jobs"]).await;
    let all = "Names = maps:get(directory_rev, maps:get(names, ra_system:fetch(coordination)))";
    rabbit.eval(&format!("{all}, ok = dets:delete_all_objects(Names), ok = dets:sync(Names)"));
    rabbit.restart();
    let late = open(&rabbit, "lost").await;
    let jobs = || ConsumerOptions::new(QueueSet::strict(["jobs"]).unwrap(), 4);
    let (fetched, consumed) = tokio::time::timeout(LIMIT * 2, async {
        tokio::join!(consumer.fetch(1), async { late.consume(jobs()).await.map(drop) })
    })
    .await
    .expect("nobody waits for ever");
    for error in [fetched.unwrap_err(), consumed.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = format!("{error:#}");
        assert!(text.contains("the stream lost/v1/log does not run") && text.contains("\"lost streams\""), "{text}");
    }
    // Who only enqueues does not need them.
    let id = enqueue(&late, job("jobs")).await;
    // As the documentation tells an operator to do.
    rabbit.eval("rabbit_amqqueue:internal_delete(rabbit_misc:r(<<\"/\">>, queue, <<\"lost/v1/log\">>), <<\"test\">>)");
    eventually("the session goes on", async || match consumer.fetch(1).await {
        Ok(mut came) => came.pop().unwrap().job.id == id,
        Err(_) => false,
    })
    .await;
    consume(&late, &["jobs"]).await;
    assert!(late.paused_queues().unwrap().pause(&queue("jobs")).await.unwrap());
    broker.close().await.unwrap();
    late.close().await.unwrap();
}

/// The server says zero instead of an error when the leader of a quorum queue takes longer than 250 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_whose_leader_is_slow_is_not_counted_as_empty() {
    let rabbit = Rabbit::start();
    let options = RmqOptions::new(rabbit.url()).prefix("slow").queue_type(QueueType::Quorum);
    let broker = options.open().await.unwrap();
    enqueue(&broker, job("jobs")).await;
    let ready = async || broker.statistics().unwrap().queues().await.unwrap()[0].ready;
    assert_eq!(ready().await, 1);
    rabbit.eval(
        "[Leader] = [element(1, amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(), \
         amqqueue:get_type(Q) =:= rabbit_quorum_queue, element(4, amqqueue:get_name(Q)) =:= <<\"slow/v1/queue/jobs\">>], \
         ok = sys:suspend(Leader), spawn(fun() -> timer:sleep(700), sys:resume(Leader) end)",
    );
    assert_eq!(ready().await, 1);
    broker.close().await.unwrap();
}

async fn while_the_server_takes_nothing_in(rabbit: &Rabbit) {
    let before = open(rabbit, "alarm").await;
    before.paused_queues().unwrap().pause(&queue("paused")).await.unwrap();
    enqueue(&before, job("paused")).await;
    let first = enqueue(&before, job("jobs")).await;
    let second = enqueue(&before, job("jobs")).await;
    before.enqueued_jobs().unwrap().delete(first).await.unwrap();
    rabbit.memory_alarm(true);
    // A worker that starts now knows all of that, and works.
    let broker = open(rabbit, "alarm").await;
    let consumer = consume(&broker, &["paused", "jobs"]).await;
    let delivery = take(&*consumer).await;
    let done = settle(&*consumer, &delivery, Verdict::Done);
    tokio::time::timeout(LIMIT, done).await.expect("acknowledgements go through");
    let paused = broker.paused_queues().unwrap();
    let (listed, refused) = (paused.list().await, paused.pause(&queue("other")).await);
    let dead = broker.dead_jobs().unwrap().size().await;
    rabbit.memory_alarm(false);
    assert_eq!(delivery.job.id, second);
    assert_eq!(listed.unwrap(), [queue("paused")]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Blocked);
    assert_eq!(dead.unwrap(), 0);
    nothing_comes(&*consumer).await;
    eventually("pausing works again", async || paused.pause(&queue("other")).await.is_ok()).await;
    before.close().await.unwrap();
    broker.close().await.unwrap();
}

async fn a_burial_that_the_server_does_not_take_loses_nothing(rabbit: &Rabbit) {
    let options = RmqOptions::new(rabbit.url()).prefix("burial").confirm_timeout(QUIET * 5).blocked_timeout(QUIET);
    let broker = options.open().await.unwrap();
    let consumer = consume(&broker, &["jobs"]).await;
    enqueue(&broker, job("jobs")).await;
    let delivery = take(&*consumer).await;
    rabbit.memory_alarm(true);
    // The first message that it does not take is on its way already, and may be stored later.
    let refused = tokio::time::timeout(LIMIT, async {
        consumer.settle(&[Settlement::new(delivery.receipt, bury(&delivery))]).await.pop().unwrap()
    })
    .await;
    rabbit.memory_alarm(false);
    let refused = refused.expect("an answer in time").unwrap_err();
    assert!(matches!(&refused, SettleError::Broker(error) if error.is_retryable()), "{refused:?}");
    // It is still this session's, and goes to the dead when that works again.
    assert!(consumer.holds(&delivery.receipt));
    let dead = broker.dead_jobs().unwrap();
    eventually("it can be buried", async || {
        consumer.settle(&[Settlement::new(delivery.receipt, bury(&delivery))]).await.pop().unwrap().is_ok()
    })
    .await;
    assert!(dead.find_by_id(delivery.job.id).await.unwrap().is_some());
    assert_eq!(dead.size().await.unwrap(), 1, "once, whatever became of the first attempt");
    nothing_comes(&*consumer).await;
    broker.close().await.unwrap();
}

async fn when_the_streams_are_deleted(rabbit: &Rabbit) {
    let broker = open(rabbit, "deleted").await;
    let consumer = consume(&broker, &["jobs"]).await;
    enqueue(&broker, job("jobs")).await;
    let delivery = take(&*consumer).await;
    settle(&*consumer, &delivery, bury(&delivery)).await;
    let (dead, paused) = (broker.dead_jobs().unwrap(), broker.paused_queues().unwrap());
    assert_eq!(dead.size().await.unwrap(), 1);
    paused.pause(&queue("elsewhere")).await.unwrap();
    rabbit.delete_queue("deleted/v1/dead");
    rabbit.delete_queue("deleted/v1/log");
    // What was in them is gone, and everything works.
    enqueue(&broker, job("jobs")).await;
    let delivery = take(&*consumer).await;
    settle(&*consumer, &delivery, bury(&delivery)).await;
    eventually("the new dead are known", async || {
        dead.find_by_id(delivery.job.id).await.is_ok_and(|found| found.is_some()) && dead.size().await.unwrap() == 1
    })
    .await;
    eventually("queues can be paused", async || paused.pause(&queue("jobs")).await.is_ok()).await;
    enqueue(&broker, job("jobs")).await;
    nothing_comes(&*consumer).await;
    assert!(paused.resume(&queue("jobs")).await.unwrap());
    take(&*consumer).await;
    broker.close().await.unwrap();
}

async fn after_a_restart_of_the_server(rabbit: &mut Rabbit) {
    let broker = open(rabbit, "restart").await;
    let consumer = consume(&broker, &["jobs"]).await;
    for _ in 0..2 {
        enqueue(&broker, job("jobs")).await;
    }
    let (done, buried) = (take(&*consumer).await, take(&*consumer).await);
    settle(&*consumer, &done, Verdict::Done).await;
    settle(&*consumer, &buried, bury(&buried)).await;
    let paused = enqueue(&broker, job("paused")).await;
    broker.paused_queues().unwrap().pause(&queue("paused")).await.unwrap();
    let mut later = job("jobs");
    later.schedule = Schedule::In(Duration::from_secs(3));
    let deleted = enqueue(&broker, later.clone()).await;
    assert!(broker.scheduled_jobs().unwrap().delete(deleted).await.unwrap());
    let (mut kept, delay) = (job("jobs"), Duration::from_millis(3_500));
    kept.schedule = Schedule::In(delay);
    enqueue(&broker, kept.clone()).await;
    // What was counted is said once a second, and at the latest when somebody asks.
    let before = broker.statistics().unwrap().totals().await.unwrap();
    assert_eq!((before.enqueued, before.succeeded, before.died), (5, 1, 1));
    rabbit.kill();
    rabbit.restart();

    // The same process goes on, and a new one knows as much.
    let late = open(rabbit, "restart").await;
    let fresh = consume(&late, &["paused", "jobs"]).await;
    let ended = [done.job.id, buried.job.id];
    let delivery = take_another_than(&ended, &*fresh).await;
    let others = [("deleted", deleted), ("paused", paused)];
    let other = others.iter().find(|(_, id)| *id == delivery.job.id);
    assert_eq!(delivery.job.id, kept.id, "neither the deleted job nor that of the paused queue: {other:?}");
    settle(&*fresh, &delivery, Verdict::Done).await;
    for handle in [&late, &broker] {
        eventually("the connections are there", async || handle.dead_jobs().unwrap().size().await.is_ok()).await;
        assert_eq!(handle.paused_queues().unwrap().list().await.unwrap(), [queue("paused")]);
        let dead = handle.dead_jobs().unwrap().pop().await.unwrap();
        // The first who pops it has it.
        assert!(dead.is_none_or(|dead| dead.id == buried.job.id));
        assert_eq!(handle.dead_jobs().unwrap().size().await.unwrap(), 0);
        let totals = handle.statistics().unwrap().totals().await.unwrap();
        assert_eq!((totals.enqueued, totals.died), (5, 1));
    }
    assert!(broker.paused_queues().unwrap().resume(&queue("paused")).await.unwrap());
    assert_eq!(take_another_than(&ended, &*fresh).await.job.id, paused);
    while let Ok(came) = tokio::time::timeout(QUIET, fresh.fetch(1)).await {
        let id = came.unwrap().pop().unwrap().job.id;
        assert!(ended.contains(&id), "{id} came again");
    }
    broker.close().await.unwrap();
    late.close().await.unwrap();
}
