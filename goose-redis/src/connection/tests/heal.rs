//! Servers that go away and come back.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Server, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_is_used_within_two_seconds() {
    let mut server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    assert_eq!(count(&*link, "n").await.unwrap(), 1);
    for _ in 0..3 {
        server.kill();
        // Longer and longer pauses between attempts must not make it slow to find the server again.
        goose_services::rest(Duration::from_millis(2500));
        let waiting = begin_count(&link, "n");
        server.restart();
        let back = Instant::now();
        assert_eq!(waiting.await.unwrap().unwrap(), 1, "a call that waited for the connection ran once");
        let beat = link.eval(Lane::Beat, &COUNT_ALWAYS, key("b"), Vec::new()).await.unwrap();
        assert_eq!(beat.into_int().unwrap(), 1);
        assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
        server.ask(&["ZADD", "marker", "0", "1"]);
        let woken = waiter.wait(&key("marker"), Duration::from_secs(5)).await.unwrap();
        assert_eq!(woken.as_deref(), Some(&b"marker"[..]));
    }
    let health = link.health();
    assert!(health.connected && health.reconnects >= 3 && health.last_error.is_some(), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_a_call_ends_in_time_and_says_that_nothing_was_written() {
    let mut server = Server::start();
    let link = connect_with(RedisOptions::new(server.url()).command_timeout(Duration::from_millis(500))).await;
    server.kill();
    eventually("the loss of both is noticed", || link.health().reconnects >= 2);
    let begun = Instant::now();
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_for_three_seconds_only_delays() {
    let server = Server::start();
    let link = connect(server.url()).await;
    assert_eq!(count(&*link, "n").await.unwrap(), 1);
    server.pause();
    let call = begin_count(&link, "n");
    let begun = Instant::now();
    // A third of the lease is over before the server wakes: a heartbeat says so and does not hang.
    let late = link.eval(Lane::Beat, &COUNT_ALWAYS, key("b"), Vec::new()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::OutcomeUnknown, "{late:#}");
    assert!(begun.elapsed() < Duration::from_millis(2900), "{:?}", begun.elapsed());
    goose_services::rest(Duration::from_secs(3).saturating_sub(begun.elapsed()));
    server.resume();
    assert_eq!(call.await.unwrap().unwrap(), 2, "the call ran once");
    let resumed = Instant::now();
    link.eval(Lane::Beat, &COUNT_ALWAYS, key("b"), Vec::new()).await.unwrap();
    assert!(resumed.elapsed() < Duration::from_secs(2), "{:?}", resumed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed_is_said_at_once_and_healed_when_it_is_set_right() {
    let mut server = Server::with(&["--requirepass", "old"]);
    server.user = Some(("default".into(), "old".into()));
    let link = connect_with(RedisOptions::new(server.url()).password("old")).await;
    server.ask(&["CONFIG", "SET", "requirepass", "new"]);
    server.user = Some(("default".into(), "new".into()));
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    let begun = Instant::now();
    let mut kind = None;
    while begun.elapsed() < Duration::from_secs(5) && kind != Some(ErrorKind::PermissionDenied) {
        let error = link.eval(Lane::Data, &COUNT_ALWAYS, key("n"), Vec::new()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("old"), "{error:?}");
        kind = Some(error.kind());
    }
    assert_eq!(kind, Some(ErrorKind::PermissionDenied));
    server.ask(&["CONFIG", "SET", "requirepass", "old"]);
    within(Duration::from_secs(2), "it connects again", || link.health().connected);
    count(&*link, "m").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_of_the_server_is_killed_again_and_again_and_nothing_runs_twice() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let (mut done, mut unknown) = (0, 0);
    for round in 0..200 {
        if round % 20 == 10 {
            server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        match count(&*link, "n").await {
            Ok(_) => done += 1,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => unknown += 1,
            Err(error) => panic!("{error:#}"),
        }
    }
    let ran: i64 = server.ask(&["GET", "n"]).parse().unwrap();
    assert!(done <= ran && ran <= done + unknown, "{done} answered, {unknown} unknown, {ran} ran");
    assert!(unknown <= 10, "{unknown} of 200");
}
