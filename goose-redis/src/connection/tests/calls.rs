//! What a call answers, and what is sent again.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Fake, Server, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_through_unchanged_and_commands_find_their_key() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let blob: Bytes = (0..=255).collect::<Vec<u8>>().repeat(5_000).into();
    let reply = link.eval(Lane::Data, &ECHO, key("a"), vec![blob.clone()]).await.unwrap();
    assert_eq!(reply.into_array().unwrap()[1].clone().into_bytes().unwrap(), blob);
    let added = link.command(Lane::Beat, "SADD", Some("set".into()), vec!["mail".into(), "sms".into()]).await.unwrap();
    assert_eq!(added.into_int().unwrap(), 2);
    let nothing = link.command(Lane::Data, "HGET", Some("hash".into()), vec!["field".into()]).await.unwrap();
    assert_eq!(nothing, Reply::Nil);
    assert!(!link.topology().is_cluster());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_script_is_given_to_the_server_again() {
    let server = Server::start();
    let link = connect(server.url()).await;
    for n in 1..=20 {
        assert_eq!(server.ask(&["SCRIPT", "FLUSH"]), "OK");
        assert_eq!(count(&*link, "n").await.unwrap(), n, "each ran once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_refusals_come_as_kinds_that_say_what_to_do() {
    let server = Server::start();
    let link = connect(server.url()).await;
    server.ask(&["SET", "text", "no number"]);
    server.ask(&["RPUSH", "goose:{mail}:jobs", "x"]);

    let error = count(&*link, "goose:{mail}:jobs").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("the script `count` on goose:{mail}:jobs"), "{error}");

    let error = count(&*link, "text").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:#}");

    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.is_retryable());
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);

    server.ask(&["ACL", "SETUSER", "default", "-evalsha"]);
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    server.ask(&["ACL", "SETUSER", "default", "+evalsha", "resetkeys", "~other:*"]);
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:#}");
    server.ask(&["ACL", "SETUSER", "default", "allkeys"]);
    assert_eq!(count(&*link, "n").await.unwrap(), 1, "none of the refused calls had an effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_is_left_for_the_primary_and_the_call_goes_through_once() {
    let (server, other) = (Server::start(), Server::start());
    let link = connect(server.url()).await;
    assert_eq!(count(&*link, "before").await.unwrap(), 1);
    // READONLY without a disconnect.
    server.ask(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let call = begin_count(&link, "n");
    eventually("the call met the replica and the connection was replaced", || link.health().reconnects > 0);
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

/// The client crate's own handling of these errors ends the connection and answers every call in flight with them,
/// also those that were executed; a second sending would then run them twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_one_call_is_not_taken_for_the_error_of_another() {
    for refusal in ["-LOADING Redis is loading", "-READONLY You can't write", "-NOAUTH Authentication required."] {
        let (came, has_come) = mpsc::channel();
        let fake = Fake::start(move |_, words| {
            let is_first_time = came.send(words[3].clone()).is_ok();
            match words[3].as_str() {
                // Both answers leave in one write, after both calls have come in.
                "second" => Some(format!("{refusal}\r\n:2\r\n")),
                _ if is_first_time => None,
                _ => Some(":7\r\n".to_owned()),
            }
        });
        let link = connect(fake.url()).await;
        let first = begin_count(&link, "first");
        assert_eq!(has_come.recv_timeout(Duration::from_secs(5)).unwrap(), "first");
        drop(has_come);
        let second = begin_count(&link, "second");
        assert_eq!(first.await.unwrap().unwrap(), 7, "{refusal}: the refused one was sent again");
        assert_eq!(second.await.unwrap().unwrap(), 2, "{refusal}: the executed one was not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_are_waited_for_within_the_time_of_the_call() {
    let mut answers = ["-TRYAGAIN Multiple keys", "-BUSY Redis is busy", "-NOREPLICAS Not enough", ":1"].iter();
    let fake = Fake::start(move |_, _| answers.next().map(|answer| format!("{answer}\r\n")));
    let link = connect(fake.url()).await;
    assert_eq!(count(&*link, "n").await.unwrap(), 1);

    let fake = Fake::start(|_, _| Some("-LOADING Redis is loading the dataset in memory\r\n".to_owned()));
    let link = connect_with(RedisOptions::new(fake.url()).command_timeout(Duration::from_millis(400))).await;
    let begun = Instant::now();
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_future_is_dropped_goes_on() {
    let server = Server::start();
    let link = connect(server.url()).await;
    server.pause();
    drop(begun(&*link, count(&*link, "n")).await);
    server.resume();
    eventually("the call took effect", || server.ask(&["GET", "n"]) == "1");
}

/// More calls than may be on their way at once: they wait, none fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_when_too_many_are_on_their_way() {
    let server = Server::start();
    let link = connect_with(RedisOptions::new(server.url()).command_timeout(Duration::from_secs(60))).await;
    server.pause();
    let calls: Vec<_> = (0..10_500).map(|_| begin_count(&link, "n")).collect();
    server.resume();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.ask(&["GET", "n"]), "10500");
}
