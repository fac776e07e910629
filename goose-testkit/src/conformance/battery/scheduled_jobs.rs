//! The calls of [`ScheduledJobs`](goose_core::broker::capability::ScheduledJobs).

use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::broker::capability::{JobFilter, Page, ScheduledJob, ScheduledKind};
use goose_core::{Clock, JobId, Schedule, SystemClock, Timestamp};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{delayed, number, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::{retry, snooze};
use crate::conformance::stage::{Stage, queue, scheduled_jobs};

battery! { "scheduled_jobs":
    a_scheduled_job_is_found_with_its_time needs "scheduled jobs";
    retries_and_snoozes_are_scheduled_too needs "scheduled jobs";
    the_size_counts_all_and_returns_to_zero needs "scheduled jobs";
    pages_visit_each_job_once_in_order_of_time needs "scheduled jobs";
    scheduled_filters_are_applied needs "scheduled jobs";
    a_prioritised_job_runs_now_and_first needs "scheduled jobs";
    a_deleted_scheduled_job_does_not_run needs "scheduled jobs";
    a_deletion_knows_what_is_scheduled needs "scheduled jobs";
    a_purge_removes_all_that_waits_for_its_time needs "scheduled jobs";
}

const AN_HOUR: Duration = Duration::from_secs(3_600);

async fn all_pages(broker: &dyn Broker, filter: &JobFilter, limit: u32) -> Checked<Vec<ScheduledJob>> {
    let (mut found, mut page) = (Vec::new(), Page::first(limit));
    loop {
        let paged = scheduled_jobs(broker)?.find(filter, page).await?;
        found.extend(paged.items);
        ensure!(found.len() <= 20_000, "the pages do not end");
        match paged.next {
            Some(cursor) => page = Page::after(limit, cursor),
            None => return Ok(found),
        }
    }
}

fn numbers(jobs: &[ScheduledJob]) -> Checked<Vec<u64>> {
    jobs.iter().map(|scheduled| number(&scheduled.job)).collect()
}

async fn must_find(broker: &dyn Broker, id: JobId) -> Checked<ScheduledJob> {
    let found = scheduled_jobs(broker)?.find_by_id(id).await?;
    found.ok_or_else(|| Failure::new(format!("job {id} is not among the scheduled jobs")))
}

async fn a_scheduled_job_is_found_with_its_time(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let at = Timestamp::from_millis(4_102_444_800_123);
    let mut fixed = numbered(&jobs, 0)?;
    fixed.schedule = Schedule::At(at);
    let relative = delayed(&jobs, 1, AN_HOUR)?;
    stage.enqueue(&broker, vec![fixed.clone(), relative.clone(), numbered(&jobs, 2)?]).await?;
    let found = must_find(&broker, fixed.id).await?;
    ensure_eq!((found.due_at, found.kind, &found.job), (at, ScheduledKind::Scheduled, &fixed), "a job for a time");
    let found = must_find(&broker, relative.id).await?;
    ensure_eq!((found.kind, &found.job), (ScheduledKind::Scheduled, &relative), "a delayed job");
    // The broker's clock may differ from ours, but not by half an hour.
    let from_now = found.due_at.since(SystemClock.now());
    ensure!(from_now > AN_HOUR / 2 && from_now < AN_HOUR * 2, "a job in an hour is due in {from_now:?}");
    let nothing = scheduled_jobs(&broker)?.find_by_id(JobId::new()).await?;
    ensure!(nothing.is_none(), "a job nobody enqueued was found: {nothing:?}");
    Ok(())
}

async fn retries_and_snoozes_are_scheduled_too(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1]).await?;
    session.must_settle(&taken[..1], |d| retry(d, AN_HOUR, "it broke")).await?;
    session.must_settle(&taken[1..], |d| snooze(d, AN_HOUR)).await?;
    let retried = must_find(&broker, taken[0].job.id).await?;
    ensure_eq!(retried.kind, ScheduledKind::Retry, "the kind of a retry");
    ensure_eq!(retried.job.attempts.retry_count, 1, "the retries used");
    ensure_eq!(must_find(&broker, taken[1].job.id).await?.kind, ScheduledKind::Snoozed, "the kind of a snooze");
    ensure!(retried.due_at > taken[0].claimed_at, "a retry in an hour is due at {}", retried.due_at);
    Ok(())
}

async fn the_size_counts_all_and_returns_to_zero(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let scheduled = scheduled_jobs(&broker)?;
    ensure_eq!(scheduled.size().await?, 0, "the scheduled jobs of an unused broker");
    // Long enough for a busy machine to count them before the first is due.
    let delay = Duration::from_secs(2);
    for (n, name) in (0..).zip(["a", "b"]) {
        stage.enqueue(&broker, vec![delayed(&queue(name)?, n, delay)?]).await?;
    }
    ensure_eq!(scheduled.size().await?, 2, "the scheduled jobs of two queues");
    for (n, name) in (0..).zip(["a", "b"]) {
        let session = stage.session(&broker, &queue(name)?).await?;
        let taken = session.expect(&[n]).await?;
        session.done(&taken).await?;
    }
    ensure_eq!(scheduled.size().await?, 0, "the scheduled jobs after all have run");
    Ok(())
}

