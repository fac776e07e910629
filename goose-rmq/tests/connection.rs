//! Opening the broker, losing its connections and closing it: what is refused and with which words, what heals, and what
//! is left behind.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod check;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use check::check;
use goose_core::broker::Broker;
use goose_core::{Error, ErrorKind, Job, JobName, Payload, QueueName};
use goose_rmq::{ConnectionEnd, RmqBroker, RmqOptions};
use goose_services::rabbit::Rabbit;
use goose_services::{Server, eventually, free_port, stranger};

/// What a connection is called that has no time to lose.
const SHORT: Duration = Duration::from_millis(400);

async fn refused(options: RmqOptions) -> Error {
    match options.clone().open().await {
        Ok(broker) => panic!("it was to be refused: {options:?} {broker:?}"),
        Err(error) => error,
    }
}

async fn refused_url(url: impl Into<String>) -> Error {
    refused(RmqOptions::new(url)).await
}

fn job() -> Job {
    Job::new(JobName::new("a").unwrap(), QueueName::default(), Payload::message_pack(vec![1]))
}

async fn enqueue(broker: &RmqBroker) -> Result<(), Error> {
    broker.enqueue(vec![job()]).await?.remove(0).into_result().map(drop)
}

/// Those of the library, by the name of their threads.
fn connections_of_this_process() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin-io-loop")).count()
}

