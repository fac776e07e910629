//! The calls of [`Statistics`](goose_core::broker::capability::Statistics): the numbers add up.

use std::time::Duration;

use goose_core::broker::capability::{QueueCounts, Totals};
use goose_core::broker::{Broker, ConsumerOptions, QueueSet, Verdict};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{delayed, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::{bury, retry, snooze};
use crate::conformance::stage::{Stage, queue, scheduled_jobs, statistics};

battery! { "statistics":
    an_unused_broker_counts_nothing needs "statistics";
    every_job_is_in_exactly_one_state needs "statistics";
    counts_follow_a_job_through_its_life needs "statistics";
    totals_add_up_after_a_mixed_run needs "statistics";
    what_is_enqueued_again_counts_once needs "statistics";
    live_workers_are_listed needs "statistics";
}

async fn counts(broker: &dyn Broker, name: &str) -> Checked<QueueCounts> {
    let queue = queue(name)?;
    let all = statistics(broker)?.queues().await?;
    all.into_iter().find(|counts| counts.queue == queue).ok_or_else(|| Failure::new(format!("no counts of {name}")))
}

/// How many jobs of a queue are ready, scheduled, running and dead. No other queue has scheduled jobs here, so the size of
/// them all does for a broker that knows no other.
async fn states(broker: &dyn Broker, name: &str) -> Checked<[u64; 4]> {
    let counts = counts(broker, name).await?;
    let scheduled = match counts.scheduled {
        Some(scheduled) => scheduled,
        None => scheduled_jobs(broker)?.size().await?,
    };
    Ok([counts.ready, scheduled, counts.running, counts.dead])
}

async fn an_unused_broker_counts_nothing(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let statistics = statistics(&broker)?;
    ensure_eq!(statistics.queues().await?, Vec::<QueueCounts>::new(), "the queues of an unused broker");
    ensure_eq!(statistics.totals().await?, Totals::default(), "the totals of an unused broker");
    ensure_eq!(statistics.workers().await?.len(), 0, "the workers of an unused broker");
    Ok(())
}

async fn every_job_is_in_exactly_one_state(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 20)?).await?;
    stage.enqueue(&broker, vec![delayed(&jobs, 100, Duration::from_secs(3_600))?]).await?;
    stage.enqueue(&broker, numbered_from_zero(&queue("a")?, 2)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.take(10).await?;
    session.done(&taken[..3]).await?;
    session.must_settle(&taken[3..5], |d| bury(d, "no use")).await?;
    session.must_settle(&taken[5..6], |d| retry(d, Duration::from_secs(3_600), "it broke")).await?;
    ensure_eq!(states(&broker, "jobs").await?, [10, 2, 4, 2], "ready, scheduled, running and dead jobs");
    let other = counts(&broker, "a").await?;
    // Where only all scheduled jobs together can be counted, those are of the first queue.
    let scheduled = other.scheduled.unwrap_or(0);
    ensure_eq!([other.ready, scheduled, other.running, other.dead], [2, 0, 0, 0], "the jobs of another queue");
    let names: Vec<_> = statistics(&broker)?.queues().await?.into_iter().map(|counts| counts.queue).collect();
    ensure_eq!(names, [queue("a")?, jobs], "the queues, in alphabetical order");
    Ok(())
}

async fn counts_follow_a_job_through_its_life(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    // Long enough to be counted before it is over, by a broker that has to make its queues first, on a busy machine.
    stage.enqueue(&broker, vec![delayed(&jobs, 0, Duration::from_millis(1_500))?]).await?;
    ensure_eq!(states(&broker, "jobs").await?, [0, 1, 0, 0], "the states after scheduling");
    let taken = session.take_one().await?;
    ensure_eq!(states(&broker, "jobs").await?, [0, 0, 1, 0], "the states while running");
    session.must_settle(&[taken], |_| Verdict::Release).await?;
    // It is due again at once, which a broker may count as ready or as scheduled, see `ScheduledJobs`.
    let [ready, scheduled, running, dead] = states(&broker, "jobs").await?;
    ensure_eq!([ready + scheduled, running, dead], [1, 0, 0], "waiting, running and dead jobs after a release");
    let taken = session.take_one().await?;
    session.must_settle(&[taken], |d| snooze(d, Duration::from_millis(100))).await?;
    let taken = session.take_one().await?;
    session.done(&[taken]).await?;
    ensure_eq!(states(&broker, "jobs").await?, [0, 0, 0, 0], "the states at the end");
    Ok(())
}

async fn totals_add_up_after_a_mixed_run(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 12)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.take(12).await?;
    session.done(&taken[..5]).await?;
    session.must_settle(&taken[5..7], |_| Verdict::Discard).await?;
    session.must_settle(&taken[7..8], |_| Verdict::Release).await?;
    session.must_settle(&taken[8..9], |d| snooze(d, Duration::ZERO)).await?;
    session.must_settle(&taken[9..11], |d| retry(d, Duration::ZERO, "it broke")).await?;
    session.must_settle(&taken[11..], |d| bury(d, "no use")).await?;
    // A late settle changes no number.
    session.must_be_fenced(taken[0].receipt, Verdict::Done).await?;
    let again = session.take(4).await?;
    session.done(&again).await?;
    let totals = statistics(&broker)?.totals().await?;
    let mut expected = Totals::default();
    expected.enqueued = 12;
    expected.succeeded = 9;
    expected.failed = 3;
    expected.died = 1;
    expected.discarded = 2;
    ensure_eq!(totals, expected, "the totals");
    ensure_eq!(states(&broker, "jobs").await?, [0, 0, 0, 1], "the states at the end");
    Ok(())
}

async fn what_is_enqueued_again_counts_once(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let batch = numbered_from_zero(&jobs, 12)?;
    stage.enqueue(&broker, batch.clone()).await?;
    stage.enqueue(&broker, batch).await?;
    ensure_eq!(statistics(&broker)?.totals().await?.enqueued, 12, "the jobs taken in");
    ensure_eq!(states(&broker, "jobs").await?, [12, 0, 0, 0], "ready, scheduled, running and dead jobs");
    Ok(())
}

async fn live_workers_are_listed(stage: Stage) -> Checked {
    let (one, two) = (stage.broker().await?, stage.broker().await?);
    let (a, b) = (queue("a")?, queue("b")?);
    stage.enqueue(&one, numbered_from_zero(&a, 3)?).await?;
    let options = ConsumerOptions::new(QueueSet::strict([a.clone(), b.clone()])?, 2);
    let worker = options.worker.clone();
    let session = stage.session_with(&one, options).await?;
    session.take(2).await?;
    let _second = stage.session(&two, &b).await?;
    let workers = statistics(&two)?.workers().await?;
    ensure_eq!(workers.len(), 2, "the workers with open sessions");
    ensure_eq!((&workers[0].worker, &workers[0].queues), (&worker, &vec![a, b]), "the worker that came first");
    ensure!(workers[0].running >= 2, "a worker that holds 2 jobs is listed with {}", workers[0].running);
    ensure!(workers[0].started_at <= workers[1].started_at, "the list does not begin with the oldest");
    session.stop().await?;
    let gone = || async { Ok(!statistics(&two)?.workers().await?.iter().any(|live| live.worker == worker)) };
    stage.eventually(stage.harness().patience(), "the stopped worker to leave the list", gone).await
}
