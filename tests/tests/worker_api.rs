//! Client and worker together on a real broker: what a job says, and what becomes of it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test reports"
)]

use std::sync::Arc;
use std::time::Duration;

use goose_client::{ArgsCodec, Client};
use goose_core::broker::capability::{DeadJob, ScheduledKind};
use goose_core::broker::{Broker, DeathCause};
use goose_core::{Backoff, Clock, JobArgs, JobId, Outcome};
use goose_testkit::testing::{Expected, TestBroker, assert_enqueued, enqueued};
use goose_worker::{Context, Death, FailedAttempt, Pool};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Say {
    Done,
    Error,
    RetryInAMinute,
    SnoozeForAMinute,
    Discard,
    Bury,
    Panic,
    Hang,
}

impl JobArgs for Say {
    const NAME: &'static str = "say";
}

async fn say(say: Say) -> Result<Outcome, String> {
    match say {
        Say::Done => Ok(Outcome::Done),
        Say::Error => Err("told to".to_owned()),
        Say::RetryInAMinute => Ok(Outcome::retry_in(60 * SECOND, "told to")),
        Say::SnoozeForAMinute => Ok(Outcome::Snooze(60 * SECOND)),
        Say::Discard => Ok(Outcome::Discard("told to".to_owned())),
        Say::Bury => Ok(Outcome::Bury("told to".to_owned())),
        Say::Panic => panic!("told to"),
        Say::Hang => std::future::pending().await,
    }
}

async fn dead(test: &TestBroker, id: JobId) -> DeadJob {
    test.dead_jobs().unwrap().find_by_id(id).await.unwrap().expect("a dead job")
}

#[tokio::test]
async fn every_outcome_ends_where_it_should() {
    let test = TestBroker::new().await.unwrap();
    let all = [Say::Done, Say::Error, Say::RetryInAMinute, Say::SnoozeForAMinute, Say::Discard, Say::Bury, Say::Panic];
    let ids = test.client().perform_bulk(all).await.unwrap().into_result().unwrap();
    let drained = test.worker().handle(say).drain().await.unwrap();
    assert_eq!((drained.succeeded, drained.failed, drained.retried), (1, 4, 3));
    assert_eq!((drained.snoozed, drained.discarded, drained.died), (1, 1, 1));

    let scheduled = test.scheduled_jobs().unwrap();
    assert_eq!(scheduled.size().await.unwrap(), 4);
    let minute = scheduled.find_by_id(ids[2]).await.unwrap().unwrap();
    assert_eq!(minute.kind, ScheduledKind::Retry);
    assert!((60..=61).contains(&minute.due_at.since(test.clock().now()).as_secs()));
    let snoozed = scheduled.find_by_id(ids[3]).await.unwrap().unwrap();
    assert_eq!((snoozed.kind, snoozed.job.attempts.retry_count), (ScheduledKind::Snoozed, 0));
    let panicked = scheduled.find_by_id(ids[6]).await.unwrap().unwrap();
    assert!(panicked.job.attempts.last_failure().unwrap().error.contains("told to"));
    let buried = dead(&test, ids[5]).await;
    assert_eq!((buried.reason.cause, &buried.reason.detail[..]), (DeathCause::Buried, "told to"));
}

