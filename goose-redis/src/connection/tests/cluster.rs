//! A cluster: every key to its node, moved slots, and failovers.

use std::time::{Duration, Instant};

use goose_core::ErrorKind;

use super::*;
use goose_services::{Cluster, eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_find_their_nodes_and_follow_when_a_slot_moves() {
    let cluster = Cluster::start(3, false);
    let link = connect(cluster.url()).await;
    assert!(link.topology().is_cluster());
    let mut used = [false; 3];
    for n in 0..30 {
        let name = format!("goose:{{q{n}}}:jobs");
        assert_eq!(count(&*link, &name).await.unwrap(), 1);
        let slot = usize::from(link.topology().slot_of(name.as_bytes()).unwrap());
        let owner = (0..3).find(|node| cluster.slots_of(*node).contains(&slot)).unwrap();
        assert_eq!(cluster.nodes[owner].ask(&["GET", &name]), "1");
        used[owner] = true;
    }
    assert_eq!(used, [true; 3]);
    for node in &cluster.nodes {
        node.ask(&["SCRIPT", "FLUSH"]);
    }
    for n in 0..30 {
        assert_eq!(count(&*link, &format!("goose:{{q{n}}}:jobs")).await.unwrap(), 2);
    }

    // A slot that is empty moves; the client's table is then wrong, and the node says MOVED.
    let name = "goose:{moving}:jobs";
    let slot = usize::from(link.topology().slot_of(name.as_bytes()).unwrap());
    let from = (0..3).find(|node| cluster.slots_of(*node).contains(&slot)).unwrap();
    let to = (from + 1) % 3;
    let (slot, target) = (slot.to_string(), cluster.id(to));
    for node in [to, from] {
        assert_eq!(cluster.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]), "OK");
    }
    for n in 1..=5 {
        assert_eq!(count(&*link, name).await.unwrap(), n, "a redirected call runs once and is no error");
    }
    assert_eq!(cluster.nodes[to].ask(&["GET", name]), "5");

    let mut waiter = link.waiter().await.unwrap();
    cluster.nodes[to].ask(&["ZADD", name.replace("jobs", "wake").as_str(), "0", "1"]);
    assert!(waiter.wait(&key("goose:{moving}:wake"), Duration::from_secs(10)).await.unwrap().is_some());
    let across = [Bytes::from("{a}"), Bytes::from("{b}")];
    assert_eq!(waiter.wait(&across, Duration::from_secs(1)).await.unwrap_err().kind(), ErrorKind::Internal);
    link.close().await;
}

/// A slot under way: first the old owner asks to try elsewhere, in the end the slot is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_a_slot_that_is_being_moved() {
    let cluster = Cluster::start(3, false);
    let link = connect(cluster.url()).await;
    let name = "goose:{moving}:jobs";
    let slot = usize::from(link.topology().slot_of(name.as_bytes()).unwrap());
    let from = (0..3).find(|node| cluster.slots_of(*node).contains(&slot)).unwrap();
    let to = (from + 1) % 3;
    let slot = slot.to_string();
    let (source, target) = (cluster.id(from), cluster.id(to));
    cluster.nodes[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    cluster.nodes[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    let call = begin_count(&link, name);
    eventually("the old owner said ASK", || cluster.nodes[from].ask(&["INFO", "errorstats"]).contains("errorstat_ASK"));
    assert!(!call.is_finished());
    for node in [to, from] {
        cluster.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    }
    assert_eq!(call.await.unwrap().unwrap(), 1);
    link.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_primary_is_killed_its_replica_is_used() {
    let mut cluster = Cluster::start(3, true);
    // The node that the URL names first is the one that dies.
    let link = connect(cluster.url()).await;
    let name = name_on(&cluster, &*link, 0);
    count_and_replicate(&cluster, &*link, &name).await;
    cluster.nodes[0].kill();
    goes_on(&cluster, &*link, &name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_primary_hangs_its_replica_is_used() {
    let cluster = Cluster::start(3, true);
    let link = connect(cluster.url()).await;
    let name = name_on(&cluster, &*link, 0);
    count_and_replicate(&cluster, &*link, &name).await;
    cluster.nodes[0].pause();
    goes_on(&cluster, &*link, &name).await;
    cluster.nodes[0].resume();
}

/// Replication is asynchronous: a failover loses what the replica does not have yet.
async fn count_and_replicate(cluster: &Cluster, link: &dyn Link, name: &str) {
    count(link, name).await.unwrap();
    eventually("the replica has it", || cluster.nodes[3].ask(&["INFO", "keyspace"]).contains("db0:keys=1,"));
}

fn name_on(cluster: &Cluster, link: &dyn Link, node: usize) -> String {
    let owned = |name: &String| {
        cluster.slots_of(node).contains(&usize::from(link.topology().slot_of(name.as_bytes()).unwrap()))
    };
    (0..).map(|n| format!("goose:{{q{n}}}:jobs")).find(owned).unwrap()
}

async fn goes_on(cluster: &Cluster, link: &dyn Link, name: &str) {
    within(Duration::from_secs(20), "the replica takes over", || {
        cluster.nodes[3].ask(&["INFO", "replication"]).contains("role:master")
    });
    let begun = Instant::now();
    let mut errors = Vec::new();
    while let Err(error) = link.eval(Lane::Data, &COUNT_ALWAYS, key(name), Vec::new()).await {
        errors.push(format!("{error:#}"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{errors:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?} {errors:?}", begun.elapsed());
    eventually("the new primary has it", || cluster.nodes[3].ask(&["GET", name]).parse::<i64>().unwrap() >= 2);
    link.close().await;
}
