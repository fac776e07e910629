//! What only the inside can show: shared transactions that fail, leases that run out of numbers, panics.

mod damage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goose_core::broker::{Broker, Consumer, ConsumerOptions, Delivery, QueueSet, SettleError, Settlement, Verdict};
use goose_core::{Error, ErrorKind, Job, JobName, Payload, QueueName};

use crate::{SqliteBroker, SqliteOptions};

fn job() -> Job {
    Job::new(JobName::new("test").unwrap(), QueueName::default(), Payload::message_pack(vec![1, 2, 3]))
}

fn options() -> ConsumerOptions {
    ConsumerOptions::new(QueueSet::one(QueueName::default()), 10)
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// What the future answers if it is ready at its first poll: the engine runs on a thread of its own and may be quick.
async fn poll_once<T>(future: &mut goose_core::BoxFuture<'_, T>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(answer) => std::task::Poll::Ready(Some(answer)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

async fn fetch(consumer: &dyn Consumer, n: usize) -> Vec<Delivery> {
    within("fetch", consumer.fetch(n)).await.unwrap()
}

async fn done(consumer: &dyn Consumer, delivery: &Delivery) -> Result<(), SettleError> {
    consumer.settle(&[Settlement::new(delivery.receipt, Verdict::Done)]).await.pop().unwrap()
}

/// A fetch that was given up leaves what it claimed to the next one, which may not come before a pause.
#[tokio::test]
async fn what_was_claimed_and_not_fetched_goes_back_before_a_pause_is_answered() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    let other = QueueName::new("other").unwrap();
    let counts = async || broker.statistics().unwrap().queues().await.unwrap().remove(0);
    let jobs: Vec<Job> = (0..3).map(|_| job()).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let mut given_up = consumer.fetch(3);
    assert!(poll_once(&mut given_up).await.is_none());
    broker.enqueue(jobs).await.unwrap();
    assert_eq!((counts().await.ready, counts().await.running), (0, 3));
    drop(given_up);
    let paused = broker.paused_queues().unwrap();
    assert!(paused.pause(&other).await.unwrap());
    assert_eq!(counts().await.running, 3, "that was another queue");
    assert!(paused.pause(&QueueName::default()).await.unwrap());
    assert_eq!((counts().await.ready, counts().await.running), (3, 0));
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
    assert!(paused.resume(&QueueName::default()).await.unwrap());
    let came: Vec<_> = fetch(&*consumer, 3).await.iter().map(|delivery| delivery.job.id).collect();
    assert_eq!(came, ids);
}

#[tokio::test]
async fn one_bad_piece_of_work_does_not_spoil_the_others() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    // The engine is held up long enough for all three to share a transaction.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let blocker = {
        let broker = broker.clone();
        let held = parking_lot::Mutex::new(Some(held));
        tokio::spawn(async move {
            let hold = move |_: &mut crate::tx::Tx<'_>| {
                if let Some(held) = held.lock().take() {
                    let _ = held.recv_timeout(Duration::from_secs(20));
                }
                Ok(())
            };
            broker.engine.call(hold).await
        })
    };
    let runs = Arc::new(AtomicU32::new(0));
    let bad = {
        let (broker, runs) = (broker.clone(), Arc::clone(&runs));
        tokio::spawn(async move {
            let fail = move |tx: &mut crate::tx::Tx<'_>| {
                runs.fetch_add(1, Ordering::Relaxed);
                tx.conn.execute("INSERT INTO no_such_table VALUES (1)", []).map(drop)
            };
            broker.engine.call(fail).await
        })
    };
    let good: Vec<_> = (0..2)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.enqueue(vec![job()]).await })
        })
        .collect();
    // All tasks have run up to their first wait when this one runs again.
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    blocker.await.unwrap().unwrap();
    assert_eq!(bad.await.unwrap().unwrap_err().kind(), ErrorKind::Internal);
    for good in good {
        assert_eq!(good.await.unwrap().unwrap().len(), 1);
    }
    assert!(runs.load(Ordering::Relaxed) >= 2, "the bad work was not tried alone");
    assert_eq!(broker.enqueued_jobs().unwrap().size(&QueueName::default()).await.unwrap(), 2);
    assert_eq!(broker.check_consistency().await.unwrap(), Vec::<String>::new());
}

#[cfg(feature = "fault-injection")]
#[derive(Debug)]
struct Panicking;

#[cfg(feature = "fault-injection")]
impl goose_core::Observer for Panicking {
    fn observe(&self, _: &goose_core::Event<'_>) {
        panic!("an observer that panics");
    }
}

#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn a_panicking_observer_does_not_end_the_engine() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    let mut options = options();
    options.observer = Arc::new(Panicking);
    let consumer = broker.consume(options).await.unwrap();
    broker.enqueue_raw(&QueueName::default(), goose_core::JobId::new(), b"no envelope".to_vec()).await.unwrap();
    // The claim buries the bytes, and the observer of that panics on the engine's thread.
    let waiting = consumer.fetch(1);
    let enqueue = async {
        let mut health = consumer.health();
        while health[0].restarts == 0 {
            tokio::task::yield_now().await;
            health = consumer.health();
        }
        assert!(health[0].last_error.as_deref().unwrap().contains("an observer that panics"));
        broker.enqueue(vec![job()]).await
    };
    let (failed, enqueued) = within("going on", async { tokio::join!(waiting, enqueue) }).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((fetch(&*consumer, 1).await.len(), enqueued.unwrap().len()), (1, 1));
    assert_eq!(broker.dead_jobs().unwrap().size().await.unwrap(), 1);
}

