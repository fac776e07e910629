//! A primary behind Sentinels: found, and found again after a failover.

use std::time::{Duration, Instant};

use super::*;
use crate::connection::Topology;
use goose_services::{Watched, within};

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
