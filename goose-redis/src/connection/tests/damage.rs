//! Links that are slow, cut, or swallow everything.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Mode, Proxy, Server, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_an_unknown_outcome_and_never_a_second_run() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect(proxy.url()).await;
    for n in 1..=3 {
        // Everything else has been said by then, so the answer that is cut is that of this call.
        eventually("both connections are named", || {
            server.clients().iter().filter(|line| line.contains(" name=goose-")).count() == 2
        });
        proxy.set(Mode::CutAnswer);
        let error = count(&*link, "n").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:#}");
        assert_eq!(proxy.cut(), n);
        assert_eq!(server.ask(&["GET", "n"]), n.to_string(), "it ran once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_run_twice_is_sent_again_when_its_answer_is_lost() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect(proxy.url()).await;
    eventually("both connections are named", || {
        server.clients().iter().filter(|line| line.contains(" name=goose-")).count() == 2
    });
    proxy.set(Mode::CutAnswer);
    let reply = link.eval(Lane::Data, &COUNT_ALWAYS, key("n"), Vec::new()).await.unwrap();
    assert_eq!((reply.into_int().unwrap(), proxy.cut()), (2, 1), "the second sending counted again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_swallows_steady_traffic_is_replaced_after_the_time_of_a_call() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect_with(RedisOptions::new(proxy.url()).command_timeout(Duration::from_secs(3))).await;
    count(&*link, "n").await.unwrap();
    proxy.set(Mode::Swallow);
    let begun = Instant::now();
    // A write every 100 ms hides the hang from the client crate's own check, which counts from the last write.
    let steady: Vec<_> = (0..20)
        .map(|_| {
            goose_services::rest(Duration::from_millis(100));
            begin_count(&link, "n")
        })
        .collect();
    within(Duration::from_secs(5), "the hang is noticed", || !link.health().connected);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    proxy.set(Mode::Pass);
    let mut kinds = Vec::new();
    for call in steady {
        kinds.push(call.await.unwrap().map_err(|error| error.kind()));
    }
    assert_eq!(kinds[0], Err(ErrorKind::OutcomeUnknown), "{kinds:?}");
    // An attempt to connect that fell into the hole must time out first.
    within(Duration::from_secs(12), "it connects again", || link.health().connected);
    count(&*link, "m").await.unwrap();
}

/// A single call with a long limit, then silence: what the unresponsive check is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_swallows_one_call_is_noticed_long_before_a_generous_limit() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect_with(RedisOptions::new(proxy.url()).command_timeout(Duration::from_secs(60))).await;
    count(&*link, "n").await.unwrap();
    proxy.set(Mode::Swallow);
    let begun = Instant::now();
    let error = count(&*link, "n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:#}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_heartbeat_makes_for_a_new_connection_within_a_third_of_the_lease() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect_with(RedisOptions::new(proxy.url()).lease(Duration::from_millis(1500))).await;
    proxy.set(Mode::Swallow);
    let begun = Instant::now();
    link.eval(Lane::Beat, &COUNT_ALWAYS, key("b"), Vec::new()).await.unwrap_err();
    within(Duration::from_secs(1), "the connection is given up", || link.health().reconnects > 0);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_on_a_link_that_swallows_everything_ends_soon_after_its_limit() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect(proxy.url()).await;
    let mut waiter = link.waiter().await.unwrap();
    server.ask(&["ZADD", "marker", "0", "1"]);
    assert!(waiter.wait(&key("marker"), Duration::from_secs(15)).await.unwrap().is_some(), "it is connected");
    proxy.set(Mode::Swallow);
    let begun = Instant::now();
    let error = waiter.wait(&key("marker"), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a wait has no outcome to be unknown: {error:#}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    proxy.set(Mode::Pass);
    server.ask(&["ZADD", "marker", "0", "1"]);
    let woken = waiter.wait(&key("marker"), Duration::from_secs(15)).await.unwrap();
    assert!(woken.is_some(), "it waits on a new connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_a_slow_link_travel_together() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect(proxy.url()).await;
    proxy.delay(Duration::from_millis(100));
    let begun = Instant::now();
    let calls: Vec<_> = (0..100).map(|_| begin_count(&link, "n")).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?} for 100 calls of 200 ms", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_reset_over_and_over_loses_no_repeatable_call() {
    let server = Server::start();
    let proxy = Proxy::to(server.port());
    let link = connect(proxy.url()).await;
    for _ in 0..5 {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let link = Arc::clone(&link);
                tokio::spawn(async move { link.eval(Lane::Data, &COUNT_ALWAYS, key("n"), Vec::new()).await })
            })
            .collect();
        proxy.reset();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }
    let ran: i64 = server.ask(&["GET", "n"]).parse().unwrap();
    assert!(ran >= 100, "{ran}");
}
