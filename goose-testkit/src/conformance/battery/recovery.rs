//! Dead processes' jobs run elsewhere, soon, at the front; jobs that kill their workers do not run for ever.
//!
//! Sessions of crashed processes are kept to the end of their scenario: dropping one earlier could count as a stop.

use goose_core::broker::{ConsumerOptions, DeathCause, QueueSet};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::stage::{Stage, dead_jobs, enqueued_jobs, queue, statistics};
use crate::conformance::witness::Seen;

battery! { "recovery":
    #[timed] a_crashed_process_gives_up_its_jobs_in_time takes 2 recoveries;
    what_was_settled_before_the_crash_stays_settled takes 2 recoveries;
    what_was_not_yet_handed_out_is_recovered_too takes 2 recoveries;
    recovered_jobs_go_to_the_front_in_order needs "enqueued jobs" takes 2 recoveries;
    a_session_opened_after_the_crash_recovers takes 2 recoveries;
    a_live_session_keeps_its_claims takes 2 recoveries;
    a_lost_session_knows_it takes 2 recoveries;
    a_crashed_worker_is_no_longer_listed needs "statistics" takes 2 recoveries;
    a_job_that_kills_its_workers_is_dead_in_the_end needs "dead jobs" takes 12 recoveries;
}

async fn a_crashed_process_gives_up_its_jobs_in_time(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, numbered_from_zero(&jobs, 25)?).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    lost.expect(&(0..25).collect::<Vec<_>>()).await?;
    let live = stage.session(&live, &jobs).await?;
    live.expect_nothing().await?;
    doomed.crash().await;
    let recovered = live.take_within(stage.harness().recovery_deadline(), 25).await?;
    for delivery in &recovered {
        ensure_eq!(delivery.recoveries, 1, "the recoveries of job {}", delivery.job.id);
        live.must_see(&Seen::Recovered(delivery.job.id, 1)).await?;
    }
    live.done(&recovered).await?;
    live.expect_nothing().await
}

async fn what_was_settled_before_the_crash_stays_settled(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, numbered_from_zero(&jobs, 6)?).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    let taken = lost.expect(&[0, 1, 2, 3, 4, 5]).await?;
    lost.done(&taken[..5]).await?;
    doomed.crash().await;
    let live = stage.session(&live, &jobs).await?;
    let recovered = live.take_within(stage.harness().recovery_deadline(), 1).await?;
    ensure_eq!(recovered[0].job.id, taken[5].job.id, "the only job that was not settled");
    live.expect_nothing().await
}

async fn what_was_not_yet_handed_out_is_recovered_too(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, numbered_from_zero(&jobs, 40)?).await?;
    let mut options = ConsumerOptions::new(QueueSet::one(jobs.clone()), 5);
    options.prefetch = 40;
    let lost = stage.session_with(doomed.broker(), options).await?;
    lost.expect(&[0]).await?;
    doomed.crash().await;
    let live = stage.session(&live, &jobs).await?;
    let all = live.take_within(stage.harness().recovery_deadline(), 40).await?;
    live.done(&all).await?;
    live.expect_nothing().await?;
    drop(lost);
    Ok(())
}

async fn recovered_jobs_go_to_the_front_in_order(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, numbered_from_zero(&jobs, 10)?).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    lost.expect(&[0, 1, 2, 3, 4]).await?;
    // Any live session recovers, also one that serves other queues; nobody takes the jobs meanwhile.
    let elsewhere = stage.session(&live, &queue("elsewhere")?).await?;
    doomed.crash().await;
    let enqueued = enqueued_jobs(&live)?;
    let all_back = || async { Ok(enqueued.size(&jobs).await? == 10) };
    stage.eventually(stage.harness().recovery_deadline(), "5 recovered jobs beside 5 others", all_back).await?;
    stage.session(&live, &jobs).await?.expect(&(0..10).collect::<Vec<_>>()).await?;
    drop(lost);
    elsewhere.stop().await
}

async fn a_session_opened_after_the_crash_recovers(stage: Stage) -> Checked {
    let (doomed, jobs) = (stage.process().await?, queue("jobs")?);
    stage.enqueue(doomed.broker(), numbered_from_zero(&jobs, 3)?).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    lost.expect(&[0, 1, 2]).await?;
    doomed.crash().await;
    let live = stage.session(&stage.broker().await?, &jobs).await?;
    let recovered = live.take_within(stage.harness().recovery_deadline(), 3).await?;
    ensure_eq!(recovered[0].recoveries, 1, "the recoveries");
    live.done(&recovered).await?;
    drop(lost);
    Ok(())
}

