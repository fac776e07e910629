//! Handing in jobs through the broker as programs do: many, and to a server that has lost a queue.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{ErrorKind, Job, JobId, JobName, Payload, QueueName};
use goose_rmq::{FailedJob, FailureReason, RmqBroker, RmqOptions};
use goose_services::rabbit::Rabbit;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![7; 100]))
}

async fn enqueue(broker: &RmqBroker, jobs: usize) -> Vec<JobId> {
    let verdicts = broker.enqueue((0..jobs).map(|_| job()).collect()).await.unwrap();
    verdicts.into_iter().map(|verdict| verdict.into_result().unwrap()).collect()
}

/// Of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Notes who says something.
#[derive(Clone, Default)]
struct Speakers(Arc<Mutex<Vec<String>>>);

impl Subscriber for Speakers {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(event.metadata().target().to_owned());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// One test, because what is measured is the whole process: issue, §8 test 11, and the logs of a message that came back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_jobs_take_no_more_memory_than_few_and_bodies_are_not_logged() {
    let speakers = Speakers::default();
    tracing::subscriber::set_global_default(speakers.clone()).unwrap();
    let rabbit = Rabbit::start();
    let (failed, returned) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (all_failed, all_returned) = (Arc::clone(&failed), Arc::clone(&returned));
    let broker = RmqOptions::new(rabbit.url())
        .on_failed(move |jobs| all_failed.lock().unwrap().extend(jobs))
        .on_returned(move |job| all_returned.lock().unwrap().push(job))
        .open()
        .await
        .unwrap();

    // Callers come and go; each hands in a thousand and waits for all verdicts.
    let jobs = if std::env::var_os("GOOSE_LONG_SCENARIOS").is_some() { 1_000_000 } else { 100_000 };
    let hand_in = async |jobs: usize| {
        for _ in 0..jobs / 10_000 {
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..10 {
                let broker = broker.clone();
                callers.spawn(async move { enqueue(&broker, 1_000).await.len() });
            }
            assert_eq!(callers.join_all().await.iter().sum::<usize>(), 10_000);
        }
    };
    hand_in(20_000).await;
    let before = resident();
    hand_in(jobs - 20_000).await;
    let after = resident();
    println!("{jobs} jobs; resident {before} KiB after 20000, {after} KiB at the end");
    assert!(after < before + 20 * 1024, "{before} KiB after 20,000 jobs, {after} KiB after {jobs}");

    // A queue that is deleted behind our back is declared again; the program is told of the job, the log of no body.
    let queue = rabbit.queues().into_iter().find(|queue| queue.name.ends_with("/default")).unwrap();
    assert_eq!(queue.ready, u64::try_from(jobs).unwrap());
    rabbit.delete_queue(&queue.name);
    let ids = enqueue(&broker, 3).await;
    let mut told: Vec<JobId> = returned.lock().unwrap().iter().map(FailedJob::id).collect();
    told.sort_unstable();
    assert_eq!(told, ids, "ids count up");
    assert_eq!(returned.lock().unwrap()[0].job().unwrap().id, ids[0]);
    let said = speakers.0.lock().unwrap().clone();
    assert!(!said.iter().any(|target| target.starts_with("lapin")), "{said:?}");

    // A server that refuses is told to the program, whoever waits.
    rabbit.set_policy("full", "/default$", r#"{"max-length": 3, "overflow": "reject-publish"}"#);
    goose_services::eventually("the policy counts", || rabbit.eval("rabbit_policy:list()").contains("reject-publish"));
    let ignored = broker.enqueue((0..10).map(|_| job()).collect());
    let error = tokio::time::timeout(Duration::from_secs(30), ignored).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:#}");
    // The program may be told a moment after the caller.
    goose_services::eventually("all ten are told", || failed.lock().unwrap().len() == 10);
    assert!(failed.lock().unwrap().iter().all(|job| job.reason() == FailureReason::Nacked));
    broker.close().await.unwrap();
}
