//! From enqueue to settle: what goes in comes out once, unchanged, and is gone when it is settled.

use std::time::Duration;

use goose_core::broker::Verdict;
use goose_core::{
    Backoff, ContentType, ErrorKind, Job, JobId, JobName, Parked, Payload, Priority, QueueName, RetryPolicy, Schedule,
    Timestamp,
};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{delayed, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::bury;
use crate::conformance::stage::{Stage, queue};

battery! { "lifecycle":
    every_field_of_a_job_survives;
    a_done_job_is_gone;
    a_discarded_job_is_gone;
    an_empty_enqueue_is_fine;
    a_fetch_of_none_returns_at_once;
    a_fetch_returns_no_more_than_asked;
    a_settle_of_none_is_fine;
    a_delivery_tells_when_it_was_ready;
    a_session_gets_only_its_queues;
    the_same_id_is_kept_once_while_ready;
    the_same_id_is_kept_once_while_claimed;
    the_same_id_is_kept_once_while_scheduled;
    the_same_id_is_kept_once_while_dead;
    the_same_id_twice_in_one_call_is_kept_once;
    any_valid_name_travels;
    a_job_outlives_its_handle;
    a_closed_broker_answers_closed;
    a_session_is_healthy;
}

/// A job in which no field has its default.
fn full_job() -> Checked<Job> {
    let some_time = Timestamp::from_millis(1_767_225_600_123);
    let name = JobName::new("billing/send-invoice")?;
    let args = Payload { content_type: ContentType::Other("application/x-thing".to_owned()), bytes: vec![0, 255, 7] };
    let mut job = Job::new(name, queue("full.job_0-9")?, args);
    job.enqueued_at = some_time;
    job.schedule = Schedule::At(Timestamp::from_millis(1_000));
    job.cron_run_at = Some(Timestamp::from_millis(-5));
    job.priority = Priority::Front;
    job.retry = RetryPolicy::default();
    job.retry.max_retries = 3;
    job.retry.backoff =
        Backoff::Exponential { base: Duration::from_millis(1_500), cap: Duration::from_secs(60), jitter: 0.25 };
    job.retry.retry_queue = Some(queue("retries")?);
    job.retry.skip_dead_queue = true;
    job.attempts.first_failed_at = Some(some_time);
    job.attempts.last_retried_at = Some(some_time.saturating_add(Duration::from_secs(1)));
    job.attempts.record_failure(some_time, "zwölf Boxkämpfer: \"\0\n");
    job.attempts.parked = Some(Parked::new(some_time, 4));
    job.timeout = Some(Duration::from_millis(30_001));
    job.expires_at = Some(Timestamp::from_millis(4_102_444_800_000));
    job.deadline = Some(Timestamp::from_millis(4_102_444_800_001));
    job.batch_id = Some(JobId::new());
    job.unique_key = Some("5f2c".to_owned());
    job.tags = vec!["vip".to_owned(), "ärzte".to_owned(), String::new()];
    job.headers.insert("traceparent".to_owned(), "00-4bf9-00f0-01".to_owned());
    job.headers.insert(String::new(), "an empty key".to_owned());
    Ok(job)
}

async fn every_field_of_a_job_survives(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let job = full_job()?;
    let session = stage.session(&broker, &job.queue).await?;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    let delivery = session.take_one().await?;
    ensure_eq!(delivery.job, job, "the job that came out");
    session.done(&[delivery]).await
}

async fn a_done_job_is_gone(stage: Stage) -> Checked {
    gone_after(stage, Verdict::Done).await
}

async fn a_discarded_job_is_gone(stage: Stage) -> Checked {
    gone_after(stage, Verdict::Discard).await
}

async fn gone_after(stage: Stage, verdict: Verdict) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let delivery = session.take_one().await?;
    session.expect_nothing().await?;
    session.must_settle(&[delivery], |_| verdict.clone()).await?;
    session.expect_nothing().await?;
    session.stop().await?;
    stage.session(&broker, &jobs).await?.expect_nothing().await
}

async fn an_empty_enqueue_is_fine(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let ids = stage.enqueue(&broker, Vec::new()).await?;
    ensure_eq!(ids.len(), 0, "the number of verdicts");
    Ok(())
}

async fn a_fetch_of_none_returns_at_once(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    for expected in [&[][..], &[0]] {
        let got = stage.promptly("a fetch of none", session.consumer.fetch(0)).await??;
        ensure_eq!(got.len(), 0, "the number of jobs of a fetch of none");
        session.expect(expected).await?;
        stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    }
    Ok(())
}

async fn a_fetch_returns_no_more_than_asked(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 20)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    // `take` checks each fetch.
    session.expect(&[0]).await?;
    session.expect(&[1, 2, 3]).await?;
    session.expect(&(4..20).collect::<Vec<_>>()).await?;
    session.expect_nothing().await
}

async fn a_settle_of_none_is_fine(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let session = stage.session(&broker, &queue("jobs")?).await?;
    session.settle_all(Vec::new()).await?;
    Ok(())
}