async fn pages_visit_each_job_once_in_order_of_time(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let at = SystemClock.now().saturating_add(AN_HOUR);
    let mut batch = Vec::new();
    // In an order that has nothing to do with their times; 5 at a time are due in the same millisecond.
    for n in (0..2_500).map(|n| (n * 1_117) % 2_500) {
        let mut job = numbered(&jobs, n)?;
        job.schedule = Schedule::At(at.saturating_add(Duration::from_millis(n / 5)));
        batch.push(job);
    }
    stage.enqueue(&broker, batch).await?;
    for limit in [1_000, 333] {
        let found = all_pages(&broker, &JobFilter::default(), limit).await?;
        ensure!(found.is_sorted_by_key(|job| job.due_at), "pages of {limit} are not in order of due time");
        let mut seen = numbers(&found)?;
        seen.sort_unstable();
        ensure_eq!(seen, (0..2_500).collect::<Vec<_>>(), "the jobs on pages of {limit}");
    }
    Ok(())
}

async fn scheduled_filters_are_applied(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let mut batch = Vec::new();
    for (n, name) in (0..).zip(["a", "b", "a"]) {
        batch.push(delayed(&queue(name)?, n, AN_HOUR + Duration::from_secs(n))?);
    }
    batch[2].tags.push("vip".to_owned());
    stage.enqueue(&broker, batch).await?;
    for (filter, expected) in [
        (JobFilter::default(), vec![0, 1, 2]),
        (JobFilter::default().queue("a"), vec![0, 2]),
        (JobFilter::default().queue("a").tag("vip"), vec![2]),
        (JobFilter::default().name("another"), vec![]),
    ] {
        let found = all_pages(&broker, &filter, 2).await?;
        ensure_eq!(numbers(&found)?, expected, "the scheduled jobs that pass {filter:?}");
    }
    Ok(())
}

async fn a_prioritised_job_runs_now_and_first(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, vec![numbered(&jobs, 0)?, delayed(&jobs, 1, AN_HOUR)?]).await?;
    let scheduled = scheduled_jobs(&broker)?;
    ensure!(scheduled.prioritise(ids[1]).await?, "a scheduled job cannot be prioritised");
    ensure!(!scheduled.prioritise(ids[1]).await?, "a job was prioritised twice");
    ensure!(!scheduled.prioritise(ids[0]).await?, "a job that is not scheduled was prioritised");
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[1, 0]).await?;
    // A session that waits must be woken by it.
    let ids = stage.enqueue(&broker, vec![delayed(&jobs, 2, AN_HOUR)?]).await?;
    let (taken, prioritised) = tokio::join!(biased; session.expect(&[2]), scheduled.prioritise(ids[0]));
    ensure!(prioritised?, "a scheduled job cannot be prioritised");
    taken.map(drop)
}

async fn a_deleted_scheduled_job_does_not_run(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let soon = Duration::from_millis(300);
    let ids = stage.enqueue(&broker, vec![delayed(&jobs, 0, soon)?, delayed(&jobs, 1, soon)?]).await?;
    let scheduled = scheduled_jobs(&broker)?;
    ensure!(scheduled.delete(ids[0]).await?, "a scheduled job cannot be deleted");
    ensure!(!scheduled.delete(ids[0]).await?, "a job was deleted twice");
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[1]).await?;
    session.expect_nothing().await
}

async fn a_deletion_knows_what_is_scheduled(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, vec![delayed(&jobs, 0, AN_HOUR)?, delayed(&jobs, 1, AN_HOUR)?]).await?;
    let scheduled = scheduled_jobs(&broker)?;
    ensure!(!scheduled.delete(JobId::new()).await?, "a job nobody enqueued was deleted");
    ensure!(scheduled.delete(ids[0]).await?, "a scheduled job cannot be deleted");
    ensure_eq!(scheduled.size().await?, 1, "the scheduled jobs after a deletion");
    Ok(())
}

async fn a_purge_removes_all_that_waits_for_its_time(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let later = (0..2_500).map(|n| delayed(&jobs, n, AN_HOUR)).collect::<Checked<Vec<_>>>()?;
    stage.enqueue(&broker, later).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 9_000)?]).await?;
    let scheduled = scheduled_jobs(&broker)?;
    ensure_eq!(scheduled.purge().await?, 2_500, "the jobs a purge removed");
    ensure_eq!(scheduled.size().await?, 0, "the scheduled jobs after the purge");
    stage.session(&broker, &jobs).await?.expect(&[9_000]).await?;
    Ok(())
}
