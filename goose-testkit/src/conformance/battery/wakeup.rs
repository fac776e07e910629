//! An idle session notices a new job at once, whoever enqueues it.

use std::time::{Duration, Instant};

use goose_core::broker::{Broker, QueueSet};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{number, numbered};
use crate::conformance::scenario::battery;
use crate::conformance::session::Session;
use crate::conformance::stage::{Stage, queue};

battery! { "wakeup":
    #[timed] by_an_enqueue_of_the_same_process;
    #[timed] by_an_enqueue_of_another_process;
    #[timed] by_a_job_in_the_last_of_many_queues;
    by_a_release_of_another_session;
    every_waiting_session_can_be_woken;
}

/// Enqueues jobs one by one while the session waits, and returns the median time from enqueue to fetch.
async fn median_wakeup(stage: &Stage, producer: &dyn Broker, session: &Session, name: &str) -> Checked<Duration> {
    let jobs = queue(name)?;
    let mut waits = Vec::new();
    for n in 0..21 {
        let enqueued = async {
            // The fetch beside this is polled first, so it waits already.
            let at = Instant::now();
            stage.enqueue(producer, vec![numbered(&jobs, n)?]).await?;
            Checked::Ok(at)
        };
        let fetched = async {
            let delivery = session.take_one().await?;
            Checked::Ok((delivery, Instant::now()))
        };
        let (fetched, enqueued) = tokio::join!(biased; fetched, enqueued);
        let (delivery, at) = fetched?;
        ensure_eq!(number(&delivery.job)?, n, "the job that woke the session");
        session.done(&[delivery]).await?;
        waits.push(at.duration_since(enqueued?));
    }
    waits.sort_unstable();
    Ok(waits[waits.len() / 2])
}

fn must_be_prompt(stage: &Stage, median: Duration) -> Checked {
    let limit = stage.harness().promptness();
    ensure!(median <= limit, "from enqueue to fetch it took {median:?} in the median, the limit is {limit:?}");
    Ok(())
}

async fn by_an_enqueue_of_the_same_process(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let session = stage.session(&broker, &queue("jobs")?).await?;
    let median = median_wakeup(&stage, &broker, &session, "jobs").await?;
    must_be_prompt(&stage, median)
}

async fn by_an_enqueue_of_another_process(stage: Stage) -> Checked {
    let (producer, consumer) = (stage.broker().await?, stage.broker().await?);
    let session = stage.session(&consumer, &queue("jobs")?).await?;
    let median = median_wakeup(&stage, &producer, &session, "jobs").await?;
    must_be_prompt(&stage, median)
}

async fn by_a_job_in_the_last_of_many_queues(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let names = (0..20).map(|n| queue(&format!("q{n}"))).collect::<Checked<Vec<_>>>()?;
    let session = stage.session_on(&broker, QueueSet::strict(names)?).await?;
    let median = median_wakeup(&stage, &broker, &session, "q19").await?;
    must_be_prompt(&stage, median)
}

async fn by_a_release_of_another_session(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, vec![numbered(&jobs, 0)?]).await?;
    let (holder, waiter) = (stage.session(&one, &jobs).await?, stage.session(&two, &jobs).await?);
    let held = holder.expect(&[0]).await?;
    let release = holder.must_settle(&held, |_| goose_core::broker::Verdict::Release);
    let (taken, released) = tokio::join!(biased; waiter.expect(&[0]), release);
    released?;
    taken.map(drop)
}

async fn every_waiting_session_can_be_woken(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let (left, right) = (queue("left")?, queue("right")?);
    let (on_left, on_right) = (stage.session(&broker, &left).await?, stage.session(&broker, &right).await?);
    // A wake-up must not be used up by a session that does not serve the queue.
    let busy_elsewhere = async {
        for n in 0..20 {
            stage.enqueue(&broker, vec![numbered(&right, n)?]).await?;
            let taken = on_right.expect(&[n]).await?;
            on_right.done(&taken).await?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        wrong = on_left.consumer.fetch(1) => Err(Failure::new(format!("a session on another queue got {wrong:?}"))),
        result = busy_elsewhere => result,
    }
}
