//! Closing: quick in every situation, and nothing is left behind.

use std::process::Command;
use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Server, eventually};

async fn close_in_time(link: &dyn Link) {
    let begun = Instant::now();
    link.close().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_blocked_ends_everything_within_a_second() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    let wait = tokio::spawn(async move { waiter.wait(&key("marker"), Duration::from_secs(30)).await });
    let task = link.spawn(Box::pin(std::future::pending()));
    eventually("it waits", || server.clients().iter().any(|line| line.contains("cmd=bzpopmin")));
    close_in_time(&*link).await;
    assert_eq!(wait.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(task.await.unwrap_err().is_cancelled());
    eventually("the server has no clients any more", || server.clients().is_empty());
    assert_eq!(count(&*link, "n").await.unwrap_err().kind(), ErrorKind::Closed);
    let mut late = link.waiter().await.unwrap();
    assert_eq!(late.wait(&key("marker"), Duration::from_secs(1)).await.unwrap_err().kind(), ErrorKind::Closed);
    close_in_time(&*link).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_the_server_hangs_tells_what_is_unknown() {
    let server = Server::start();
    let link = connect(server.url()).await;
    server.pause();
    let once = begun(&*link, count(&*link, "n")).await;
    let always = begun(&*link, link.eval(Lane::Data, &COUNT_ALWAYS, key("n"), Vec::new())).await;
    close_in_time(&*link).await;
    server.resume();
    assert_eq!(once.await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(always.await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_it_tries_to_connect_ends_within_a_second() {
    let mut server = Server::start();
    let link = connect(server.url()).await;
    server.kill();
    eventually("the loss of both is noticed", || link.health().reconnects >= 2);
    let call = begun(&*link, count(&*link, "n")).await;
    close_in_time(&*link).await;
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Closed, "nothing had been sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_link_or_a_waiter_closes_their_connections_too() {
    let server = Server::start();
    let link = connect(server.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(200), waiter.wait(&key("m"), Duration::from_secs(30))).await;
    eventually("there are three connections", || server.clients().len() == 3);
    drop(waiter);
    eventually("the waiter's is gone", || server.clients().len() == 2);
    let waiter = link.waiter().await.unwrap();
    eventually("another waiter connects", || server.clients().len() == 3);
    waiter.close().await;
    eventually("it is gone as well", || server.clients().len() == 2);
    drop(link);
    eventually("all are gone", || server.clients().is_empty());
}

/// Opens and closes many times and counts what the process holds. Runs in a process of its own, for other tests open
/// files too.
#[test]
fn nothing_is_left_open_after_closing() {
    const CHILD: &str = "GOOSE_TEST_COUNT_FILES";
    if std::env::var_os(CHILD).is_none() {
        let name = "connection::tests::close::nothing_is_left_open_after_closing";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cycle = |hangs: bool| {
        runtime.block_on(async {
            let link = connect(server.url()).await;
            let mut waiter = link.waiter().await.unwrap();
            let markers = key("m");
            let wait = waiter.wait(&markers, Duration::from_secs(30));
            assert!(tokio::time::timeout(Duration::from_millis(50), wait).await.is_err());
            if hangs {
                server.pause();
                let _ = tokio::time::timeout(Duration::from_millis(20), count(&*link, "n")).await;
            }
            link.close().await;
            if hangs {
                server.resume();
            }
        });
    };
    let held = || (entries("/proc/self/fd"), entries("/proc/self/task"));
    cycle(false);
    cycle(true);
    let before = held();
    for round in 0..10 {
        cycle(round % 2 == 1);
    }
    eventually("files and threads are what they were", || {
        let now = held();
        now.0 <= before.0 && now.1 <= before.1
    });
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
