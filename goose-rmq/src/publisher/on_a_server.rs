//! Publishing to a real server: every word is right, whatever happens to the server meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goose_core::{Job, JobId, JobName, Payload, QueueName, codec};
use goose_services::rabbit::Rabbit;
use tokio::runtime::Builder;

use super::*;
use crate::amqp::lapin::Connector;
use crate::amqp::{Connect, Lifetime, Role, Table, Value};
use crate::hooks::FailedJob;
use crate::runtime::Runtime;

type Word = Result<(), PublishError>;

/// Nothing is brought back, so that what came back once comes back again.
#[derive(Debug, Default)]
struct Nothing(AtomicUsize);

impl Restore for Nothing {
    fn restore<'a>(&'a self, _: &'a Outgoing) -> BoxFuture<'a, CoreResult<()>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

/// Declares the queue that is missing.
#[derive(Debug)]
struct Declares(Arc<Link>);

impl Restore for Declares {
    fn restore<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, CoreResult<()>> {
        Box::pin(async move {
            let channel = self.0.channel().await?;
            channel.declare_queue(&message.routing_key, Lifetime::Durable, &Table::new()).await?;
            channel.close().await
        })
    }
}

/// A publisher with all that it needs.
struct Stage {
    runtime: Arc<Runtime>,
    options: RmqOptions,
    link: Arc<Link>,
    publisher: Arc<Publisher>,
}

impl Stage {
    fn new(rabbit: &Rabbit, change: impl FnOnce(&mut RmqOptions)) -> Self {
        Self::with(rabbit, change, |_| Arc::new(Nothing::default()))
    }

    fn with(
        rabbit: &Rabbit,
        change: impl FnOnce(&mut RmqOptions),
        restore: impl FnOnce(&Arc<Link>) -> Arc<dyn Restore>,
    ) -> Self {
        let mut options = RmqOptions::new(rabbit.url());
        change(&mut options);
        let runtime = Arc::new(Runtime::start().unwrap());
        let link = open(&runtime, &options, Role::Publish);
        let restore = restore(&link);
        let publisher = Arc::new(Publisher::new(Arc::clone(&link), &options, restore, runtime.handle()));
        Self { runtime, options, link, publisher }
    }

    /// Runs on the runtime of the publisher, as everything does that waits for links.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.runtime.spawn(future);
        Builder::new_current_thread().build().unwrap().block_on(task).unwrap()
    }

    fn declare(&self, queue: &str, args: Table) {
        let (link, queue) = (Arc::clone(&self.link), queue.to_owned());
        self.run(async move {
            let channel = link.channel().await.unwrap();
            channel.declare_queue(&queue, Lifetime::Durable, &args).await.unwrap();
        });
    }

    fn publish(&self, messages: Vec<Outgoing>) -> Vec<Word> {
        wait(self.publisher.publish_all(messages))
    }

    /// Asks on a connection of its own, as the other may be blocked.
    fn ready(&self, queue: &str) -> usize {
        let link = open(&self.runtime, &self.options, Role::Control);
        let queue = queue.to_owned();
        let state = self.run(async move {
            let state = link.channel().await.unwrap().inspect_queue(&queue).await.unwrap();
            link.close().await;
            state
        });
        usize::try_from(state.unwrap().ready).unwrap()
    }

    /// Takes everything out of a queue, on a connection of its own.
    fn ids_in(&self, queue: &str) -> Vec<String> {
        let count = self.ready(queue);
        let link = open(&self.runtime, &self.options, Role::Consume);
        let queue = queue.to_owned();
        self.run(async move {
            let channel = link.channel().await.unwrap();
            let mut deliveries = channel.consume(&queue, "test", &Table::new()).await.unwrap();
            let mut ids = Vec::new();
            while ids.len() < count {
                let delivered = deliveries.next().await.unwrap();
                channel.ack(delivered.tag, false).await.unwrap();
                ids.push(delivered.message_id.unwrap());
            }
            link.close().await;
            ids
        })
    }
}

fn open(runtime: &Arc<Runtime>, options: &RmqOptions, role: Role) -> Arc<Link> {
    let connect: Arc<dyn Connect> = Arc::new(Connector::new(options).unwrap());
    let (patience, handle) = (options.connect_timeout, runtime.handle().clone());
    wait(runtime.spawn(async move { Link::open(connect, role, patience, 1, &handle).await })).unwrap().unwrap()
}

