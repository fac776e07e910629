//! Full and foreign files, jobs that cannot be stored, sessions that end badly: what is left stays in order.

use std::time::Duration;

use goose_core::broker::{Broker, Delivery, Settlement, Verdict};
use goose_core::{ErrorKind, Job};

use super::{fetch, job, options, poll_once, within};
use crate::{SqliteBroker, SqliteOptions};

#[tokio::test]
async fn a_file_without_room_refuses_new_jobs_and_lets_workers_drain_it() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 600_000;
    let broker = SqliteOptions::new(folder.path().join("jobs.db")).max_file_size(limit).open().await.unwrap();
    let mut enqueued = 0;
    let refusal = loop {
        match broker.enqueue((0..50).map(|_| job()).collect()).await {
            Ok(verdicts) => enqueued += verdicts.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.kind(), ErrorKind::Full, "{refusal:#}");
    let consumer = broker.consume(options()).await.unwrap();
    let mut done_jobs = 0;
    while done_jobs < enqueued {
        let batch = fetch(&*consumer, 100).await;
        // Every other job fails once, with an error that makes its record grow.
        let end = |delivery: &Delivery| {
            let mut job = delivery.job.clone();
            if job.attempts.retry_count > 0 || job.id.as_bytes()[15].is_multiple_of(2) {
                return Settlement::new(delivery.receipt, Verdict::Done);
            }
            job.attempts.retry_count = 1;
            job.attempts.record_failure(delivery.claimed_at, "x".repeat(2000));
            Settlement::new(delivery.receipt, Verdict::Retry { job: Box::new(job), delay: Duration::ZERO })
        };
        let ends: Vec<_> = batch.iter().map(end).collect();
        done_jobs += ends.iter().filter(|end| matches!(end.verdict, Verdict::Done)).count();
        for answer in consumer.settle(&ends).await {
            answer.unwrap();
        }
    }
    assert_eq!(broker.enqueue(vec![job()]).await.unwrap().len(), 1);
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn one_end_that_cannot_be_stored_does_not_hold_up_the_others() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    let jobs: Vec<Job> = (0..20).map(|_| job()).collect();
    let guilty = jobs[7].id;
    broker.enqueue(jobs).await.unwrap();
    let refuse = move |tx: &mut crate::tx::Tx<'_>| {
        let id: String = guilty.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "CREATE TRIGGER refuse BEFORE DELETE ON job WHEN hex(old.id) = upper('{id}') \
             BEGIN SELECT RAISE(ABORT, 'no'); END"
        );
        tx.conn.execute_batch(&text)
    };
    broker.engine.call(refuse).await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    let batch = fetch(&*consumer, 20).await;
    let ends: Vec<_> = batch.iter().map(|job| Settlement::new(job.receipt, Verdict::Done)).collect();
    let answers = consumer.settle(&ends).await;
    for (delivery, answer) in batch.iter().zip(answers) {
        assert_eq!(answer.is_err(), delivery.job.id == guilty, "{answer:?}");
    }
}

#[tokio::test]
async fn a_stop_leaves_the_line_as_it_was() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    let jobs: Vec<Job> = (0..10).map(|_| job()).collect();
    let order: Vec<_> = jobs.iter().map(|job| job.id).collect();
    broker.enqueue(jobs).await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    let fetched = fetch(&*consumer, 3).await;
    // The others are claimed for a fetch that goes away. One that has its answer at once has not gone away: once more.
    let mut goes_away = consumer.fetch(7);
    while let Some(answer) = poll_once(&mut goes_away).await {
        let answer = answer.unwrap();
        assert_eq!(answer.len(), 7);
        for delivery in answer.iter().rev() {
            consumer.settle(&[Settlement::new(delivery.receipt, Verdict::Release)]).await.pop().unwrap().unwrap();
        }
        drop(goes_away);
        goes_away = consumer.fetch(7);
    }
    within("the claims", async {
        while broker.statistics().unwrap().queues().await.unwrap()[0].running < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(goes_away);
    for delivery in fetched.iter().rev() {
        consumer.settle(&[Settlement::new(delivery.receipt, Verdict::Release)]).await.pop().unwrap().unwrap();
    }
    consumer.stop().await.unwrap();
    let next = broker.consume(options()).await.unwrap();
    let again: Vec<_> = fetch(&*next, 10).await.iter().map(|delivery| delivery.job.id).collect();
    assert_eq!(again, order);
}

#[tokio::test]
async fn a_cancelled_consume_leaves_no_session() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    for _ in 0..5 {
        let mut consume = broker.consume(options());
        drop(poll_once(&mut consume).await);
        drop(consume);
    }
    assert_eq!(broker.statistics().unwrap().workers().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn the_file_of_another_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE customers (name)").unwrap();
    drop(other);
    let before = std::fs::read(&file).unwrap();
    assert_eq!(SqliteBroker::open(&file).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn leases_have_bounds() {
    for lease in [Duration::ZERO, Duration::MAX] {
        let error = SqliteOptions::in_memory().lease(lease).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test]
async fn keys_without_a_job_are_dropped_and_do_not_spin() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    broker.enqueue(vec![job()]).await.unwrap();
    broker.engine.call(|tx| tx.conn.execute("DELETE FROM job", []).map(drop)).await.unwrap();
    assert_eq!(broker.check_consistency().await.unwrap().len(), 1);
    let consumer = broker.consume(options()).await.unwrap();
    let waiting = consumer.fetch(1);
    let enqueue = async {
        within("the repair", async {
            while !broker.check_consistency().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker.enqueue(vec![job()]).await.unwrap()
    };
    let (fetched, _) = within("the next job", async { tokio::join!(waiting, enqueue) }).await;
    assert_eq!(fetched.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..60 {
        let file = folder.path().join(format!("{round}.db"));
        let opening: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteBroker::open(file.clone()))).collect();
        for opened in opening {
            let broker = opened.await.unwrap().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
            broker.enqueue(vec![job()]).await.unwrap();
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_deleted_under_a_running_worker_is_told_by_its_health() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let broker = SqliteBroker::open(&path).await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    let last_error = || consumer.health()[0].last_error.clone().unwrap_or_default();
    assert_eq!(last_error(), "");
    std::fs::remove_file(&path).unwrap();
    within("the news", async {
        while !last_error().contains("deleted or replaced while it is open") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