async fn a_live_session_keeps_its_claims(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, vec![numbered(&jobs, 0)?]).await?;
    let holder = stage.session(&one, &jobs).await?;
    let held = holder.expect(&[0]).await?;
    let rival = stage.session(&two, &jobs).await?;
    let limit = stage.harness().recovery_deadline();
    if let Ok(taken) = tokio::time::timeout(limit, rival.consumer.fetch(1)).await {
        return Err(Failure::new(format!("the job of a live session was given to another: {taken:?}")));
    }
    ensure!(holder.consumer.holds(&held[0].receipt), "a live session is not sure of its claim after {limit:?}");
    holder.done(&held).await
}

async fn a_lost_session_knows_it(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, vec![numbered(&jobs, 0)?]).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    let held = lost.expect(&[0]).await?;
    let live = stage.session(&live, &jobs).await?;
    doomed.crash().await;
    live.take_within(stage.harness().recovery_deadline(), 1).await?;
    let mistaken = lost.consumer.holds(&held[0].receipt);
    ensure!(!mistaken, "a session believes in its claim although another has the job");
    Ok(())
}

async fn a_crashed_worker_is_no_longer_listed(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    let options = ConsumerOptions::new(QueueSet::one(jobs.clone()), 1);
    let worker = options.worker.clone();
    let _lost = stage.session_with(doomed.broker(), options).await?;
    let _live = stage.session(&live, &jobs).await?;
    let statistics = statistics(&live)?;
    let listed = || async { Checked::Ok(statistics.workers().await?.iter().any(|live| live.worker == worker)) };
    ensure!(listed().await?, "a worker with an open session is not listed");
    doomed.crash().await;
    let gone = || async { Ok(!listed().await?) };
    stage.eventually(stage.harness().recovery_deadline(), "the crashed worker to leave the list", gone).await
}

async fn a_job_that_kills_its_workers_is_dead_in_the_end(stage: Stage) -> Checked {
    let (live, jobs) = (stage.broker().await?, queue("jobs")?);
    // Brokers may keep a suspect apart for a while, in addition to the lease.
    let limit = stage.harness().recovery_deadline() * 2;
    let ids = stage.enqueue(&live, vec![numbered(&jobs, 0)?]).await?;
    let mut victims = Vec::new();
    for crashes in 0..=stage.harness().max_recoveries() {
        let doomed = stage.process().await?;
        let victim = stage.session(doomed.broker(), &jobs).await?;
        let taken = victim.take_within(limit, 1).await?;
        ensure_eq!(taken[0].recoveries, crashes, "the recoveries after {crashes} crashes");
        doomed.crash().await;
        victims.push(victim);
    }
    let session = stage.session(&live, &jobs).await?;
    let dead = dead_jobs(&live)?;
    let died = || async { Ok(dead.find_by_id(ids[0]).await?.is_some()) };
    // Some brokers find out when the job would be handed out next.
    tokio::select! {
        biased;
        wrong = session.consumer.fetch(1) => {
            return Err(Failure::new(format!("a job was handed out that should be dead: {wrong:?}")));
        }
        dead = stage.eventually(limit, "the job to be dead", died) => dead?,
    }
    let found = dead.find_by_id(ids[0]).await?.ok_or_else(|| Failure::new("a dead job vanished"))?;
    ensure_eq!(found.reason.cause, DeathCause::Poison, "the cause of death");
    ensure_eq!(found.job().map(|job| job.id), Some(ids[0]), "the record that was kept");
    session.must_see(&Seen::Died(ids[0], DeathCause::Poison)).await?;
    // The worker lives on, and a human may try again.
    stage.enqueue(&live, vec![numbered(&jobs, 1)?]).await?;
    session.expect(&[1]).await?;
    ensure!(dead.replay(ids[0]).await?, "a poisonous job cannot be replayed");
    let replayed = session.expect(&[0]).await?;
    ensure_eq!(replayed[0].recoveries, 0, "the recoveries of a replayed job");
    Ok(())
}
