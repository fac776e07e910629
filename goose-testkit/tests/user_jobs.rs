//! What a user of the test kit writes: a job that fails for a while, retried on a clock that the test moves.

#![cfg(feature = "memory")]
#![expect(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goose_core::broker::{Broker, DeathCause};
use goose_core::{Clock, JobArgs, Outcome, Timestamp};
use goose_testkit::testing::{Expected, TestBroker, assert_enqueued, enqueued};
use goose_worker::Context;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Charge {
    customer: String,
    cents: u64,
}

impl JobArgs for Charge {
    const NAME: &'static str = "charge";
}

#[derive(Debug, Serialize, Deserialize)]
struct SendReceipt {
    customer: String,
}

impl JobArgs for SendReceipt {
    const NAME: &'static str = "send-receipt";
}

/// A bank that is down for its first calls.
#[derive(Default)]
struct Bank {
    failures_left: AtomicU32,
    calls: AtomicU32,
}

async fn charge(charge: Charge, cx: Context) -> Result<Outcome, goose_core::BoxError> {
    if charge.cents == 0 {
        return Ok(Outcome::Discard("nothing to pay".to_owned()));
    }
    let bank = cx.state::<Arc<Bank>>()?;
    bank.calls.fetch_add(1, Ordering::Relaxed);
    let down =
        bank.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    if down {
        return Err("the bank is down".into());
    }
    cx.client().job(SendReceipt { customer: charge.customer }).queue("mail").enqueue().await?;
    Ok(Outcome::Done)
}

fn ada(cents: u64) -> Charge {
    Charge { customer: "ada".to_owned(), cents }
}

#[tokio::test]
async fn a_charge_is_retried_until_the_bank_is_back() {
    let test = TestBroker::new().await.unwrap();
    let bank = Arc::new(Bank { failures_left: AtomicU32::new(2), ..Bank::default() });
    test.client().perform_async(ada(500)).await.unwrap();

    // With the default backoff a retry takes 20 s or more.
    let worker = || test.worker().state(Arc::clone(&bank)).handle(charge);
    assert_eq!(worker().drain().await.unwrap().retried, 1);
    assert_enqueued(&test, Expected::<Charge>::once().scheduled()).await;
    assert_eq!(worker().drain().await.unwrap(), Default::default());

    let waiting = enqueued::<Charge>(&test).await.unwrap();
    assert_eq!(waiting[0].job.attempts.last_failure().unwrap().error, "the bank is down");
    assert!(waiting[0].due_at.unwrap().since(test.clock().now()) >= Duration::from_secs(20));
    test.clock().set(waiting[0].due_at.unwrap());
    assert_eq!(worker().drain().await.unwrap().retried, 1);
    assert_enqueued(&test, Expected::<SendReceipt>::none()).await;

    test.advance(Duration::from_secs(3_600));
    assert_eq!(worker().drain().await.unwrap().succeeded, 1);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 3);
    let receipt = Expected::<SendReceipt>::once().queue("mail").ready().matching(|receipt| receipt.customer == "ada");
    assert_enqueued(&test, receipt).await;
    assert_enqueued(&test, Expected::<Charge>::none()).await;
}

#[tokio::test]
async fn a_charge_dies_when_its_retries_are_used_up() {
    let test = TestBroker::new().await.unwrap();
    let bank = Arc::new(Bank { failures_left: AtomicU32::new(u32::MAX), ..Bank::default() });
    let id = test.client().job(ada(500)).retries(3).enqueue().await.unwrap();
    for _ in 0..4 {
        test.worker().state(Arc::clone(&bank)).handle(charge).drain().await.unwrap();
        test.advance(Duration::from_secs(24 * 3_600));
    }
    let dead = test.dead_jobs().unwrap().find_by_id(id).await.unwrap().unwrap();
    assert_eq!(dead.reason.cause, DeathCause::RetriesExhausted);
    assert_eq!(bank.calls.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn an_offer_expires_on_the_tests_clock() {
    let test = TestBroker::new().await.unwrap();
    let noon = test.clock().now().saturating_add(Duration::from_secs(12 * 3_600));
    test.client().job(ada(500)).expires_at(noon).enqueue().await.unwrap();
    test.clock().set(noon.saturating_add(Duration::from_millis(1)));
    let drained = test.worker().state(Arc::new(Bank::default())).handle(charge).drain().await.unwrap();
    assert_eq!((drained.expired, drained.succeeded), (1, 0));
}

#[tokio::test]
async fn a_handler_is_called_inline() {
    let test = TestBroker::new().await.unwrap();
    let outcome = test.perform_inline(charge, ada(0)).await.unwrap();
    assert_eq!(outcome.to_string(), "discarded: nothing to pay");

    let outcome = test.perform_inline_with(Arc::new(Bank::default()), charge, ada(5)).await.unwrap();
    assert!(matches!(outcome, Outcome::Done), "{outcome}");
    // What it enqueued is in the broker; it was not itself.
    assert_enqueued(&test, Expected::<SendReceipt>::once()).await;
    assert_enqueued(&test, Expected::<Charge>::none()).await;
}

/// The message of an assertion that fails.
async fn complaint(test: &TestBroker, expected: Expected<Charge>) -> String {
    let test = test.clone();
    let failed = tokio::spawn(async move { assert_enqueued(&test, expected).await }).await;
    *failed.unwrap_err().into_panic().downcast::<String>().unwrap()
}

#[tokio::test]
async fn a_failed_assertion_lists_what_waits() {
    let test = TestBroker::new().await.unwrap();
    let nothing = complaint(&test, Expected::any()).await;
    assert!(nothing.starts_with("expected at least one job \"charge\", found 0; nothing waits at all\n"), "{nothing}");

    test.client().job(ada(5)).queue("slow").tag("vip").enqueue().await.unwrap();
    test.client().perform_in(Duration::from_secs(60), SendReceipt { customer: "ada".to_owned() }).await.unwrap();
    let expected = Expected::once().queue("fast").tag("vip").ready().matching(|charge: &Charge| charge.cents > 3);
    let text = complaint(&test, expected).await;
    let list = "expected one job \"charge\" in queue fast with tag \"vip\" ready to run matching the condition, found 0; \
        waiting are:\n  charge in queue slow with tags [\"vip\"]: Charge { customer: \"ada\", cents: 5 }\n  \
        send-receipt in queue default due at 2026-01-01T00:01:00.001Z\nasserted at ";
    assert!(text.starts_with(list), "{text}");
    assert!(text.contains("user_jobs.rs:"), "{text}");

    for wrong in [
        Expected::none(),
        Expected::times(2),
        Expected::once().scheduled(),
        Expected::once().due_at(Timestamp::EPOCH),
        Expected::once().tag("v"),
        Expected::once().matching(|charge: &Charge| charge.cents > 5),
    ] {
        let text = complaint(&test, wrong).await;
        assert!(text.contains("waiting are:"), "{text}");
    }
}
