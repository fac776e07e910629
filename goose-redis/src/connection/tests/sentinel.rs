//! A primary behind Sentinels: found, and found again after a failover.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use crate::connection::Topology;
use goose_services::{Watched, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_primary_is_killed_the_new_one_is_used() {
    let mut watched = Watched::start();
    let link = connect(watched.url()).await;
    assert_eq!(link.topology(), Topology::Sentinel);
    assert_eq!(count(&*link, "n").await.unwrap(), 1);
    watched.primary.kill();
    goes_on(&watched, &*link).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_primary_hangs_the_new_one_is_used() {
    let watched = Watched::start();
    let link = connect(watched.url()).await;
    assert_eq!(count(&*link, "n").await.unwrap(), 1);
    // One of the Sentinels hangs as well: it accepts, and says nothing.
    watched.sentinels[0].pause();
    watched.primary.pause();
    goes_on(&watched, &*link).await;
    watched.primary.resume();
    watched.sentinels[0].resume();
}

/// Nobody hangs up, and a call for jobs may wait for 10 s. Heartbeats know earlier, and lead the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_waits_follow_the_heartbeats_to_the_new_primary() {
    let watched = Watched::with(4_000, &[]);
    let link = connect(watched.url()).await;
    assert_eq!(count(&*link, "n").await.unwrap(), 1);
    let mut waiter = link.waiter().await.unwrap();
    eventually("the replica has it", || watched.replica.ask(&["GET", "n"]) == "1");
    watched.primary.pause();
    let call = begin_count(&link, "n");
    let wait = tokio::spawn(async move { waiter.wait(&key("marker"), Duration::from_secs(30)).await });
    let mut beat = Err(());
    let begun = Instant::now();
    while beat.is_err() || watched.primary_port() != Some(watched.replica.port()) {
        assert!(begun.elapsed() < Duration::from_secs(40), "no other server took over");
        beat = link.eval(Lane::Beat, &COUNT_ALWAYS, key("b"), Vec::new()).await.map_err(drop);
    }
    let lost = tokio::time::timeout(Duration::from_secs(2), call).await.expect("the call is given up in time");
    assert_eq!(lost.unwrap().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let counted = tokio::time::timeout(Duration::from_secs(2), count(&*link, "n")).await.expect("it goes on in time");
    assert_eq!(counted.unwrap(), 2);
    within(Duration::from_secs(2), "the wait goes on there", || {
        watched.replica.ask(&["ZADD", "marker", "0", "1"]);
        wait.is_finished()
    });
    assert!(wait.await.unwrap().unwrap().is_some());
    watched.primary.resume();
    link.close().await;
}

async fn goes_on(watched: &Watched, link: &dyn Link) {
    // A Sentinel that promotes it closes its clients' connections, this one among them.
    within(Duration::from_secs(20), "the replica takes over", || {
        watched.replica.try_ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("role:master"))
    });
    let begun = Instant::now();
    let mut errors = Vec::new();
    while let Err(error) = link.eval(Lane::Data, &COUNT_ALWAYS, key("n"), Vec::new()).await {
        errors.push(format!("{error:#}"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{errors:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?} {errors:?}", begun.elapsed());
    assert!(watched.replica.ask(&["GET", "n"]).parse::<i64>().unwrap() >= 2);
    link.close().await;
}
