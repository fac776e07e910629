//! Failed and postponed jobs come back when they should, where they should, with what was learned.

use std::time::{Duration, Instant};

use goose_core::broker::{Delivery, Verdict};

use crate::conformance::failure::{Checked, ensure, ensure_eq};
use crate::conformance::job::{numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::{bury, retry, snooze};
use crate::conformance::stage::{Stage, queue};

battery! { "retry":
    a_retry_comes_after_its_pause_with_its_failure;
    a_retry_without_a_pause_goes_to_the_front;
    a_retry_goes_to_the_retry_queue;
    a_retry_replaces_the_record;
    a_retry_can_be_retried_many_times;
    a_buried_job_does_not_run;
    a_snoozed_job_comes_back_unchanged;
    a_snooze_without_a_pause_goes_to_the_front;
    another_session_gets_the_retry;
}

const PAUSE: Duration = Duration::from_millis(250);

async fn comes_back_after_pause(stage: &Stage, verdict: impl Fn(&Delivery) -> Verdict) -> Checked<[Delivery; 2]> {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    let settled = Instant::now();
    session.must_settle(std::slice::from_ref(&first), verdict).await?;
    let second = session.take_one().await?;
    let waited = settled.elapsed();
    ensure!(waited + Duration::from_millis(2) >= PAUSE, "a job to come back after {PAUSE:?} came after {waited:?}");
    ensure!(second.ready_at <= second.claimed_at, "due at {}, claimed at {}", second.ready_at, second.claimed_at);
    ensure_eq!(second.job.id, first.job.id, "the id of the job that came back");
    ensure_eq!(second.recoveries, 0, "the recoveries of a job that came back");
    session.done(std::slice::from_ref(&second)).await?;
    Ok([first, second])
}

async fn a_retry_comes_after_its_pause_with_its_failure(stage: Stage) -> Checked {
    let [_, second] = comes_back_after_pause(&stage, |delivery| retry(delivery, PAUSE, "it broke")).await?;
    ensure_eq!(second.job.attempts.retry_count, 1, "the retries used");
    let failure = second.job.attempts.last_failure().map(|failure| failure.error.clone());
    ensure_eq!(failure.as_deref(), Some("it broke"), "the last failure");
    Ok(())
}

async fn a_snoozed_job_comes_back_unchanged(stage: Stage) -> Checked {
    let [first, second] = comes_back_after_pause(&stage, |delivery| snooze(delivery, PAUSE)).await?;
    ensure_eq!(second.job, first.job, "the snoozed job");
    Ok(())
}

async fn a_retry_without_a_pause_goes_to_the_front(stage: Stage) -> Checked {
    at_the_front(stage, |delivery| retry(delivery, Duration::ZERO, "it broke")).await
}

async fn a_snooze_without_a_pause_goes_to_the_front(stage: Stage) -> Checked {
    at_the_front(stage, |delivery| snooze(delivery, Duration::ZERO)).await
}

async fn at_the_front(stage: Stage, verdict: impl Fn(&Delivery) -> Verdict) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 3)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0]).await?;
    session.must_settle(&taken, verdict).await?;
    session.expect(&[0, 1, 2]).await?;
    session.expect_nothing().await
}

async fn a_retry_goes_to_the_retry_queue(stage: Stage) -> Checked {
    let (broker, jobs, slow) = (stage.broker().await?, queue("jobs")?, queue("slow")?);
    let mut now = numbered(&jobs, 0)?;
    now.retry.retry_queue = Some(slow.clone());
    let mut later = numbered(&jobs, 1)?;
    later.retry.retry_queue = Some(slow.clone());
    stage.enqueue(&broker, vec![now, later]).await?;
    let (own, retries) = (stage.session(&broker, &jobs).await?, stage.session(&broker, &slow).await?);
    let taken = own.expect(&[0, 1]).await?;
    own.must_settle(&taken[..1], |delivery| retry(delivery, Duration::ZERO, "it broke")).await?;
    own.must_settle(&taken[1..], |delivery| retry(delivery, PAUSE, "it broke")).await?;
    let retried = retries.expect(&[0, 1]).await?;
    ensure_eq!(retried[0].job.queue, jobs, "the job's own queue in the record");
    own.expect_nothing().await?;
    retries.done(&retried).await
}

async fn a_retry_replaces_the_record(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    let mut changed = first.job.clone();
    changed.tags.push("seen".to_owned());
    changed.headers.insert("step".to_owned(), "2".to_owned());
    changed.attempts.retry_count = 7;
    let replacement = Verdict::Retry { job: Box::new(changed.clone()), delay: Duration::ZERO };
    session.must_settle(&[first], |_| replacement.clone()).await?;
    ensure_eq!(session.take_one().await?.job, changed, "the record after the retry");
    Ok(())
}

async fn a_retry_can_be_retried_many_times(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    for attempt in 0..30 {
        let taken = session.expect(&[0]).await?;
        ensure_eq!(taken[0].job.attempts.retry_count, attempt, "the retries used");
        let pause = Duration::from_millis(u64::from(attempt % 3));
        session.must_settle(&taken, |delivery| retry(delivery, pause, "still broken")).await?;
    }
    Ok(())
}

async fn a_buried_job_does_not_run(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0]).await?;
    session.must_settle(&taken, |delivery| bury(delivery, "no use")).await?;
    session.expect(&[1]).await?;
    session.expect_nothing().await
}

async fn another_session_gets_the_retry(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, vec![numbered(&jobs, 0)?]).await?;
    let failing = stage.session(&one, &jobs).await?;
    let taken = failing.expect(&[0]).await?;
    failing.must_settle(&taken, |delivery| retry(delivery, PAUSE, "it broke")).await?;
    failing.stop().await?;
    stage.session(&two, &jobs).await?.expect(&[0]).await?;
    Ok(())
}
