//! Who comes first: within a queue, and between the queues of a session.

use std::collections::BTreeMap;

use goose_core::broker::{Delivery, QueueSet, Settlement, Verdict};
use goose_core::{Priority, QueueName};

use crate::conformance::failure::{Checked, ensure, ensure_eq};
use crate::conformance::job::{numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::Session;
use crate::conformance::stage::{Stage, queue};

battery! { "order":
    first_in_first_out;
    a_bulk_keeps_its_order;
    a_front_job_goes_before_all_that_is_there;
    released_jobs_go_to_the_front_in_order;
    a_release_of_some_keeps_the_others_claimed;
    a_strict_set_empties_earlier_queues_first;
    a_strict_set_returns_to_an_earlier_queue;
    a_weighted_set_gives_each_queue_its_share;
    a_weighted_set_starves_no_queue;
    a_weighted_set_shares_out_what_one_queue_leaves;
    a_set_of_a_hundred_queues;
}

async fn first_in_first_out(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    for number in 0..50 {
        let broker = if number % 3 == 0 { &two } else { &one };
        stage.enqueue(broker, vec![numbered(&jobs, number)?]).await?;
    }
    stage.session(&one, &jobs).await?.expect(&(0..50).collect::<Vec<_>>()).await?;
    Ok(())
}

async fn a_bulk_keeps_its_order(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 5_000)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    for first in (0..5_000).step_by(250) {
        let taken = session.expect(&(first..first + 250).collect::<Vec<_>>()).await?;
        session.done(&taken).await?;
    }
    session.expect_nothing().await
}

async fn a_front_job_goes_before_all_that_is_there(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 3)?).await?;
    for number in [10, 11] {
        let mut front = numbered(&jobs, number)?;
        front.priority = Priority::Front;
        stage.enqueue(&broker, vec![front]).await?;
    }
    stage.enqueue(&broker, vec![numbered(&jobs, 3)?]).await?;
    stage.session(&broker, &jobs).await?.expect(&[11, 10, 0, 1, 2, 3]).await?;
    Ok(())
}

async fn released_jobs_go_to_the_front_in_order(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 8)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1, 2, 3, 4]).await?;
    // The order of the settlements must not matter, only that of the claims.
    let release = |delivery: &Delivery| Settlement::new(delivery.receipt, Verdict::Release);
    for answer in session.settle_all(taken.iter().rev().map(release).collect()).await? {
        answer?;
    }
    let again = session.expect(&[0, 1, 2, 3, 4, 5, 6, 7]).await?;
    ensure_eq!(again[0].recoveries, 0, "the recoveries of a released job");
    ensure_eq!(again[0].job, taken[0].job, "the record of a released job");
    Ok(())
}

async fn a_release_of_some_keeps_the_others_claimed(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 4)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1, 2, 3]).await?;
    session.must_settle(&taken[1..3], |_| Verdict::Release).await?;
    let again = session.expect(&[1, 2]).await?;
    session.expect_nothing().await?;
    session.done(&taken[..1]).await?;
    session.done(&taken[3..]).await?;
    session.done(&again).await
}

async fn a_strict_set_empties_earlier_queues_first(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let (urgent, normal, low) = (queue("urgent")?, queue("normal")?, queue("a.low")?);
    for (jobs, first) in [(&low, 200), (&normal, 100), (&urgent, 0)] {
        for number in first..first + 5 {
            stage.enqueue(&broker, vec![numbered(jobs, number)?]).await?;
        }
    }
    let session = stage.session_on(&broker, QueueSet::strict([urgent, normal, low])?).await?;
    session.expect(&[0, 1]).await?;
    session.expect(&[2, 3, 4, 100, 101, 102, 103, 104, 200, 201, 202, 203, 204]).await?;
    Ok(())
}

async fn a_strict_set_returns_to_an_earlier_queue(stage: Stage) -> Checked {
    let (broker, urgent, low) = (stage.broker().await?, queue("urgent")?, queue("low")?);
    stage.enqueue(&broker, numbered_from_zero(&low, 4)?).await?;
    let session = stage.session_on(&broker, QueueSet::strict([urgent.clone(), low])?).await?;
    session.expect(&[0]).await?;
    stage.enqueue(&broker, vec![numbered(&urgent, 100)?]).await?;
    session.expect(&[100]).await?;
    session.expect(&[1, 2, 3]).await?;
    Ok(())
}

/// Takes `n` jobs, `at_once` per fetch, and counts them by queue.
async fn shares(session: &Session, n: usize, at_once: usize) -> Checked<BTreeMap<QueueName, usize>> {
    let mut counts = BTreeMap::new();
    for _ in 0..n / at_once {
        let taken = session.take(at_once).await?;
        for delivery in &taken {
            *counts.entry(delivery.job.queue.clone()).or_default() += 1;
        }
        session.done(&taken).await?;
    }
    Ok(counts)
}

async fn a_weighted_set_gives_each_queue_its_share(stage: Stage) -> Checked {
    let (broker, heavy, light) = (stage.broker().await?, queue("heavy")?, queue("light")?);
    stage.enqueue(&broker, numbered_from_zero(&heavy, 400)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&light, 400)?).await?;
    let session = stage.session_on(&broker, QueueSet::weighted([(heavy.clone(), 3), (light, 1)])?).await?;
    let counts = shares(&session, 320, 8).await?;
    let share = counts.get(&heavy).copied().unwrap_or_default();
    // Three quarters are 240.
    ensure!((200..=280).contains(&share), "a queue of weight 3 beside one of weight 1 got {share} of 320 jobs");
    Ok(())
}

async fn a_weighted_set_starves_no_queue(stage: Stage) -> Checked {
    let (broker, heavy, light) = (stage.broker().await?, queue("heavy")?, queue("light")?);
    stage.enqueue(&broker, numbered_from_zero(&heavy, 600)?).await?;
    stage.enqueue(&broker, numbered_from_zero(&light, 5)?).await?;
    let session = stage.session_on(&broker, QueueSet::weighted([(heavy, 20), (light.clone(), 1)])?).await?;
    // One job per fetch: rounding must not give the first queue everything.
    let counts = shares(&session, 400, 1).await?;
    ensure!(counts.contains_key(&light), "of 400 single fetches none looked at the queue of weight 1 beside 20");
    Ok(())
}

async fn a_weighted_set_shares_out_what_one_queue_leaves(stage: Stage) -> Checked {
    let (broker, idle, busy) = (stage.broker().await?, queue("idle")?, queue("busy")?);
    stage.enqueue(&broker, numbered_from_zero(&busy, 40)?).await?;
    let session = stage.session_on(&broker, QueueSet::weighted([(idle, 1_000_000), (busy, 1)])?).await?;
    session.expect(&(0..40).collect::<Vec<_>>()).await?;
    Ok(())
}

async fn a_set_of_a_hundred_queues(stage: Stage) -> Checked {
    let broker = stage.broker().await?;
    let names = (0..QueueSet::MAX).map(|n| queue(&format!("q{n:03}"))).collect::<Checked<Vec<_>>>()?;
    let session = stage.session_on(&broker, QueueSet::strict(names.clone())?).await?;
    let jobs = names.iter().zip(0..).map(|(queue, number)| numbered(queue, number)).collect::<Checked<Vec<_>>>()?;
    stage.enqueue(&broker, jobs).await?;
    session.expect(&(0..100).collect::<Vec<_>>()).await?;
    Ok(())
}