async fn rest() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < end, "not within a minute: {what}");
        rest().await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached() {
    let port = free_port();
    let began = Instant::now();
    let error = refused_url(format!("amqp://127.0.0.1:{port}")).await;
    check(&error, ErrorKind::Unavailable, &["cannot connect", &format!("127.0.0.1:{port}"), "nobody listens there"]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let error = refused_url("amqp://no-such-host.invalid").await;
    check(&error, ErrorKind::Unavailable, &["no-such-host.invalid:5672", "name cannot be found"]);
    let error = refused_url(format!("amqp://[::1]:{port}")).await;
    check(&error, ErrorKind::Unavailable, &[&format!("cannot connect to [::1]:{port}")]);
}

#[tokio::test]
async fn somebody_else_listens_there() {
    let http = format!("amqp://127.0.0.1:{}", stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    check(&refused_url(http).await, ErrorKind::Misconfigured, &["no RabbitMQ server"]);
    let began = Instant::now();
    let silent = RmqOptions::new(format!("amqp://127.0.0.1:{}", stranger(b""))).connect_timeout(SHORT);
    check(&refused(silent).await, ErrorKind::Unavailable, &["does not answer within 400ms", "is it a RabbitMQ server"]);
    let redis = Server::start();
    let silent = RmqOptions::new(format!("amqp://127.0.0.1:{}", redis.port())).connect_timeout(SHORT);
    check(&refused(silent).await, ErrorKind::Unavailable, &["does not answer within 400ms"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Nothing waits for them any longer.
    until("the threads end", async || connections_of_this_process() == 0).await;
}

#[tokio::test]
async fn who_may_come_in() {
    let rabbit = Rabbit::start();
    rabbit.add_user("shop", "correct horse", ["^shop", "^shop|^amq\\.default$", "^shop"]);
    let error = refused(RmqOptions::new(rabbit.url()).username("shop").password("battery staple")).await;
    check(&error, ErrorKind::PermissionDenied, &["user name or the password", "ACCESS_REFUSED"]);
    assert!(!format!("{error:?}").contains("battery"), "{error:?}");
    let url = rabbit.url_of("shop", "correct%20horse");
    let error = refused_url(url.replace("%2f", "no-such-host")).await;
    check(&error, ErrorKind::PermissionDenied, &["no such virtual host", "%2f"]);
    let _ = rabbit.add_vhost("closed");
    let error = refused_url(url.replace("%2f", "closed")).await;
    check(&error, ErrorKind::PermissionDenied, &["this user may not use it"]);
    let broker = RmqOptions::new(&url).prefix("shop").open().await.unwrap();
    enqueue(&broker).await.unwrap();
    broker.close().await.unwrap();
    // A right that is missing is told by the call that needs it.
    let other = RmqOptions::new(&url).prefix("other").open().await.unwrap();
    let error = enqueue(&other).await.unwrap_err();
    check(&error, ErrorKind::PermissionDenied, &["refuses this user that right", "other"]);
    other.close().await.unwrap();
}

#[tokio::test]
async fn one_server_of_several_is_enough() {
    let rabbit = Rabbit::start();
    let away = format!("amqp://127.0.0.1:{}", free_port());
    let broker = RmqOptions::new(&away).server(&away).server(rabbit.url()).open().await.unwrap();
    enqueue(&broker).await.unwrap();
    broker.close().await.unwrap();
    // What somebody has to change is told, not that another one is away.
    let error = refused(RmqOptions::new(rabbit.url_of("guest", "wrong")).server(away)).await;
    check(&error, ErrorKind::PermissionDenied, &["password"]);
}

#[tokio::test]
async fn the_server_sees_who_is_connected_and_agrees_on_the_heartbeat() {
    let rabbit = Rabbit::start();
    let broker =
        RmqOptions::new(rabbit.url()).connection_name("shop").heartbeat(Duration::from_secs(7)).open().await.unwrap();
    let list = rabbit.eval("rabbit_networking:connection_info_all([client_properties, timeout])");
    for role in ["publish", "consume", "control"] {
        let name = format!("shop-{role}-{}", std::process::id());
        assert!(list.contains(&name), "{name}: {list}");
    }
    assert_eq!(list.matches("{timeout,7}").count(), 3, "{list}");
    broker.close().await.unwrap();
}

#[tokio::test]
async fn what_is_lost_is_made_again_and_the_program_is_told() {
    let mut rabbit = Rabbit::start();
    let ends = Arc::new(Mutex::new(Vec::<ConnectionEnd>::new()));
    let told = Arc::clone(&ends);
    let hook = move |end| told.lock().unwrap().push(end);
    let broker = RmqOptions::new(rabbit.url()).connect_timeout(SHORT).on_shutdown(hook).open().await.unwrap();
    enqueue(&broker).await.unwrap();
    rabbit.close_connections();
    until("all three are told of", async || ends.lock().unwrap().len() == 3).await;
    for end in ends.lock().unwrap().drain(..) {
        assert!(!end.is_closed() && end.reason().contains("CONNECTION_FORCED"), "{end:?}");
    }
    until("it goes on", async || enqueue(&broker).await.is_ok()).await;
    rabbit.kill();
    until("it is noticed", async || ends.lock().unwrap().len() == 3).await;
    let error = enqueue(&broker).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, &["no connection", "nobody listens there"]);
    rabbit.restart();
    until("it goes on after a restart", async || enqueue(&broker).await.is_ok()).await;
    // So that all three stand, and no fourth attempt is told of.
    until("all are connected", async || rabbit.connections() == 3).await;
    ends.lock().unwrap().clear();
    broker.close().await.unwrap();
    let ends = ends.lock().unwrap();
    assert!(ends.len() == 3 && ends.iter().all(ConnectionEnd::is_closed), "{ends:?}");
}

#[tokio::test]
async fn closing_leaves_nothing_behind() {
    let rabbit = Rabbit::start();
    for _ in 0..3 {
        let broker = RmqBroker::connect(&rabbit.url()).await.unwrap();
        enqueue(&broker).await.unwrap();
        assert_eq!(rabbit.connections(), 3);
        broker.close().await.unwrap();
        check(&enqueue(&broker).await.unwrap_err(), ErrorKind::Closed, &["closed"]);
    }
    // Also when nobody says goodbye.
    let broker = RmqBroker::connect(&rabbit.url()).await.unwrap();
    enqueue(&broker).await.unwrap();
    drop(broker);
    eventually("the server has no connections", || rabbit.connections() == 0);
    assert!(!rabbit.log().contains("unexpectedly closed") || rabbit.connections() == 0);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_server_that_hangs_or_blocks() {
    let rabbit = Rabbit::start();
    let open = || RmqOptions::new(rabbit.url()).confirm_timeout(SHORT).blocked_timeout(SHORT).open();
    let broker = open().await.unwrap();
    enqueue(&broker).await.unwrap();
    rabbit.memory_alarm(true);
    // The first one may have been under way when the server began to block.
    until("it blocks", async || enqueue(&broker).await.is_err_and(|error| error.kind() == ErrorKind::Blocked)).await;
    let began = Instant::now();
    broker.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?} while it blocks", began.elapsed());
    rabbit.memory_alarm(false);
    let broker = open().await.unwrap();
    rabbit.pause();
    let began = Instant::now();
    broker.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?} while it hangs", began.elapsed());
    rabbit.resume();
}
