//! The calls of [`DeadJobs`](goose_core::broker::capability::DeadJobs).

use std::time::Duration;

use goose_core::broker::capability::{DeadJob, JobFilter, Page};
use goose_core::broker::{Broker, DeathCause, DeathReason, Verdict};
use goose_core::{Job, JobId, Timestamp};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{number, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::{Session, bury, retry};
use crate::conformance::stage::{Stage, dead_jobs, queue};

battery! { "dead_jobs":
    a_buried_job_is_found_with_its_reason needs "dead jobs";
    every_cause_of_death_is_kept needs "dead jobs";
    the_list_begins_with_the_first_death needs "dead jobs";
    pages_visit_each_dead_job_once needs "dead jobs";
    dead_filters_are_applied needs "dead jobs";
    a_pop_takes_the_first_death_out needs "dead jobs";
    a_replayed_job_starts_over_at_the_front_of_its_own_queue needs "dead jobs";
    a_replay_of_many_keeps_their_order needs "dead jobs";
    a_replay_wakes_a_waiting_session needs "dead jobs";
    a_deleted_dead_job_is_gone needs "dead jobs";
    those_older_than_a_time_are_deleted needs "dead jobs";
    a_purge_removes_all_dead_jobs needs "dead jobs";
}

async fn all_pages(broker: &dyn Broker, filter: &JobFilter, limit: u32) -> Checked<Vec<DeadJob>> {
    let (mut found, mut page) = (Vec::new(), Page::first(limit));
    loop {
        let paged = dead_jobs(broker)?.find(filter, page).await?;
        found.extend(paged.items);
        ensure!(found.len() <= 20_000, "the pages do not end");
        match paged.next {
            Some(cursor) => page = Page::after(limit, cursor),
            None => return Ok(found),
        }
    }
}

fn numbers(dead: &[DeadJob]) -> Checked<Vec<u64>> {
    let job = |dead: &DeadJob| dead.job().cloned().ok_or_else(|| Failure::new(format!("no record of {dead:?}")));
    dead.iter().map(|dead| number(&job(dead)?)).collect()
}

/// Times of death are in milliseconds. Deaths whose order matters are this far apart.
const TICK: Duration = Duration::from_millis(2);

/// Runs and buries jobs, one after another.
async fn kill(stage: &Stage, broker: &dyn Broker, jobs: Vec<Job>) -> Checked<(Session, Vec<JobId>)> {
    let queue = jobs.first().map_or(queue("jobs")?, |job| job.queue.clone());
    let ids = stage.enqueue(broker, jobs).await?;
    let session = stage.session(broker, &queue).await?;
    for _ in &ids {
        let taken = session.take_one().await?;
        session.must_settle(&[taken], |d| bury(d, "no use")).await?;
        stage.let_pass(broker, TICK).await?;
    }
    Ok((session, ids))
}

async fn must_find(broker: &dyn Broker, id: JobId) -> Checked<DeadJob> {
    let found = dead_jobs(broker)?.find_by_id(id).await?;
    found.ok_or_else(|| Failure::new(format!("job {id} is not among the dead")))
}

async fn a_buried_job_is_found_with_its_reason(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.take_one().await?;
    let reason = DeathReason::new(DeathCause::Buried, "address unknown: \"näh\"");
    let mut record = taken.job.clone();
    record.attempts.record_failure(Timestamp::from_millis(5), "address unknown");
    let verdict = Verdict::Bury { job: Box::new(record.clone()), reason: reason.clone() };
    session.must_settle(std::slice::from_ref(&taken), |_| verdict.clone()).await?;
    let found = must_find(&broker, taken.job.id).await?;
    ensure_eq!((&found.reason, &found.queue), (&reason, &jobs), "reason and queue of a dead job");
    ensure_eq!(found.job(), Some(&record), "the record of a dead job");
    ensure!(found.died_at >= taken.claimed_at, "claimed at {}, died at {}", taken.claimed_at, found.died_at);
    ensure_eq!(dead_jobs(&broker)?.size().await?, 1, "the dead jobs");
    let nothing = dead_jobs(&broker)?.find_by_id(JobId::new()).await?;
    ensure!(nothing.is_none(), "a job nobody enqueued was found: {nothing:?}");
    Ok(())
}

async fn every_cause_of_death_is_kept(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    let causes = [
        DeathCause::RetriesExhausted,
        DeathCause::Buried,
        DeathCause::Unhandled,
        DeathCause::DeadlineExceeded,
        DeathCause::Poison,
    ];
    for (n, cause) in (0..).zip(causes) {
        stage.enqueue(&broker, vec![numbered(&jobs, n)?]).await?;
        let taken = session.take_one().await?;
        let (id, job) = (taken.job.id, Box::new(taken.job.clone()));
        let verdict = Verdict::Bury { job, reason: DeathReason::new(cause, "") };
        session.must_settle(&[taken], |_| verdict.clone()).await?;
        ensure_eq!(must_find(&broker, id).await?.reason, DeathReason::new(cause, ""), "the reason");
    }
    Ok(())
}

async fn the_list_begins_with_the_first_death(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 4)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.take(4).await?;
    for n in [2, 0, 3, 1] {
        session.must_settle(&taken[n..=n], |d| bury(d, "no use")).await?;
        stage.let_pass(&broker, TICK).await?;
    }
    let found = all_pages(&broker, &JobFilter::default(), 3).await?;
    ensure_eq!(numbers(&found)?, [2, 0, 3, 1], "the dead jobs in the order of their deaths");
    ensure!(found.is_sorted_by_key(|dead| dead.died_at), "the times of death are out of order");
    Ok(())
}

