//! Sessions that end well lose nothing, and neither do fetches that are dropped.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;
use goose_core::broker::{ConsumerOptions, QueueSet};

use crate::conformance::failure::{Checked, Failure, ensure, ensure_eq};
use crate::conformance::job::{number, numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::Session;
use crate::conformance::stage::{Stage, queue};

battery! { "shutdown":
    a_stop_hands_back_what_was_not_handed_out_in_order;
    #[timed] a_stop_is_quick_and_can_be_repeated;
    a_fetch_after_stop_answers_closed;
    a_waiting_fetch_ends_when_the_session_stops;
    a_claim_can_be_settled_after_stop;
    a_claim_left_at_stop_is_recovered_without_counting_as_a_crash takes 2 recoveries;
    a_dropped_fetch_loses_nothing;
    a_dropped_session_loses_nothing takes 2 recoveries;
}

async fn a_stop_hands_back_what_was_not_handed_out_in_order(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, numbered_from_zero(&jobs, 60)?).await?;
    let mut options = ConsumerOptions::new(QueueSet::one(jobs.clone()), 5);
    options.prefetch = 40;
    let session = stage.session_with(&one, options).await?;
    let taken = session.expect(&[0, 1, 2, 3, 4]).await?;
    session.done(&taken).await?;
    session.stop().await?;
    let next = stage.session(&two, &jobs).await?;
    let rest = next.expect(&(5..60).collect::<Vec<_>>()).await?;
    ensure_eq!(rest[0].recoveries, 0, "the recoveries of a job that was handed back");
    next.expect_nothing().await
}

async fn a_stop_is_quick_and_can_be_repeated(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let session = stage.session(&broker, &queue("jobs")?).await?;
    session.expect_nothing().await?;
    let started = Instant::now();
    session.stop().await?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(1), "an idle session took {took:?} to stop, the limit is 1 s");
    session.stop().await
}

async fn must_be_closed(stage: &Stage, session: &Session) -> Checked {
    let answer = stage.promptly("a stopped session to answer", session.consumer.fetch(1)).await?;
    let error = answer.err().ok_or_else(|| Failure::new("a stopped session handed out jobs"))?;
    ensure_eq!(error.kind(), ErrorKind::Closed, "the error of a fetch after stop ({error:#})");
    Ok(())
}

async fn a_fetch_after_stop_answers_closed(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    session.stop().await?;
    must_be_closed(&stage, &session).await?;
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    must_be_closed(&stage, &session).await?;
    stage.session(&broker, &jobs).await?.expect(&[0]).await?;
    Ok(())
}

async fn a_waiting_fetch_ends_when_the_session_stops(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let session = stage.session(&broker, &queue("jobs")?).await?;
    let (closed, stopped) = tokio::join!(biased; must_be_closed(&stage, &session), session.stop());
    stopped.and(closed)
}

async fn a_claim_can_be_settled_after_stop(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 2)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1]).await?;
    session.stop().await?;
    session.done(&taken).await?;
    stage.session(&broker, &jobs).await?.expect_nothing().await
}

async fn a_claim_left_at_stop_is_recovered_without_counting_as_a_crash(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, vec![numbered(&jobs, 0)?]).await?;
    let leaving = stage.session(&one, &jobs).await?;
    leaving.expect(&[0]).await?;
    leaving.stop().await?;
    let live = stage.session(&two, &jobs).await?;
    let taken = live.take_within(stage.harness().recovery_deadline(), 1).await?;
    ensure_eq!(taken[0].recoveries, 0, "the recoveries of a job that was left at a graceful stop");
    live.done(&taken).await
}

async fn a_dropped_fetch_loses_nothing(stage: Stage) -> Checked {
    const ALL: usize = 600;
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    let producing = async {
        // In a trickle, so that most fetches have to wait.
        let mut trickle = tokio::time::interval(Duration::from_millis(1));
        for n in 0..ALL {
            if n % 3 == 0 {
                trickle.tick().await;
            }
            stage.enqueue(&broker, vec![numbered(&jobs, u64::try_from(n).unwrap_or(u64::MAX))?]).await?;
        }
        Checked::Ok(())
    };
    let mut seen = vec![false; ALL];
    let mut dropped = 0_u32;
    let consuming = async {
        let mut left = ALL;
        // Drops fetches at many different points: 0 to 3 ms after they began, in steps of 0.1 ms.
        for n in 0_u64.. {
            if left == 0 {
                break;
            }
            let patience = Duration::from_micros((n * 7 % 31) * 100);
            let Ok(fetched) = tokio::time::timeout(patience, session.consumer.fetch(1 + left % 5)).await else {
                dropped += 1;
                continue;
            };
            let fetched = fetched?;
            for delivery in &fetched {
                let n = usize::try_from(number(&delivery.job)?).unwrap_or(usize::MAX);
                let slot = seen.get_mut(n);
                ensure!(slot.is_some_and(|seen| !std::mem::replace(seen, true)), "job {n} came twice");
                left -= 1;
            }
            session.done(&fetched).await?;
        }
        Checked::Ok(())
    };
    let limit = stage.harness().patience() * 3;
    let flowing =
        stage.within(limit, "600 jobs while fetches are dropped", async { tokio::join!(producing, consuming) });
    let outcome = flowing.await;
    let missing = seen.iter().filter(|seen| !**seen).count();
    let (produced, consumed) =
        outcome.map_err(|late| Failure::new(format!("{}, {missing} did not come", late.message())))?;
    produced.and(consumed)?;
    ensure!(dropped > 0, "no fetch was ever dropped: the scenario proved nothing");
    session.expect_nothing().await
}

async fn a_dropped_session_loses_nothing(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, numbered_from_zero(&jobs, 20)?).await?;
    let dropped = stage.session(&one, &jobs).await?;
    dropped.expect(&[0, 1]).await?;
    drop(dropped);
    let live = stage.session(&two, &jobs).await?;
    let mut back = live.take_within(stage.harness().recovery_deadline(), 20).await?;
    back.sort_by_key(|delivery| number(&delivery.job).unwrap_or(u64::MAX));
    ensure_eq!(crate::conformance::job::numbers(&back)?, (0..20).collect::<Vec<_>>(), "the jobs of a dropped session");
    live.done(&back).await
}
