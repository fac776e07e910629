//! Waiting for wake markers.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Server, eventually};

fn blocked(server: &Server) -> usize {
    server.clients().iter().filter(|line| line.contains("cmd=bzpopmin") && line.contains("flags=b")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_wakes_one_waiter_at_once_and_is_taken() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let waits: Vec<_> = (0..2)
        .map(|_| {
            let link = Arc::clone(&link);
            tokio::spawn(async move {
                let mut waiter = link.waiter().await.unwrap();
                let markers = [Bytes::from("a"), Bytes::from("b")];
                (waiter.wait(&markers, Duration::from_secs(2)).await.unwrap(), Instant::now())
            })
        })
        .collect();
    eventually("both wait", || blocked(&server) == 2);
    let set = Instant::now();
    server.ask(&["ZADD", "b", "0", "1"]);
    let mut woken = Vec::new();
    for wait in waits {
        woken.push(wait.await.unwrap());
    }
    woken.sort_by_key(|(_, at)| *at);
    assert_eq!(woken[0].0.as_deref(), Some(&b"b"[..]));
    assert!(woken[0].1 - set < Duration::from_millis(500), "{:?}", woken[0].1 - set);
    assert_eq!(woken[1].0, None, "one marker wakes one waiter");
    assert_eq!(server.ask(&["EXISTS", "b"]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_at_its_limit_and_other_calls_are_not_held_up_by_it() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    let markers = key("marker");
    let begun = Instant::now();
    let wait = waiter.wait(&markers, Duration::from_millis(700));
    let calls = async {
        for _ in 0..50 {
            count(&*link, "n").await.unwrap();
        }
        begun.elapsed()
    };
    let (woken, calls_took) = tokio::join!(wait, calls);
    assert_eq!(woken.unwrap(), None);
    assert!(calls_took < Duration::from_millis(600), "{calls_took:?}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(690) && took < Duration::from_millis(1500), "{took:?}");
    for short in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(1), Duration::from_millis(2)] {
        let begun = Instant::now();
        assert_eq!(waiter.wait(&markers, short).await.unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(1), "{short:?} became {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_wait_loses_no_marker_and_keeps_nobody_waiting() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    let markers = key("marker");
    let dropped =
        tokio::time::timeout(Duration::from_millis(100), waiter.wait(&markers, Duration::from_secs(20))).await;
    assert!(dropped.is_err());
    eventually("the server still waits", || blocked(&server) == 1);
    server.ask(&["ZADD", "marker", "0", "1"]);
    eventually("the server gave the marker away", || server.ask(&["EXISTS", "marker"]) == "0");
    let woken = waiter.wait(&markers, Duration::from_secs(1)).await.unwrap();
    assert!(woken.is_some(), "the next wait gets it");

    let _ = tokio::time::timeout(Duration::from_millis(100), waiter.wait(&markers, Duration::from_secs(20))).await;
    let begun = Instant::now();
    assert_eq!(waiter.wait(&markers, Duration::from_millis(300)).await.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}: its own limit counts", begun.elapsed());

    // Other markers: the old wait is given up, the server does not get to the new one after twenty seconds.
    server.ask(&["ZADD", "other", "0", "1"]);
    let woken = waiter.wait(&key("other"), Duration::from_secs(10)).await.unwrap();
    assert!(woken.is_some());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(blocked(&server), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_the_server_ends_is_not_an_error() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    let wait = tokio::spawn(async move { waiter.wait(&key("marker"), Duration::from_secs(20)).await });
    eventually("it waits", || blocked(&server) == 1);
    let clients = server.clients();
    let line = clients.iter().find(|line| line.contains("cmd=bzpopmin")).unwrap();
    let id = line.split(' ').next().unwrap().trim_start_matches("id=").to_owned();
    server.ask(&["CLIENT", "UNBLOCK", &id, "ERROR"]);
    assert_eq!(wait.await.unwrap().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_forbidden_says_so_at_once() {
    let server = Server::start();
    let link = connect(server.url()).await;
    server.ask(&["ACL", "SETUSER", "default", "-bzpopmin"]);
    let mut waiter = link.waiter().await.unwrap();
    let error = waiter.wait(&key("marker"), Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = waiter.wait(&[], Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}