/// Buries 2,500 jobs in a few calls.
async fn cemetery(stage: &Stage, broker: &dyn Broker) -> Checked {
    let jobs = queue("jobs")?;
    stage.enqueue(broker, numbered_from_zero(&jobs, 2_500)?).await?;
    let session = stage.session(broker, &jobs).await?;
    for _ in 0..10 {
        let taken = session.take(250).await?;
        session.must_settle(&taken, |d| bury(d, "no use")).await?;
    }
    session.stop().await
}

async fn pages_visit_each_dead_job_once(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    cemetery(&stage, &broker).await?;
    for limit in [1_000, 333] {
        let mut seen = numbers(&all_pages(&broker, &JobFilter::default(), limit).await?)?;
        seen.sort_unstable();
        ensure_eq!(seen, (0..2_500).collect::<Vec<_>>(), "the dead jobs on pages of {limit}");
    }
    Ok(())
}

async fn a_purge_removes_all_dead_jobs(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    cemetery(&stage, &broker).await?;
    let dead = dead_jobs(&broker)?;
    ensure_eq!(dead.purge().await?, 2_500, "the jobs a purge removed");
    ensure_eq!(dead.size().await?, 0, "the dead jobs after the purge");
    ensure_eq!(dead.purge().await?, 0, "the jobs a second purge removed");
    ensure!(dead.pop().await?.is_none(), "a job came out of the purged dead");
    Ok(())
}

async fn dead_filters_are_applied(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let mut first = numbered(&queue("a")?, 0)?;
    first.tags.push("vip".to_owned());
    kill(&stage, &broker, vec![first, numbered(&queue("a")?, 1)?]).await?;
    kill(&stage, &broker, vec![numbered(&queue("b")?, 2)?]).await?;
    for (filter, expected) in [
        (JobFilter::default(), vec![0, 1, 2]),
        (JobFilter::default().queue("a"), vec![0, 1]),
        (JobFilter::default().tag("vip"), vec![0]),
        (JobFilter::default().error_contains("no use"), vec![0, 1, 2]),
        (JobFilter::default().error_contains("refused"), vec![]),
        (JobFilter::default().name("another"), vec![]),
    ] {
        let found = all_pages(&broker, &filter, 2).await?;
        ensure_eq!(numbers(&found)?, expected, "the dead jobs that pass {filter:?}");
    }
    Ok(())
}

async fn a_pop_takes_the_first_death_out(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let dead = dead_jobs(&broker)?;
    ensure!(dead.pop().await?.is_none(), "a job came out of the dead of an unused broker");
    let (session, ids) = kill(&stage, &broker, numbered_from_zero(&jobs, 3)?).await?;
    let popped = dead.pop().await?.ok_or_else(|| Failure::new("no job came out of three dead"))?;
    ensure_eq!((popped.id, &popped.reason.detail[..]), (ids[0], "no use"), "the job that died first");
    ensure!(dead.find_by_id(ids[0]).await?.is_none(), "a popped job is still among the dead");
    ensure_eq!(dead.size().await?, 2, "the dead jobs after a pop");
    session.expect_nothing().await
}

