//! The calls of [`EnqueuedJobs`](goose_core::broker::capability::EnqueuedJobs).

use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::broker::capability::{JobFilter, Page};
use goose_core::{Job, JobId, QueueName};

use crate::conformance::failure::{Checked, ensure, ensure_eq};
use crate::conformance::job::{delayed, number, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::retry;
use crate::conformance::stage::{Stage, enqueued_jobs, queue};

battery! { "enqueued_jobs":
    queues_and_sizes needs "enqueued jobs";
    sizes_return_to_zero needs "enqueued jobs";
    a_job_is_found_by_its_id needs "enqueued jobs";
    a_running_or_scheduled_job_is_not_enqueued needs "enqueued jobs";
    pages_visit_each_job_once_in_order needs "enqueued jobs";
    a_page_outlives_changes needs "enqueued jobs";
    filters_are_applied needs "enqueued jobs";
    a_prioritised_job_comes_first needs "enqueued jobs";
    a_deleted_job_does_not_run needs "enqueued jobs";
    a_deletion_knows_what_waits needs "enqueued jobs";
    a_running_job_cannot_be_deleted needs "enqueued jobs";
    a_purge_empties_one_queue needs "enqueued jobs";
}

/// Goes through all pages of a queue.
async fn all_pages(broker: &dyn Broker, queue: &QueueName, filter: &JobFilter, limit: u32) -> Checked<Vec<Job>> {
    let (mut found, mut page) = (Vec::new(), Page::first(limit));
    loop {
        let paged = enqueued_jobs(broker)?.find(queue, filter, page).await?;
        let limit_reached = paged.items.len() <= usize::try_from(limit).unwrap_or(usize::MAX);
        ensure!(limit_reached, "a page of {limit} has {} jobs", paged.items.len());
        found.extend(paged.items);
        ensure!(found.len() <= 20_000, "the pages do not end");
        match paged.next {
            Some(cursor) => page = Page::after(limit, cursor),
            None => return Ok(found),
        }
    }
}

fn numbers(jobs: &[Job]) -> Checked<Vec<u64>> {
    jobs.iter().map(number).collect()
}

async fn queues_and_sizes(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure_eq!(enqueued.queues().await?, Vec::<QueueName>::new(), "the queues of an unused broker");
    ensure_eq!(enqueued.size(&queue("nobody")?).await?, 0, "the size of a queue nobody used");
    let (b, a, c) = (queue("b")?, queue("a")?, queue("c")?);
    stage.enqueue(&broker, numbered_from_zero(&b, 3)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&a, 2)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&c, 1)?).await?;
    ensure_eq!(enqueued.queues().await?, [a.clone(), b.clone(), c.clone()], "the queues");
    for (queue, size) in [(&a, 2), (&b, 3), (&c, 1)] {
        ensure_eq!(enqueued.size(queue).await?, size, "the size of queue {queue}");
    }
    Ok(())
}

async fn sizes_return_to_zero(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 30)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.take(30).await?;
    session.done(&taken).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure_eq!(enqueued.size(&jobs).await?, 0, "the size of a queue that was worked off");
    ensure_eq!(enqueued.queues().await?, [jobs], "the queues: one that ever held a job stays known");
    Ok(())
}

async fn a_job_is_found_by_its_id(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut job = numbered(&jobs, 1)?;
    job.tags.push("vip".to_owned());
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?, job.clone()]).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure_eq!(enqueued.find_by_id(job.id).await?, Some(job), "the job that was found");
    ensure_eq!(enqueued.find_by_id(JobId::new()).await?, None, "a job nobody enqueued");
    Ok(())
}

async fn a_running_or_scheduled_job_is_not_enqueued(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let later = delayed(&jobs, 1, Duration::from_secs(3_600))?;
    let ids = stage.enqueue(&broker, vec![numbered(&jobs, 0)?, later]).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[0]).await?;
    let enqueued = enqueued_jobs(&broker)?;
    for id in ids {
        ensure_eq!(enqueued.find_by_id(id).await?, None, "a job that is running or scheduled");
        ensure!(!enqueued.prioritise(id).await?, "a running or scheduled job was prioritised in its queue");
    }
    ensure_eq!(all_pages(&broker, &jobs, &JobFilter::default(), 10).await?, Vec::<Job>::new(), "the jobs in the queue");
    Ok(())
}

async fn pages_visit_each_job_once_in_order(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2_500)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&queue("other")?, 10)?).await?;
    for limit in [1_000, 333] {
        let found = all_pages(&broker, &jobs, &JobFilter::default(), limit).await?;
        ensure_eq!(numbers(&found)?, (0..2_500).collect::<Vec<_>>(), "the jobs on pages of {limit}");
    }
    let first = enqueued_jobs(&broker)?.find(&jobs, &JobFilter::default(), Page::first(u32::MAX)).await?;
    ensure!(first.items.len() <= 1_000 && first.next.is_some(), "one page looked at {} jobs", first.items.len());
    Ok(())
}

