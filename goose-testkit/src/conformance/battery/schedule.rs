//! Jobs that wait for their time: never early, hardly late, in order.

use std::time::{Duration, Instant};

use goose_core::broker::Broker;
use goose_core::{Clock, Job, Schedule, SystemClock, Timestamp};

use crate::conformance::failure::{Checked, ensure, ensure_eq};
use crate::conformance::job::{delayed, number, numbered, numbered_from_zero, numbers};
use crate::conformance::scenario::battery;
use crate::conformance::stage::{Stage, queue};

battery! { "schedule":
    #[timed] a_delay_is_kept_and_hardly_exceeded;
    a_time_is_kept_on_the_brokers_clock;
    a_past_time_means_now_and_at_the_front;
    due_jobs_go_before_waiting_ones_in_order_of_their_times;
    a_session_opened_later_gets_what_became_due_before;
    an_earlier_job_wakes_a_session_that_waits_for_a_later_one;
    #[timed] another_process_may_schedule;
    a_delay_of_zero_means_now;
    the_far_future_is_kept_and_disturbs_nobody;
    ten_thousand_due_at_once;
}

/// Clocks are read in whole milliseconds, twice.
const ROUNDING: Duration = Duration::from_millis(2);

async fn a_delay_is_kept_and_hardly_exceeded(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    lateness(&stage, &broker, &broker, |n, delay| delayed(&jobs, n, delay)).await
}

async fn another_process_may_schedule(stage: Stage) -> Checked {
    let (producer, consumer, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    lateness(&stage, &producer, &consumer, |n, delay| delayed(&jobs, n, delay)).await
}

/// Schedules jobs at uneven times while a session waits; none may be early, the median not late.
async fn lateness(
    stage: &Stage,
    producer: &dyn Broker,
    consumer: &dyn Broker,
    job: impl Fn(u64, Duration) -> Checked<Job>,
) -> Checked {
    let session = stage.session(consumer, &queue("jobs")?).await?;
    let delays: Vec<Duration> = (0..15).map(|n| Duration::from_millis(150 + n * 37)).collect();
    let mut before = Vec::new();
    let mut after = Vec::new();
    for (n, delay) in (0..).zip(&delays) {
        before.push(Instant::now());
        stage.enqueue(producer, vec![job(n, *delay)?]).await?;
        after.push(Instant::now());
    }
    let (mut late, mut taken) = (Vec::new(), Vec::new());
    for _ in &delays {
        let delivery = session.take_one().await?;
        let now = Instant::now();
        let n = usize::try_from(number(&delivery.job)?).unwrap_or(usize::MAX);
        ensure!(n < delays.len(), "a job that nobody enqueued: {n}");
        ensure!(
            now.duration_since(before[n]) + ROUNDING >= delays[n],
            "a job with a delay of {:?} came after {:?}",
            delays[n],
            now.duration_since(before[n])
        );
        late.push(now.saturating_duration_since(after[n] + delays[n]));
        taken.push(delivery);
    }
    session.done(&taken).await?;
    late.sort_unstable();
    let (median, limit) = (late[late.len() / 2], stage.harness().promptness());
    ensure!(median <= limit, "due jobs came {median:?} late in the median, the limit is {limit:?}; all: {late:?}");
    Ok(())
}

async fn a_time_is_kept_on_the_brokers_clock(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    let at = stage.brokers_time(&broker).await?.saturating_add(Duration::from_millis(400));
    let mut job = numbered(&jobs, 1)?;
    job.schedule = Schedule::At(at);
    stage.enqueue(&broker, vec![job]).await?;
    let delivery = session.take_one().await?;
    ensure!(delivery.claimed_at >= at, "a job for {at} was claimed at {}", delivery.claimed_at);
    ensure_eq!(delivery.ready_at, at, "the time a scheduled job was ready");
    ensure_eq!(delivery.job.schedule, Schedule::At(at), "the schedule in the record");
    Ok(())
}

async fn a_past_time_means_now_and_at_the_front(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 3)?).await?;
    let mut past = numbered(&jobs, 9)?;
    past.schedule = Schedule::At(Timestamp::from_millis(1));
    stage.enqueue(&broker, vec![past]).await?;
    stage.session(&broker, &jobs).await?.expect(&[9, 0, 1, 2]).await?;
    Ok(())
}

async fn a_delay_of_zero_means_now(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    stage.enqueue(&broker, vec![delayed(&jobs, 0, Duration::ZERO)?]).await?;
    session.expect(&[0]).await?;
    Ok(())
}

async fn due_jobs_go_before_waiting_ones_in_order_of_their_times(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 1_000)?, numbered(&jobs, 1_001)?]).await?;
    let start = stage.brokers_time(&broker).await?;
    // 0..20 in an order that has nothing to do with their times.
    for n in (0..20).map(|n| (n * 7) % 20) {
        let mut job = numbered(&jobs, n)?;
        job.schedule = Schedule::At(start.saturating_add(Duration::from_millis(500 + n)));
        stage.enqueue(&broker, vec![job]).await?;
    }
    stage.let_pass(&broker, Duration::from_millis(600)).await?;
    let session = stage.session(&broker, &jobs).await?;
    let expected: Vec<u64> = (0..20).chain([1_000, 1_001]).collect();
    session.expect(&expected).await?;
    Ok(())
}

async fn a_session_opened_later_gets_what_became_due_before(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![delayed(&jobs, 0, Duration::from_millis(50))?]).await?;
    stage.let_pass(&broker, Duration::from_millis(150)).await?;
    stage.session(&stage.broker().await?, &jobs).await?.expect(&[0]).await?;
    Ok(())
}

async fn an_earlier_job_wakes_a_session_that_waits_for_a_later_one(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    let session = stage.session(&one, &jobs).await?;
    stage.enqueue(&one, vec![delayed(&jobs, 0, Duration::from_secs(3_600))?]).await?;
    session.expect_nothing().await?;
    for (n, broker) in [(1, &one), (2, &two)] {
        stage.enqueue(broker, vec![delayed(&jobs, n, Duration::from_millis(150))?]).await?;
        session.expect(&[n]).await?;
    }
    Ok(())
}

async fn the_far_future_is_kept_and_disturbs_nobody(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    let mut never = numbered(&jobs, 0)?;
    never.schedule = Schedule::At(Timestamp::MAX);
    let in_ages = delayed(&jobs, 1, Duration::MAX)?;
    stage.enqueue(&broker, vec![never, in_ages, delayed(&jobs, 2, Duration::from_millis(100))?]).await?;
    session.expect(&[2]).await?;
    session.expect_nothing().await
}

async fn ten_thousand_due_at_once(stage: Stage) -> Checked {
    const ALL: u64 = 10_000;
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let at = SystemClock.now().saturating_add(Duration::from_secs(2));
    for first in (0..ALL).step_by(1_000) {
        let mut batch = Vec::new();
        for n in first..first + 1_000 {
            let mut job = numbered(&jobs, n)?;
            job.schedule = Schedule::At(at);
            batch.push(job);
        }
        stage.enqueue(&broker, batch).await?;
    }
    let session = stage.session(&broker, &jobs).await?;
    let mut seen = vec![false; 10_000];
    for _ in 0..100 {
        let taken = session.take(100).await?;
        for n in numbers(&taken)? {
            let slot = seen.get_mut(usize::try_from(n).unwrap_or(usize::MAX));
            ensure!(slot.is_some_and(|seen| !std::mem::replace(seen, true)), "job {n} came twice");
        }
        session.done(&taken).await?;
    }
    session.expect_nothing().await
}