async fn a_replayed_job_starts_over_at_the_front_of_its_own_queue(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut job = numbered(&jobs, 0)?;
    job.retry.retry_queue = Some(queue("slow")?);
    let ids = stage.enqueue(&broker, vec![job]).await?;
    let (own, slow) = (stage.session(&broker, &jobs).await?, stage.session(&broker, &queue("slow")?).await?);
    let taken = own.take_one().await?;
    own.must_settle(&[taken], |d| retry(d, Duration::ZERO, "first")).await?;
    let taken = slow.take_one().await?;
    slow.must_settle(&[taken], |d| bury(d, "second")).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 1)?]).await?;

    let dead = dead_jobs(&broker)?;
    ensure_eq!(must_find(&broker, ids[0]).await?.queue, queue("slow")?, "the queue a dead job was in last");
    ensure!(dead.replay(ids[0]).await?, "a dead job cannot be replayed");
    ensure!(!dead.replay(ids[0]).await?, "a job was replayed twice");
    ensure!(!dead.replay(JobId::new()).await?, "a job nobody enqueued was replayed");
    ensure_eq!(dead.size().await?, 0, "the dead jobs after the replay");
    let again = own.expect(&[0, 1]).await?;
    let attempts = &again[0].job.attempts;
    ensure_eq!(attempts.retry_count, 0, "the retries used after a replay");
    let history: Vec<_> = attempts.failures.iter().map(|failure| &failure.error[..]).collect();
    ensure_eq!(history, ["first", "second"], "the history after a replay");
    ensure_eq!(again[0].recoveries, 0, "the recoveries after a replay");
    own.done(&again).await
}

async fn a_replay_of_many_keeps_their_order(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let (session, _) = kill(&stage, &broker, numbered_from_zero(&jobs, 6)?).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 100)?]).await?;
    session.expect(&[100]).await?;
    let dead = dead_jobs(&broker)?;
    ensure_eq!(dead.replay_n(0).await?, 0, "the jobs replayed of none");
    ensure_eq!(dead.replay_n(4).await?, 4, "the jobs replayed of four");
    session.expect(&[0, 1, 2, 3]).await?;
    session.expect_nothing().await?;
    ensure_eq!(dead.replay_n(1_000_000).await?, 2, "the jobs replayed of the rest");
    session.expect(&[4, 5]).await?;
    ensure_eq!(dead.size().await?, 0, "the dead jobs after all were replayed");
    Ok(())
}

async fn a_replay_wakes_a_waiting_session(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let (session, ids) = kill(&stage, &broker, numbered_from_zero(&jobs, 1)?).await?;
    let (taken, replayed) = tokio::join!(biased; session.expect(&[0]), dead_jobs(&broker)?.replay(ids[0]));
    ensure!(replayed?, "a dead job cannot be replayed");
    taken.map(drop)
}

async fn a_deleted_dead_job_is_gone(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let (session, ids) = kill(&stage, &broker, numbered_from_zero(&jobs, 2)?).await?;
    let dead = dead_jobs(&broker)?;
    ensure!(dead.delete(ids[0]).await?, "a dead job cannot be deleted");
    ensure!(!dead.delete(ids[0]).await?, "a job was deleted twice");
    ensure!(!dead.replay(ids[0]).await?, "a deleted job was replayed");
    ensure_eq!(numbers(&all_pages(&broker, &JobFilter::default(), 10).await?)?, [1], "the dead jobs that are left");
    session.expect_nothing().await
}

async fn those_older_than_a_time_are_deleted(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let (session, ids) = kill(&stage, &broker, numbered_from_zero(&jobs, 3)?).await?;
    let boundary = must_find(&broker, ids[2]).await?.died_at;
    let dead = dead_jobs(&broker)?;
    ensure_eq!(dead.delete_older_than(Timestamp::from_millis(1)).await?, 0, "the jobs that died before 1970");
    ensure_eq!(dead.delete_older_than(boundary).await?, 2, "the jobs that died before the last one");
    let left = all_pages(&broker, &JobFilter::default(), 10).await?;
    ensure_eq!(numbers(&left)?, [2], "the dead jobs that are left");
    session.expect_nothing().await
}