#[tokio::test]
async fn claims_outlive_the_numbers_of_their_lease() {
    let broker = SqliteOptions::in_memory().lease(Duration::from_millis(300)).open().await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    broker.enqueue(vec![job(), job()]).await.unwrap();
    let old = fetch(&*consumer, 1).await.remove(0);
    broker.engine.exhaust_claim_numbers().await;
    let leases = || async {
        let statement = "SELECT COUNT(*) FROM lease";
        broker.engine.call(|tx| tx.conn.query_row(statement, [], |row| row.get::<_, i64>(0))).await.unwrap()
    };
    within("the new lease", async {
        while leases().await < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The claim under the old lease holds while several lease times pass, and can be settled.
    let until = std::time::Instant::now() + Duration::from_millis(1000);
    while std::time::Instant::now() < until {
        assert!(consumer.holds(&old.receipt));
        tokio::task::yield_now().await;
    }
    let new = fetch(&*consumer, 1).await.remove(0);
    assert_ne!(old.receipt.words()[1] >> 32, new.receipt.words()[1] >> 32);
    done(&*consumer, &old).await.unwrap();
    done(&*consumer, &new).await.unwrap();
    // Without claims left, the old lease goes.
    within("the old lease's end", async {
        while leases().await > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_locked_by_another_program_is_unavailable_and_then_fine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let broker = SqliteOptions::new(&file).busy_timeout(Duration::from_millis(100)).open().await.unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = broker.enqueue(vec![job()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    assert!(error.is_retryable());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(broker.enqueue(vec![job()]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lock_held_for_longer_than_the_lease_costs_nobody_their_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let open = || SqliteOptions::new(&file).lease(Duration::from_millis(600)).open();
    let (holder, observer) = (open().await.unwrap(), open().await.unwrap());
    let consumer = holder.consume(options()).await.unwrap();
    let _observing = observer.consume(options()).await.unwrap();
    holder.enqueue(vec![job()]).await.unwrap();
    let claimed = fetch(&*consumer, 1).await.remove(0);
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = std::time::Instant::now();
    while locked.elapsed() < Duration::from_millis(1800) {
        tokio::task::yield_now().await;
    }
    assert!(!consumer.holds(&claimed.receipt), "a process that could not renew must know it");
    other.execute_batch("ROLLBACK").unwrap();
    within("the renewal", async {
        while !consumer.holds(&claimed.receipt) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    done(&*consumer, &claimed).await.unwrap();
}

#[tokio::test]
async fn dropping_everything_without_stop_hands_jobs_back_and_ends_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let open = || SqliteOptions::new(&file).lease(Duration::from_millis(300)).open();
    let broker = open().await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    broker.enqueue(vec![job()]).await.unwrap();
    let fetched = fetch(&*consumer, 1).await;
    drop(consumer);
    drop(broker);
    // The job was fetched and not settled: stopped in good order, it comes back without counting as a crash.
    let second = open().await.unwrap();
    let consumer = second.consume(options()).await.unwrap();
    let again = fetch(&*consumer, 1).await.remove(0);
    assert_eq!((again.job.id, again.recoveries), (fetched[0].job.id, 0));
}

#[tokio::test]
async fn a_call_after_close_says_so() {
    let broker = SqliteBroker::in_memory().await.unwrap();
    let consumer = broker.consume(options()).await.unwrap();
    let waiting = consumer.fetch(1);
    let close = async {
        tokio::task::yield_now().await;
        broker.close().await.unwrap();
    };
    let (fetched, ()) = within("closing", async { tokio::join!(waiting, close) }).await;
    let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    closed(fetched.unwrap_err());
    closed(broker.enqueue(vec![job()]).await.unwrap_err());
    closed(broker.consume(options()).await.unwrap_err());
    broker.close().await.unwrap();
    consumer.stop().await.unwrap();
}

#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn many_recovered_jobs_keep_their_order_and_suspects_come_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let open = || SqliteOptions::new(&file).lease(Duration::from_millis(300)).open();
    let keeper = open().await.unwrap();
    let jobs: Vec<Job> = (0..1200).map(|_| job()).collect();
    let order: Vec<_> = jobs.iter().map(|job| job.id).collect();
    keeper.enqueue(jobs).await.unwrap();
    let mut seen = Vec::new();
    // Two crashes with everything in hand: after the first, all come back at once and in order.
    for crash in 0..2 {
        let doomed = open().await.unwrap();
        let consumer = doomed.consume(options()).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 1200 {
            got.extend(fetch(&*consumer, 1000).await);
        }
        assert!(got.iter().all(|delivery| delivery.recoveries == crash));
        seen = got.iter().map(|delivery| delivery.job.id).collect();
        doomed.abandon().await;
        let watcher = open().await.unwrap();
        let _watching = watcher.consume(ConsumerOptions::new(QueueSet::one("other".parse().unwrap()), 1)).await;
        within("the recovery", async {
            let statistics = || async { watcher.statistics().unwrap().queues().await.unwrap() };
            while statistics().await.iter().any(|counts| counts.running > 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(seen, order);
    // After the second, each is a suspect: no fetch gives out two of them.
    let consumer = keeper.consume(options()).await.unwrap();
    for _ in 0..3 {
        let batch = fetch(&*consumer, 1000).await;
        assert_eq!(batch.iter().map(|delivery| delivery.recoveries).collect::<Vec<_>>(), [2]);
    }
    assert_eq!(keeper.check_consistency().await.unwrap(), Vec::<String>::new());
}
