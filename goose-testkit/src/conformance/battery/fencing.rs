//! A claim that has ended cannot be used again: a late settle changes nothing, whoever holds the job now.

use std::time::Duration;

use goose_core::broker::{Delivery, Receipt, SettleError, Settlement, Verdict};

use crate::conformance::failure::{Checked, ensure, ensure_eq};
use crate::conformance::job::{numbered, numbered_from_zero};
use crate::conformance::scenario::battery;
use crate::conformance::session::{Session, bury, retry, snooze};
use crate::conformance::stage::{Stage, queue};

battery! { "fencing":
    a_claim_can_be_settled_once;
    a_receipt_names_one_claim_not_one_job;
    a_receipt_is_stale_when_another_session_has_the_job;
    a_receipt_is_stale_while_the_job_waits;
    a_receipt_is_stale_after_a_retry;
    a_receipt_is_stale_after_a_recovery takes 2 recoveries;
    a_forged_receipt_settles_nothing;
    a_batch_settles_what_is_good_and_refuses_the_rest;
    a_receipt_twice_in_one_batch_settles_once;
}

/// One of each kind of verdict on a claim.
fn every_verdict(delivery: &Delivery) -> [Verdict; 6] {
    [
        Verdict::Done,
        Verdict::Discard,
        retry(delivery, Duration::ZERO, "late"),
        snooze(delivery, Duration::ZERO),
        bury(delivery, "late"),
        Verdict::Release,
    ]
}

/// Settles a stale claim in every way; the holder's claim must stay good, and the job must be there once.
async fn nothing_may_change(late: &Session, stale: &Delivery, holder: &Session, held: &Delivery) -> Checked {
    for verdict in every_verdict(stale) {
        late.must_be_fenced(stale.receipt, verdict).await?;
    }
    ensure!(held.receipt != stale.receipt, "two claims have the same receipt {:?}", held.receipt);
    holder.expect_nothing().await?;
    holder.done(std::slice::from_ref(held)).await?;
    holder.expect_nothing().await
}

async fn a_claim_can_be_settled_once(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    let session = stage.session(&broker, &jobs).await?;
    for first in 0..2 {
        stage.enqueue(&broker, vec![numbered(&jobs, first)?]).await?;
        let delivery = session.take_one().await?;
        let verdict = if first == 0 { Verdict::Done } else { bury(&delivery, "no use") };
        session.must_settle(std::slice::from_ref(&delivery), |_| verdict.clone()).await?;
        for verdict in every_verdict(&delivery) {
            session.must_be_fenced(delivery.receipt, verdict).await?;
        }
        session.expect_nothing().await?;
    }
    Ok(())
}

async fn a_receipt_names_one_claim_not_one_job(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    session.must_settle(std::slice::from_ref(&first), |_| Verdict::Release).await?;
    let second = session.take_one().await?;
    nothing_may_change(&session, &first, &session, &second).await
}

async fn a_receipt_is_stale_when_another_session_has_the_job(stage: Stage) -> Checked {
    let (one, two, jobs) = (stage.broker().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&one, vec![numbered(&jobs, 0)?]).await?;
    let early = stage.session(&one, &jobs).await?;
    let first = early.take_one().await?;
    early.must_settle(std::slice::from_ref(&first), |_| Verdict::Release).await?;
    let holder = stage.session(&two, &jobs).await?;
    let second = holder.take_one().await?;
    nothing_may_change(&early, &first, &holder, &second).await
}

async fn a_receipt_is_stale_while_the_job_waits(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    session.must_settle(std::slice::from_ref(&first), |_| Verdict::Release).await?;
    for verdict in every_verdict(&first) {
        session.must_be_fenced(first.receipt, verdict).await?;
    }
    session.expect(&[0]).await?;
    session.expect_nothing().await
}

async fn a_receipt_is_stale_after_a_retry(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let first = session.take_one().await?;
    session.must_settle(std::slice::from_ref(&first), |d| retry(d, Duration::from_millis(400), "it broke")).await?;
    for verdict in every_verdict(&first) {
        session.must_be_fenced(first.receipt, verdict).await?;
    }
    let second = session.take_one().await?;
    ensure_eq!(second.job.attempts.retry_count, 1, "the retries used");
    nothing_may_change(&session, &first, &session, &second).await
}

