//! Many hands at once: nothing is lost, nothing is shared.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Broker, ConsumerOptions, QueueSet};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::conformance::failure::{Checked, Failure, ensure};
use crate::conformance::job::{numbered, numbered_from_zero, numbers};
use crate::conformance::scenario::battery;
use crate::conformance::stage::{Stage, queue};

battery! { "concurrency":
    a_thousand_tasks_enqueue_one_job_each;
    eight_sessions_of_two_processes_share_no_job;
    jobs_flow_while_they_are_enqueued_and_retried;
}

async fn a_thousand_tasks_enqueue_one_job_each(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let mut tasks = JoinSet::new();
    for n in 0..1_000 {
        let (stage, broker, job) = (stage.clone(), Arc::clone(&broker), numbered(&jobs, n)?);
        tasks.spawn(async move { stage.enqueue(&broker, vec![job]).await.map(drop) });
    }
    for task in tasks.join_all().await {
        task?;
    }
    let session = stage.session(&broker, &jobs).await?;
    let mut came = numbers(&session.take(1_000).await?)?;
    came.sort_unstable();
    ensure!(came.iter().copied().eq(0..1_000), "of 1000 jobs enqueued at once others came: {came:?}");
    session.expect_nothing().await
}

/// Opens sessions on the given handles, which settle whatever comes and send its number; the first fetch of each job
/// may be retried instead.
async fn consume(
    stage: &Stage,
    brokers: &[Arc<dyn Broker>],
    retry_once: bool,
) -> Checked<(JoinSet<Checked>, mpsc::UnboundedReceiver<u64>)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut sessions = JoinSet::new();
    for broker in brokers {
        let mut options = ConsumerOptions::new(QueueSet::one(queue("jobs")?), 10);
        options.prefetch = 10;
        let session = stage.session_with(broker, options).await?;
        let sender = sender.clone();
        sessions.spawn(async move {
            loop {
                let taken = session.consumer.fetch(10).await?;
                let fresh = |d: &&goose_core::broker::Delivery| retry_once && d.job.attempts.retry_count == 0;
                let (again, done): (Vec<_>, Vec<_>) = taken.iter().partition(fresh);
                let (again, done): (Vec<_>, Vec<_>) =
                    (again.into_iter().cloned().collect(), done.into_iter().cloned().collect());
                session.must_settle(&again, |d| crate::conformance::session::retry(d, PAUSE, "once")).await?;
                session.done(&done).await?;
                for number in numbers(&done)? {
                    // The receiver is gone when the scenario has seen enough.
                    let _ = sender.send(number);
                }
            }
        });
    }
    Ok((sessions, receiver))
}

const PAUSE: Duration = Duration::from_millis(20);

/// Receives `count` numbers, each exactly once, then nothing more.
async fn each_once(stage: &Stage, count: usize, mut receiver: mpsc::UnboundedReceiver<u64>) -> Checked {
    let mut seen = vec![false; count];
    let receiving = async {
        for _ in 0..count {
            let n = receiver.recv().await.ok_or_else(|| Failure::new("all sessions ended early"))?;
            let slot = seen.get_mut(usize::try_from(n).unwrap_or(usize::MAX));
            ensure!(slot.is_some_and(|seen| !std::mem::replace(seen, true)), "job {n} ran twice");
        }
        Checked::Ok(())
    };
    let outcome = stage.within(stage.harness().patience() * 3, &format!("{count} jobs"), receiving).await;
    let missing = seen.iter().filter(|seen| !**seen).count();
    outcome.map_err(|late| Failure::new(format!("{}, {missing} did not come", late.message())))??;
    match tokio::time::timeout(crate::conformance::stage::QUIET, receiver.recv()).await {
        Ok(Some(n)) => Err(Failure::new(format!("job {n} ran twice"))),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// The failure of a session says more than what follows from it.
fn first_failure(sessions: &mut JoinSet<Checked>, outcome: Checked) -> Checked {
    while let Some(ended) = sessions.try_join_next() {
        ended.map_err(|error| Failure::new(format!("a session broke: {error}")))??;
    }
    outcome
}

async fn eight_sessions_of_two_processes_share_no_job(stage: Stage) -> Checked {
    let (one, two) = (stage.broker().await?, stage.broker().await?);
    let handles: Vec<_> = (0..8).map(|n| Arc::clone(if n % 2 == 0 { &one } else { &two })).collect();
    let (mut sessions, receiver) = consume(&stage, &handles, false).await?;
    let mut jobs = numbered_from_zero(&queue("jobs")?, 5_000)?;
    while !jobs.is_empty() {
        let rest = jobs.split_off(jobs.len().min(500));
        stage.enqueue(&one, std::mem::replace(&mut jobs, rest)).await?;
    }
    let outcome = each_once(&stage, 5_000, receiver).await;
    first_failure(&mut sessions, outcome)
}

async fn jobs_flow_while_they_are_enqueued_and_retried(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    let handles = [Arc::clone(&one), Arc::clone(&two), Arc::clone(&one), Arc::clone(&two)];
    let (mut sessions, receiver) = consume(&stage, &handles, true).await?;
    let producing = async {
        for n in 0..1_000 {
            let broker = if n % 2 == 0 { &one } else { &two };
            stage.enqueue(broker, vec![numbered(&jobs, n)?]).await?;
        }
        Ok(())
    };
    let (produced, outcome) = tokio::join!(producing, each_once(&stage, 1_000, receiver));
    first_failure(&mut sessions, outcome.and(produced))
}
