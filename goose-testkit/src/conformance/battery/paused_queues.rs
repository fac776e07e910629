//! The calls of [`PausedQueues`](goose_core::broker::capability::PausedQueues), and what they do to sessions.

use std::time::Duration;

use goose_core::QueueName;
use goose_core::broker::{Broker, QueueSet};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{delayed, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::retry;
use crate::conformance::stage::{QUIET, Stage, paused_queues, queue};

battery! { "paused_queues":
    pausing_and_resuming_say_whether_they_changed_anything needs "paused queues";
    a_paused_queue_hands_out_nothing needs "paused queues";
    a_pause_reaches_a_session_that_waits needs "paused queues";
    a_resume_wakes_a_session_that_waits needs "paused queues";
    a_pause_reaches_other_processes needs "paused queues";
    a_pause_outlives_its_process needs "paused queues";
    what_runs_goes_on_and_its_retry_waits needs "paused queues";
    other_queues_of_the_set_go_on needs "paused queues";
    what_becomes_due_waits_for_the_end_of_the_pause needs "paused queues";
}

async fn pause(broker: &dyn Broker, queue: &QueueName) -> Checked {
    ensure!(paused_queues(broker)?.pause(queue).await?, "queue {queue} was paused before anybody paused it");
    Ok(())
}

async fn resume(broker: &dyn Broker, queue: &QueueName) -> Checked {
    ensure!(paused_queues(broker)?.resume(queue).await?, "queue {queue} cannot be resumed, it was not paused");
    Ok(())
}

async fn pausing_and_resuming_say_whether_they_changed_anything(stage: Stage) -> Checked {
    let (broker, a, b) = (stage.broker().await?, queue("a")?, queue("b")?);
    let paused = paused_queues(&broker)?;
    ensure_eq!(paused.list().await?, Vec::<QueueName>::new(), "the paused queues of an unused broker");
    ensure!(!paused.resume(&a).await?, "a queue that was not paused was resumed");
    for name in [&b, &a] {
        pause(&broker, name).await?;
    }
    ensure!(!paused.pause(&a).await?, "a queue was paused twice");
    ensure_eq!(paused.list().await?, [a.clone(), b.clone()], "the paused queues, in alphabetical order");
    resume(&broker, &a).await?;
    ensure!(!paused.resume(&a).await?, "a queue was resumed twice");
    ensure_eq!(paused.list().await?, [b], "the paused queues after one was resumed");
    pause(&broker, &a).await
}

async fn a_paused_queue_hands_out_nothing(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2)?).await?;
    pause(&broker, &jobs).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect_nothing().await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 2)?]).await?;
    session.expect_nothing().await?;
    resume(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1, 2]).await?;
    session.done(&taken).await
}

async fn a_pause_reaches_a_session_that_waits(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 1)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0]).await?;
    session.done(&taken).await?;
    let waiting = session.consumer.fetch(3);
    let meanwhile = async {
        pause(&broker, &jobs).await?;
        stage.enqueue(&broker, numbered_from_zero(&jobs, 3)?).await
    };
    let (came, enqueued) = tokio::join!(tokio::time::timeout(QUIET * 2, waiting), meanwhile);
    enqueued?;
    if let Ok(came) = came {
        return Err(Failure::new(format!("a session that waited was given jobs of a paused queue: {came:?}")));
    }
    resume(&broker, &jobs).await?;
    session.expect(&[0, 1, 2]).await.map(drop)
}

async fn a_resume_wakes_a_session_that_waits(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    pause(&broker, &jobs).await?;
    stage.enqueue(&broker, numbered_from_zero(&jobs, 3)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    session.expect_nothing().await?;
    let (taken, resumed) = tokio::join!(biased; session.expect(&[0, 1, 2]), resume(&broker, &jobs));
    resumed?;
    taken.map(drop)
}

async fn a_pause_reaches_other_processes(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    let session = stage.session(&one, &jobs).await?;
    session.expect_nothing().await?;
    pause(&two, &jobs).await?;
    // From here on it holds for the sessions of this handle too.
    let paused = paused_queues(&one)?.list().await?;
    ensure_eq!(paused, std::slice::from_ref(&jobs), "the paused queues, as another process sees them");
    stage.enqueue(&two, numbered_from_zero(&jobs, 2)?).await?;
    session.expect_nothing().await?;
    let (taken, resumed) = tokio::join!(biased; session.expect(&[0, 1]), resume(&two, &jobs));
    resumed?;
    taken.map(drop)
}

async fn a_pause_outlives_its_process(stage: Stage) -> Checked {
    let jobs = queue("jobs")?;
    let first = stage.broker().await?;
    stage.enqueue(&first, numbered_from_zero(&jobs, 1)?).await?;
    pause(&first, &jobs).await?;
    stage.promptly("a broker to close", first.close()).await??;
    let second = stage.broker().await?;
    let session = stage.session(&second, &jobs).await?;
    session.expect_nothing().await?;
    let paused = paused_queues(&second)?.list().await?;
    ensure_eq!(paused, std::slice::from_ref(&jobs), "the paused queues of a new process");
    resume(&second, &jobs).await?;
    session.expect(&[0]).await.map(drop)
}

async fn what_runs_goes_on_and_its_retry_waits(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1]).await?;
    pause(&broker, &jobs).await?;
    session.done(&taken[..1]).await?;
    session.must_settle(&taken[1..], |d| retry(d, Duration::ZERO, "it broke")).await?;
    session.expect_nothing().await?;
    resume(&broker, &jobs).await?;
    let again = session.expect(&[1]).await?;
    ensure_eq!(again[0].job.attempts.retry_count, 1, "the retries used");
    session.done(&again).await
}

async fn other_queues_of_the_set_go_on(stage: Stage) -> Checked {
    let (broker, a, b) = (stage.broker().await?, queue("a")?, queue("b")?);
    for set in [QueueSet::strict([a.clone(), b.clone()])?, QueueSet::weighted([(a.clone(), 3), (b.clone(), 1)])?] {
        let session = stage.session_on(&broker, set).await?;
        pause(&broker, &a).await?;
        stage.enqueue(&broker, numbered_from_zero(&a, 2)?).await?;
        stage.enqueue(&broker, vec![numbered(&b, 10)?, numbered(&b, 11)?]).await?;
        let taken = session.expect(&[10, 11]).await?;
        session.done(&taken).await?;
        session.expect_nothing().await?;
        resume(&broker, &a).await?;
        let taken = session.expect(&[0, 1]).await?;
        session.done(&taken).await?;
        session.stop().await?;
    }
    Ok(())
}

async fn what_becomes_due_waits_for_the_end_of_the_pause(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    pause(&broker, &jobs).await?;
    let soon = Duration::from_millis(200);
    stage.enqueue(&broker, vec![numbered(&jobs, 1)?, delayed(&jobs, 0, soon)?]).await?;
    stage.let_pass(&broker, soon * 2).await?;
    session.expect_nothing().await?;
    resume(&broker, &jobs).await?;
    session.expect(&[0, 1]).await.map(drop)
}