async fn a_receipt_is_stale_after_a_recovery(stage: Stage) -> Checked {
    let (doomed, live, jobs) = (stage.process().await?, stage.broker().await?, queue("jobs")?);
    stage.enqueue(&live, vec![numbered(&jobs, 0)?]).await?;
    let lost = stage.session(doomed.broker(), &jobs).await?;
    let first = lost.take_one().await?;
    let holder = stage.session(&live, &jobs).await?;
    doomed.crash().await;
    let taken = holder.take_within(stage.harness().recovery_deadline(), 1).await?;
    // The late settle arrives over whatever way is left: the dead process's own, or anybody's.
    let answers = stage.promptly("the answer to a late settle", lost.consumer.settle(&[])).await?;
    ensure_eq!(answers.len(), 0, "the number of answers to an empty settle");
    for verdict in every_verdict(&first) {
        let late = [Settlement::new(first.receipt, verdict)];
        let answers = stage.promptly("the answer to a late settle", lost.consumer.settle(&late)).await?;
        ensure!(answers.iter().all(Result::is_err), "a session that lost its job settled it: {late:?}");
    }
    nothing_may_change(&holder, &first, &holder, &taken[0]).await
}

async fn a_forged_receipt_settles_nothing(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let held = session.take_one().await?;
    let other = held.receipt.words().map(|word| word.wrapping_add(1));
    let forgeries = [Receipt::new([0; 4]), Receipt::new([u64::MAX; 4]), Receipt::new(other)];
    for forged in forgeries {
        session.must_be_fenced(forged, Verdict::Done).await?;
    }
    session.done(&[held]).await
}

async fn a_batch_settles_what_is_good_and_refuses_the_rest(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, numbered_from_zero(&jobs, 7)?).await?;
    let session = stage.session(&broker, &jobs).await?;
    let taken = session.expect(&[0, 1, 2, 3, 4, 5, 6]).await?;
    session.done(&taken[3..4]).await?;
    let verdicts = [
        Verdict::Done,
        retry(&taken[1], Duration::ZERO, "it broke"),
        bury(&taken[2], "no use"),
        Verdict::Done,
        Verdict::Discard,
        snooze(&taken[5], Duration::from_millis(100)),
        Verdict::Release,
    ];
    let batch = taken.iter().zip(verdicts).map(|(delivery, verdict)| Settlement::new(delivery.receipt, verdict));
    let answers = session.settle_all(batch.collect()).await?;
    for (n, answer) in answers.iter().enumerate() {
        let stale = matches!(answer, Err(SettleError::Fenced));
        ensure!(if n == 3 { stale } else { answer.is_ok() }, "settlement {n} of a batch with one stale: {answer:?}");
    }
    let mut back = crate::conformance::job::numbers(&session.take(3).await?)?;
    back.sort_unstable();
    ensure_eq!(back, [1, 5, 6], "the jobs that came back after the batch");
    session.expect_nothing().await
}

async fn a_receipt_twice_in_one_batch_settles_once(stage: Stage) -> Checked {
    let (broker, jobs) = (stage.broker().await?, queue("jobs")?);
    stage.enqueue(&broker, vec![numbered(&jobs, 0)?]).await?;
    let session = stage.session(&broker, &jobs).await?;
    let held = session.take_one().await?;
    let twice = vec![
        Settlement::new(held.receipt, retry(&held, Duration::ZERO, "it broke")),
        Settlement::new(held.receipt, retry(&held, Duration::ZERO, "it broke")),
    ];
    let answers = session.settle_all(twice).await?;
    ensure!(answers[0].is_ok(), "the first of two equal settlements: {:?}", answers[0]);
    ensure!(matches!(answers[1], Err(SettleError::Fenced)), "the second of two equal settlements: {:?}", answers[1]);
    session.expect(&[0]).await?;
    session.expect_nothing().await
}