#[tokio::test]
async fn retries_are_counted_in_the_retry_queue_and_the_last_one_is_death() {
    let test = TestBroker::new().await.unwrap();
    let (errors, mut failed) = mpsc::unbounded_channel();
    let (deaths, mut died) = mpsc::unbounded_channel();
    let job = test.client().job(Say::Error).retries(2).retry_queue("slow").backoff(Backoff::fixed(5 * SECOND));
    let id = job.enqueue().await.unwrap();
    let worker = || {
        let (errors, deaths) = (errors.clone(), deaths.clone());
        test.worker()
            .pool(Pool::queue("default"))
            .pool(Pool::queue("slow").concurrency(1))
            .handle(say)
            .on_error(move |failed: FailedAttempt| {
                let errors = errors.clone();
                async move { errors.send(failed.attempt).unwrap() }
            })
            .on_death(move |death: Death| {
                let deaths = deaths.clone();
                async move { deaths.send(death).unwrap() }
            })
    };
    worker().drain().await.unwrap();
    assert_enqueued(&test, Expected::<Say>::once().queue("slow").scheduled()).await;
    test.advance(5 * SECOND);
    worker().drain().await.unwrap();
    test.advance(5 * SECOND);
    worker().drain().await.unwrap();

    let dead = dead(&test, id).await;
    assert_eq!((dead.reason.cause, dead.queue.as_str()), (DeathCause::RetriesExhausted, "slow"));
    let attempts: Vec<_> = dead.job().unwrap().attempts.failures.iter().map(|failure| failure.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!([failed.try_recv(), failed.try_recv(), failed.try_recv()], [Ok(1), Ok(2), Ok(3)]);
    let death = died.try_recv().unwrap();
    assert_eq!((death.id, death.reason.cause), (id, DeathCause::RetriesExhausted));
    assert!(died.try_recv().is_err(), "told of one death twice");

    // A human replays it: from the start, in its own queue.
    assert!(test.dead_jobs().unwrap().replay(id).await.unwrap());
    assert_enqueued(&test, Expected::<Say>::once().queue("default").ready()).await;
}

#[tokio::test]
async fn a_job_that_skips_the_dead_queue_is_gone_after_its_last_failure() {
    let test = TestBroker::new().await.unwrap();
    let id = test.client().job(Say::Error).retries(0).skip_dead_queue(true).enqueue().await.unwrap();
    let drained = test.worker().handle(say).drain().await.unwrap();
    assert_eq!(drained.failed, 1);
    assert!(test.dead_jobs().unwrap().find_by_id(id).await.unwrap().is_none());
    assert_enqueued(&test, Expected::<Say>::none()).await;
}

#[tokio::test]
async fn a_hanging_job_is_cut_at_its_timeout_and_tried_again() {
    let test = TestBroker::new().await.unwrap();
    test.client().job(Say::Hang).timeout(Duration::from_millis(50)).enqueue().await.unwrap();
    let drained = test.worker().handle(say).drain().await.unwrap();
    assert_eq!((drained.failed, drained.retried), (1, 1));
    let waiting = enqueued::<Say>(&test).await.unwrap();
    let failure = waiting[0].job.attempts.last_failure().unwrap();
    assert!(failure.error.contains("50ms"), "{}", failure.error);
}

#[tokio::test]
async fn a_job_nobody_knows_is_parked_until_somebody_does() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Unrelated;
    impl JobArgs for Unrelated {
        const NAME: &'static str = "unrelated";
    }
    let test = TestBroker::new().await.unwrap();
    test.client().perform_async(Say::Done).await.unwrap();
    let old = || test.worker().unknown_jobs(10 * SECOND, 60 * SECOND).handle(|_: Unrelated| async {});
    for times in 1..=3 {
        assert_eq!(old().drain().await.unwrap().parked, 1);
        let parked = enqueued::<Say>(&test).await.unwrap();
        assert_eq!(parked[0].job.attempts.parked.unwrap().times, times);
        test.advance(10 * SECOND);
    }
    // The new version is rolled out.
    assert_eq!(test.worker().handle(say).drain().await.unwrap().succeeded, 1);

    // Nobody ever comes: dead after the patience, with a cause of its own.
    let id = test.client().perform_async(Say::Done).await.unwrap();
    old().drain().await.unwrap();
    test.advance(61 * SECOND);
    old().drain().await.unwrap();
    assert_eq!(dead(&test, id).await.reason.cause, DeathCause::Unhandled);
}

#[tokio::test]
async fn handlers_enqueue_through_their_context_and_see_their_job() {
    let test = TestBroker::new().await.unwrap();
    let handler = |say: Say, cx: Context| async move {
        if cx.tags() == ["first"] {
            let next = cx.client().job(say).tag("second").header("parent", cx.job_id().to_string());
            next.enqueue().await?;
        }
        Ok::<(), goose_core::Error>(())
    };
    let id = test.client().job(Say::Done).tag("first").enqueue().await.unwrap();
    let (sender, mut parents) = mpsc::unbounded_channel();
    let spy = move |job: Arc<goose_core::Job>, cx: Context, next: goose_worker::Next| {
        sender.send(job.headers.get("parent").cloned()).unwrap();
        next.run(job, cx)
    };
    let drained = test.worker().middleware(spy).handle(handler).drain().await.unwrap();
    assert_eq!(drained.succeeded, 2);
    assert_eq!(parents.try_recv().unwrap(), None);
    assert_eq!(parents.try_recv().unwrap(), Some(id.to_string()));
}

#[tokio::test]
async fn json_arguments_and_blocking_handlers() {
    let test = TestBroker::new().await.unwrap();
    let client = Client::builder(test.clone()).args_codec(ArgsCodec::Json).build().unwrap();
    let id = client.perform_async(Say::Bury).await.unwrap();
    let job = test.enqueued_jobs().unwrap().find_by_id(id).await.unwrap().unwrap();
    assert_eq!(job.args.bytes, br#""Bury""#);
    let blocking = |say: Say| if say == Say::Bury { Ok(()) } else { Err("another one") };
    assert_eq!(test.worker().handle_blocking(blocking).drain().await.unwrap().succeeded, 1);
}

#[tokio::test]
async fn arguments_that_do_not_fit_the_handler_are_a_failed_attempt() {
    #[derive(Debug, Serialize)]
    struct Newer(&'static str);
    impl JobArgs for Newer {
        const NAME: &'static str = Say::NAME;
    }
    let test = TestBroker::new().await.unwrap();
    let id = test.client().job(Newer("Sing")).retries(0).enqueue().await.unwrap();
    assert_eq!(test.worker().handle(say).drain().await.unwrap().died, 1);
    let dead = dead(&test, id).await;
    assert!(dead.reason.detail.contains("cannot decode arguments"), "{}", dead.reason);
}