async fn a_delivery_tells_when_it_was_ready(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    ensure_eq!(first.recoveries, 0, "the recoveries of a fresh job");
    ensure!(first.ready_at <= first.claimed_at, "ready at {}, claimed at {}", first.ready_at, first.claimed_at);
    session.done(&[first]).await?;

    let delay = Duration::from_millis(100);
    stage.enqueue(&broker, vec![delayed(&jobs, 1, delay)?]).await?;
    let second = session.take_one().await?;
    let waited = second.claimed_at.since(second.ready_at);
    ensure!(second.ready_at <= second.claimed_at, "due at {}, claimed at {}", second.ready_at, second.claimed_at);
    ensure!(waited < stage.harness().patience(), "a job taken when due was ready {waited:?} before");
    Ok(())
}

async fn a_session_gets_only_its_queues(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let (mine, longer, shorter) = (queue("mine")?, queue("mine.too")?, queue("min")?);
    for (number, queue) in [&longer, &mine, &shorter].into_iter().enumerate() {
        stage.enqueue(&broker, vec![numbered(queue, u64::try_from(number).unwrap_or(u64::MAX))?]).await?;
    }
    let session = stage.session(&broker, &mine).await?;
    session.expect(&[1]).await?;
    session.expect_nothing().await?;
    stage.session(&broker, &longer).await?.expect(&[0]).await?;
    stage.session(&broker, &shorter).await?.expect(&[2]).await?;
    Ok(())
}

async fn the_same_id_is_kept_once_while_ready(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let job = numbered(&jobs, 0)?;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    let mut changed = job;
    changed.tags.push("the second call must change nothing".to_owned());
    stage.enqueue(&broker, vec![changed]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let delivery = session.take_one().await?;
    ensure_eq!(delivery.job.tags.len(), 0, "the tags of the job that was there first");
    session.expect_nothing().await
}

async fn the_same_id_is_kept_once_while_claimed(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let job = numbered(&jobs, 0)?;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let claimed = session.take_one().await?;
    stage.enqueue(&broker, vec![job]).await?;
    session.expect_nothing().await?;
    session.done(&[claimed]).await?;
    session.expect_nothing().await
}

async fn the_same_id_is_kept_once_while_scheduled(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut job = delayed(&jobs, 0, Duration::from_millis(600))?;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    job.schedule = Schedule::Now;
    stage.enqueue(&broker, vec![job]).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect_nothing().await?;
    session.expect(&[0]).await?;
    session.expect_nothing().await
}

async fn the_same_id_is_kept_once_while_dead(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let job = numbered(&jobs, 0)?;
    stage.enqueue(&broker, vec![job.clone()]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let delivery = session.take_one().await?;
    session.must_settle(&[delivery], |delivery| bury(delivery, "no use")).await?;
    stage.enqueue(&broker, vec![job]).await?;
    session.expect_nothing().await
}

async fn the_same_id_twice_in_one_call_is_kept_once(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let (job, other) = (numbered(&jobs, 0)?, numbered(&jobs, 1)?);
    stage.enqueue(&broker, vec![job.clone(), other, job]).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[0, 1]).await?;
    session.expect_nothing().await
}

async fn any_valid_name_travels(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let longest_queue = queue(&"q".repeat(QueueName::MAX_LEN))?;
    for (queue, name) in [
        (longest_queue, "j".repeat(JobName::MAX_LEN)),
        (queue("-._AZaz09")?, "_.:/-AZaz09".to_owned()),
        (queue(".")?, "nobody:handles/this".to_owned()),
        (queue("..")?, "/".to_owned()),
    ] {
        let session = stage.session(&broker, &queue).await?;
        let job = Job::new(JobName::new(name)?, queue, Payload::message_pack(vec![0xc0]));
        stage.enqueue(&broker, vec![job.clone()]).await?;
        let delivery = session.take_one().await?;
        ensure_eq!((&delivery.job.name, &delivery.job.queue), (&job.name, &job.queue), "name and queue");
        session.done(&[delivery]).await?;
        session.stop().await?;
    }
    Ok(())
}

async fn a_job_outlives_its_handle(stage: Stage) -> Checked {
    let (keeper, producer, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&producer, numbered_from_zero(&jobs, 3)?).await?;
    stage.promptly("a handle to close", producer.close()).await??;
    drop(producer);
    let consumer = stage.broker().await?;
    stage.session(&consumer, &jobs).await?.expect(&[0, 1, 2]).await?;
    stage.promptly("a handle to close", keeper.close()).await??;
    Ok(())
}

async fn a_closed_broker_answers_closed(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    stage.promptly("a handle to close", broker.close()).await??;
    stage.promptly("a handle to close again", broker.close()).await??;
    let enqueue = stage.promptly("a closed handle to answer", broker.enqueue(vec![numbered(&jobs, 1)?])).await?;
    let options = goose_core::broker::ConsumerOptions::new(goose_core::broker::QueueSet::one(jobs), 1);
    let consume = stage.promptly("a closed handle to answer", broker.consume(options)).await?;
    for error in [enqueue.err(), consume.err()] {
        let error = error.ok_or_else(|| Failure::new("a closed handle went on working"))?;
        ensure_eq!(error.kind(), ErrorKind::Closed, "the error of a closed handle ({error:#})");
    }
    Ok(())
}

async fn a_session_is_healthy(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let taken = session.take_one().await?;
    ensure!(session.consumer.holds(&taken.receipt), "a fresh session is not sure of its claim");
    for health in session.consumer.health() {
        ensure!(!health.is_stalled(), "a loop of a fresh session is stalled: {health:?}");
        ensure_eq!(health.restarts, 0, "the restarts of the loop {:?}", health.name);
    }
    session.done(&[taken]).await
}