async fn a_page_outlives_changes(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, numbered_from_zero(&jobs, 20)?).await?;
    let enqueued = enqueued_jobs(&broker)?;
    let first = enqueued.find(&jobs, &JobFilter::default(), Page::first(10)).await?;
    ensure_eq!(numbers(&first.items)?, (0..10).collect::<Vec<_>>(), "the first page");
    // The job the cursor stands on goes away, and so do others; new ones come.
    for n in [0, 9, 10, 15] {
        ensure!(enqueued.delete(ids[n]).await?, "job {n} cannot be deleted");
    }
    stage.enqueue(&broker, vec![numbered(&jobs, 20)?]).await?;
    let cursor = first.next.ok_or_else(|| crate::conformance::Failure::new("the list ends after its first page"))?;
    let second = enqueued.find(&jobs, &JobFilter::default(), Page::after(100, cursor)).await?;
    ensure_eq!(numbers(&second.items)?, [11, 12, 13, 14, 16, 17, 18, 19, 20], "the second page");
    ensure_eq!(second.next, None, "the cursor at the end");
    Ok(())
}

async fn filters_are_applied(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut batch = numbered_from_zero(&jobs, 6)?;
    batch[2].tags.push("vip".to_owned());
    batch[4].tags.push("vip".to_owned());
    batch[5].name = goose_core::JobName::new("another")?;
    stage.enqueue(&broker, batch).await?;
    // A job with an error in its history, back in the queue.
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0]).await?;
    session.must_settle(&taken, |d| retry(d, Duration::ZERO, "connection refused")).await?;
    for (filter, expected) in [
        (JobFilter::default(), vec![0, 1, 2, 3, 4, 5]),
        (JobFilter::default().tag("vip"), vec![2, 4]),
        (JobFilter::default().name("another"), vec![5]),
        (JobFilter::default().name("another").tag("vip"), vec![]),
        (JobFilter::default().error_contains("refused"), vec![0]),
        (JobFilter::default().queue("elsewhere"), vec![]),
    ] {
        for limit in [2, 100] {
            let found = all_pages(&broker, &jobs, &filter, limit).await?;
            ensure_eq!(numbers(&found)?, expected, "the jobs on pages of {limit} that pass {filter:?}");
        }
    }
    Ok(())
}

async fn a_prioritised_job_comes_first(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, numbered_from_zero(&jobs, 5)?).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure!(enqueued.prioritise(ids[3]).await?, "a job that waits cannot be prioritised");
    ensure!(!enqueued.prioritise(JobId::new()).await?, "a job nobody enqueued was prioritised");
    let listed = all_pages(&broker, &jobs, &JobFilter::default(), 2).await?;
    ensure_eq!(numbers(&listed)?, [3, 0, 1, 2, 4], "the list, which is in the order in which workers take jobs");
    stage.session(&broker, &jobs).await?.expect(&[3, 0, 1, 2, 4]).await?;
    Ok(())
}

async fn a_deleted_job_does_not_run(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, numbered_from_zero(&jobs, 4)?).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure!(enqueued.delete(ids[1]).await?, "a job that waits cannot be deleted");
    ensure!(!enqueued.delete(ids[1]).await?, "a job was deleted twice");
    let session = stage.session(&broker, &jobs).await?;
    session.expect(&[0, 2, 3]).await?;
    session.expect_nothing().await?;
    ensure_eq!(enqueued.size(&jobs).await?, 0, "the size after a worker has passed");
    Ok(())
}

async fn a_deletion_knows_what_waits(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, numbered_from_zero(&jobs, 4)?).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure!(!enqueued.delete(JobId::new()).await?, "a job nobody enqueued was deleted");
    ensure!(enqueued.delete(ids[1]).await?, "a job that waits cannot be deleted");
    ensure_eq!(enqueued.size(&jobs).await?, 3, "the size after a deletion");
    Ok(())
}

async fn a_running_job_cannot_be_deleted(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let ids = stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0]).await?;
    ensure!(!enqueued_jobs(&broker)?.delete(ids[0]).await?, "a running job was deleted");
    ensure_eq!(enqueued_jobs(&broker)?.purge(&jobs).await?, 0, "the jobs a purge removed while all were running");
    session.done(&taken).await
}

async fn a_purge_empties_one_queue(stage: Stage) -> Checked {
    let (broker, jobs, other) = (stage.broker().await?, queue("jobs")?, queue("other")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2_500)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&other, 3)?).await?;
    let later = delayed(&jobs, 9_000, Duration::from_millis(800))?;
    stage.enqueue(&broker, vec![later]).await?;
    let enqueued = enqueued_jobs(&broker)?;
    ensure_eq!(enqueued.purge(&jobs).await?, 2_500, "the jobs a purge removed");
    ensure_eq!(enqueued.purge(&jobs).await?, 0, "the jobs a second purge removed");
    ensure_eq!(enqueued.purge(&queue("nobody")?).await?, 0, "the jobs of a queue nobody used");
    ensure_eq!((enqueued.size(&jobs).await?, enqueued.size(&other).await?), (0, 3), "the sizes after the purge");
    // What waited for its time was not in the queue.
    stage.session(&broker, &jobs).await?.expect(&[9_000]).await?;
    Ok(())
}
