//! A cluster of real servers, put together by hand so that it needs no tool besides the server.

use std::time::Duration;

use crate::server::Server;

const SLOTS: usize = 16_384;

/// Primaries first, then as many replicas: the replica of node `n` is node `n + primaries`.
#[derive(Debug)]
pub struct Cluster {
    /// All of them.
    pub nodes: Vec<Server>,
    primaries: usize,
}

impl Cluster {
    /// So many primaries, each with a replica or without.
    #[must_use]
    pub fn start(primaries: usize, with_replicas: bool) -> Self {
        let count = if with_replicas { primaries * 2 } else { primaries };
        let settings =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-ping-replica-period", "1"];
        let nodes: Vec<Server> = (0..count).map(|_| Server::with(&settings)).collect();
        let cluster = Self { nodes, primaries };
        for (n, node) in cluster.nodes.iter().enumerate() {
            assert_eq!(node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]), "OK");
            if n < primaries {
                let slots: Vec<String> = cluster.slots_of(n).map(|slot| slot.to_string()).collect();
                let words: Vec<&str> =
                    ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
                assert_eq!(node.ask(&words), "OK");
            }
            cluster.nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        crate::eventually("all nodes know each other", || {
            cluster
                .nodes
                .iter()
                .all(|node| node.ask(&["CLUSTER", "INFO"]).contains(&format!("cluster_known_nodes:{count}")))
        });
        for n in primaries..count {
            let primary = cluster.id(n - primaries);
            crate::eventually("the replica knows its primary", || {
                cluster.nodes[n].ask(&["CLUSTER", "REPLICATE", &primary]) == "OK"
            });
        }
        cluster.wait_until_ok();
        for n in primaries..count {
            crate::within(Duration::from_secs(20), "the replica is in sync", || {
                cluster.nodes[n].ask(&["INFO", "replication"]).contains("master_link_status:up")
            });
        }
        cluster
    }

    /// The slots that a primary has at first.
    #[must_use]
    pub fn slots_of(&self, primary: usize) -> std::ops::Range<usize> {
        let bound = |n: usize| n * SLOTS / self.primaries;
        bound(primary)..bound(primary + 1)
    }

    /// What a node calls itself.
    #[must_use]
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"])
    }

    /// A URL with every node.
    #[must_use]
    pub fn url(&self) -> String {
        let others: Vec<_> = self.nodes[1..].iter().map(|node| format!("node=127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://127.0.0.1:{}?{}", self.nodes[0].port(), others.join("&"))
    }

    /// Waits until every node finds that all is well.
    pub fn wait_until_ok(&self) {
        crate::within(Duration::from_secs(20), "every node finds the cluster in order", || {
            self.nodes.iter().all(|node| {
                node.try_ask(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
                    && node.ask(&["CLUSTER", "SLOTS"]).lines().count() >= self.primaries
            })
        });
    }
}