/// Waits on a runtime that can do nothing else, as a caller may be.
fn wait<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().build().unwrap().block_on(future)
}

fn message(queue: &str, id: impl fmt::Display) -> Outgoing {
    Outgoing {
        exchange: "".into(),
        routing_key: queue.to_owned(),
        message_id: id.to_string(),
        priority: 0,
        headers: Table::new(),
        body: Arc::from(*b"a job of no great size, which is as most of them are"),
    }
}

fn job_for(queue: &str) -> Outgoing {
    let job = Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]));
    Outgoing { body: codec::encode(&job).into(), ..message(queue, job.id) }
}

fn table(pairs: &[(&str, Value)]) -> Table {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Issue, §8 test 1. What comes back is told with other messages' confirms: none may be taken for it.
#[test]
fn two_tasks_publish_and_each_message_gets_the_word_on_itself() {
    let rabbit = Rabbit::start();
    let restored = Arc::new(Nothing::default());
    let stage = Stage::with(&rabbit, |_| {}, |_| Arc::clone(&restored) as _);
    for queue in 0..8 {
        stage.declare(&format!("queue.{queue}"), Table::new());
    }
    let tasks: Vec<_> = (0..2)
        .map(|task| {
            let publisher = Arc::clone(&stage.publisher);
            std::thread::spawn(move || {
                // Every hundredth, spread over the channels.
                let goes_nowhere = |n: usize| n % 100 == 37;
                let messages = (0..10_000).map(|n| {
                    let queue = if goes_nowhere(n) { format!("nowhere.{}", n % 7) } else { format!("queue.{}", n % 8) };
                    message(&queue, format!("{task}-{n}"))
                });
                // Half of them one by one, the others together.
                let (ones, together): (Vec<_>, Vec<_>) = messages.enumerate().partition(|(n, _)| n % 2 == 1);
                let numbers: Vec<_> = ones.iter().chain(&together).map(|(n, _)| *n).collect();
                let ones: Vec<_> = ones.into_iter().map(|(_, message)| publisher.publish(message)).collect();
                let together = publisher.publish_all(together.into_iter().map(|(_, message)| message).collect());
                let mut words: Vec<Word> = ones.into_iter().map(wait).collect();
                words.extend(wait(together));
                assert_eq!(words.len(), 10_000);
                for (n, word) in numbers.into_iter().zip(words) {
                    let is_right = match word {
                        Ok(()) => !goes_nowhere(n),
                        Err(PublishError::Unroutable) => goes_nowhere(n),
                        Err(_) => false,
                    };
                    assert!(is_right, "message {n} of task {task}: {word:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.join().unwrap();
    }
    let ready: usize = (0..8).map(|queue| stage.ready(&format!("queue.{queue}"))).sum();
    assert_eq!(ready, 2 * 9_900);
    assert_eq!(restored.0.load(Ordering::Relaxed), 200, "each was to be brought back once");
}

/// A queue that was deleted behind our back is declared again, and nobody is told.
#[test]
fn a_queue_that_is_gone_is_brought_back_for_all_that_was_on_its_way() {
    let rabbit = Rabbit::start();
    let returned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&returned);
    let hook = move |_: FailedJob| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let stage = Stage::with(
        &rabbit,
        |options| options.hooks.returned = Some(Arc::new(hook)),
        |link| Arc::new(Declares(Arc::clone(link))),
    );
    let jobs = |count| (0..count).map(|_| job_for("gone")).collect::<Vec<_>>();
    let ids: HashSet<String> = {
        let jobs = jobs(300);
        let ids = jobs.iter().map(|job| job.message_id.clone()).collect();
        assert!(stage.publish(jobs).iter().all(Result::is_ok));
        ids
    };
    assert_eq!(stage.ready("gone"), 300);
    assert_eq!(returned.load(Ordering::Relaxed), 300, "the program is told of each that came back");
    assert_eq!(stage.ids_in("gone").into_iter().collect::<HashSet<_>>(), ids);
    rabbit.delete_queue("gone");
    assert!(stage.publish(jobs(10)).iter().all(Result::is_ok));
    assert_eq!(stage.ready("gone"), 10);
}

/// Issue, §8 test 2.
#[test]
fn a_killed_server_has_what_it_has_confirmed_and_nothing_that_was_not_sent() {
    let mut rabbit = Rabbit::start();
    let stage = Stage::new(&rabbit, |options| options.connect_timeout = Duration::from_millis(500));
    stage.declare("q", Table::new());
    // RabbitMQ 3 writes what it knows of queues with a delay of some seconds, unlike messages. Later ones have no Mnesia.
    let _ = rabbit.try_eval("mnesia:sync_log()");
    let publisher = Arc::clone(&stage.publisher);
    let ends = Arc::new(AtomicUsize::new(0));
    let confirmed = Arc::clone(&ends);
    let publishing = std::thread::spawn(move || {
        let mut words: BTreeMap<String, Word> = BTreeMap::new();
        for round in 0.. {
            let ids: Vec<String> = (0..500).map(|n| format!("{round}-{n}")).collect();
            let answers = wait(publisher.publish_all(ids.iter().map(|id| message("q", id)).collect()));
            let mut is_over = false;
            for (id, word) in ids.into_iter().zip(answers) {
                match &word {
                    Ok(()) => drop(confirmed.fetch_add(1, Ordering::Relaxed)),
                    Err(PublishError::NotSent(_)) => is_over = true,
                    Err(_) => {}
                }
                words.insert(id, word);
            }
            if is_over {
                return words;
            }
        }
        words
    });
    goose_services::eventually("some thousands are confirmed", || ends.load(Ordering::Relaxed) > 3_000);
    rabbit.kill();
    let words = publishing.join().unwrap();
    rabbit.restart();
    let stored: HashSet<String> = stage.ids_in("q").into_iter().collect();
    let (mut lost, mut extra, mut unknown) = (0, 0, 0);
    for (id, word) in &words {
        match word {
            Ok(()) => lost += usize::from(!stored.contains(id)),
            Err(PublishError::Unknown(_)) => unknown += 1,
            Err(PublishError::NotSent(_)) => extra += usize::from(stored.contains(id)),
            Err(other) => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!((lost, extra), (0, 0), "of {}, {} stored, {unknown} unknown", words.len(), stored.len());
    // The same publisher goes on, when its connection stands again.
    let goes_on = || stage.publish(vec![message("q", "after")]).iter().all(Result::is_ok);
    goose_services::eventually("publishing goes on", goes_on);
}

/// Issue, §8 test 3.
#[test]
fn a_full_queue_is_told_job_by_job_and_is_asked_one_job_at_a_time() {
    let rabbit = Rabbit::start();
    let (sender, batches) = std::sync::mpsc::channel::<Vec<FailedJob>>();
    let sender = Mutex::new(sender);
    let stage = Stage::new(&rabbit, |options| {
        options.hooks.failed = Some(Arc::new(move |failed| sender.lock().send(failed).unwrap()));
    });
    let args = [("x-max-length", Value::Int(100)), ("x-overflow", Value::Text("reject-publish".to_owned()))];
    stage.declare("full", table(&args));
    let jobs: Vec<_> = (0..1_200).map(|_| job_for("full")).collect();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.message_id.parse().unwrap()).collect();
    let words = stage.publish(jobs);
    let refused: Vec<JobId> = ids
        .iter()
        .zip(&words)
        .filter_map(|(id, word)| match word {
            Ok(()) => None,
            Err(PublishError::Nacked) => Some(*id),
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    let stored = words.len() - refused.len();
    // The server counts what is on its way to the queue with some delay.
    assert!((100..150).contains(&stored), "{stored} stored");
    assert_eq!(stage.ready("full"), stored);
    let mut told: Vec<FailedJob> = Vec::new();
    let mut sizes = Vec::new();
    while told.len() < refused.len() {
        let batch = batches.recv_timeout(Duration::from_secs(10)).unwrap();
        sizes.push(batch.len());
        told.extend(batch);
    }
    assert!(
        told.iter().all(|failed| failed.reason() == FailureReason::Nacked && failed.job().unwrap().id == failed.id())
    );
    let sorted = |mut ids: Vec<JobId>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(told.iter().map(FailedJob::id).collect()), sorted(refused), "each once, and no other");
    // The window was closed when the last ones had their turn: those behind the first 1,024 and what followed the stored.
    assert!(sizes[0] >= 3 && sizes.iter().rev().take(1_200 - 1_024 - stored).all(|size| *size == 1), "{sizes:?}");
    assert!(batches.try_recv().is_err(), "nothing more");
    // Room again: all are taken, and the window opens.
    stage.ids_in("full");
    let words = stage.publish((0..90).map(|_| job_for("full")).collect());
    assert!(words.iter().all(Result::is_ok), "{words:?}");
}

/// Issue, §8 test 10.
#[test]
fn while_the_server_is_out_of_memory_publishers_are_blocked_and_acknowledgements_go_on() {
    let rabbit = Rabbit::start();
    let stage = Stage::new(&rabbit, |options| {
        options.blocked_timeout = Duration::from_millis(500);
        options.confirm_timeout = Duration::from_secs(2);
    });
    stage.declare("q", Table::new());
    assert!(stage.publish((0..10).map(|n| message("q", n)).collect()).iter().all(Result::is_ok));
    rabbit.memory_alarm(true);
    // The server blocks a connection when it publishes; what it had already begun to read stays without a word.
    let first = stage.publish(vec![message("q", "first")]).pop().unwrap();
    assert!(matches!(first, Err(PublishError::TimedOut | PublishError::Blocked(_))), "{first:?}");
    let began = Instant::now();
    let words = stage.publish((0..100).map(|n| message("q", format!("blocked-{n}"))).collect());
    assert!(
        words.iter().all(|word| matches!(word, Err(PublishError::Blocked(why)) if why.contains("memory"))),
        "{words:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let error = Error::from(stage.publish(vec![message("q", "x")]).pop().unwrap().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Blocked);
    // Acknowledgements are not held up.
    assert_eq!(stage.ids_in("q").len(), 10);
    rabbit.memory_alarm(false);
    goose_services::eventually("publishing goes on", || {
        stage.publish(vec![message("q", "after")]).pop().unwrap().is_ok()
    });
    let arrived = stage.ids_in("q");
    assert!(!arrived.iter().any(|id| id.starts_with("blocked-")), "what was not sent must not arrive: {arrived:?}");
}

/// What one message has done to the channel is not blamed on the others.
#[test]
fn a_missing_right_is_told_to_the_jobs_it_is_missing_for() {
    let rabbit = Rabbit::start();
    rabbit.add_user("writer", "secret", [".*", "^amq\\.default$|^allowed$", ".*"]);
    let stage = Stage::new(&rabbit, |options| options.urls = vec![rabbit.url_of("writer", "secret")]);
    stage.declare("q", Table::new());
    let link = Arc::clone(&stage.link);
    stage.run(async move {
        let channel = link.channel().await.unwrap();
        channel.declare_exchange("denied", crate::amqp::ExchangeKind::Fanout, &Table::new()).await.unwrap();
    });
    let to = |exchange: &str| Outgoing { exchange: exchange.into(), ..message("q", format!("to-{exchange}")) };
    let denied = Error::from(stage.publish(vec![to("denied")]).pop().unwrap().unwrap_err());
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:#}");
    // Not there, and nobody declares it: as if it could not be routed.
    rabbit.permit("writer", "/", [".*"; 3]);
    let missing = stage.publish(vec![to("missing")]).pop().unwrap();
    assert!(matches!(missing, Err(PublishError::Unroutable)), "{missing:?}");
    assert!(stage.publish(vec![message("q", 1)]).pop().unwrap().is_ok(), "the others go on");
}

#[test]
fn when_it_is_finished_all_has_its_word_and_nothing_more_is_taken() {
    let rabbit = Rabbit::start();
    let stage = Stage::new(&rabbit, |_| {});
    stage.declare("q", Table::new());
    let words = stage.publisher.publish_all((0..5_000).map(|n| message("q", n)).collect());
    let publisher = Arc::clone(&stage.publisher);
    stage.run(async move { publisher.finish(Duration::from_secs(30)).await });
    assert!(wait(words).iter().all(Result::is_ok));
    let late = stage.publish(vec![message("q", "late")]).pop().unwrap();
    assert!(matches!(&late, Err(PublishError::NotSent(error)) if error.kind() == ErrorKind::Closed), "{late:?}");
    assert_eq!(stage.ready("q"), 5_000);
}
