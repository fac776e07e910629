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
        Self::with(primaries, with_replicas, &[])
    }

    /// The same with further settings for every node, as `--name value`. A node counts as gone after 1,000 ms,
    /// unless they say otherwise.
    #[must_use]
    pub fn with(primaries: usize, with_replicas: bool, further: &[&str]) -> Self {
        let count = if with_replicas { primaries * 2 } else { primaries };
        let mut settings =
            vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-ping-replica-period", "1"];
        settings.extend(further);
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

    /// The node that a slot belongs to by its own account, if there is one. Nodes that do not answer are left out.
    #[must_use]
    pub fn owner(&self, slot: usize) -> Option<usize> {
        let has = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let bounds = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
            bounds.is_some_and(|(first, last)| (first..=last).contains(&slot))
        };
        self.nodes.iter().position(|node| {
            let nodes = node.try_ask(&["CLUSTER", "NODES"]).unwrap_or_default();
            let own = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
            own.split(' ').skip(8).any(has)
        })
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> usize {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).parse().expect("a number")
    }

    /// Moves a slot with all its keys, one key at a time, as `redis-cli --cluster reshard` does, with a pause
    /// after each: until the last one has moved, whoever needs several of them is told to try again.
    pub fn move_slot(&self, slot: usize, from: usize, to: usize, pause: Duration) {
        let (slot, port) = (slot.to_string(), self.nodes[to].port().to_string());
        let (from_id, to_id) = (self.id(from), self.id(to));
        assert_eq!(self.nodes[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]), "OK");
        assert_eq!(self.nodes[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]), "OK");
        loop {
            let key = self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            if key.is_empty() {
                break;
            }
            let moved = self.nodes[from].ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            assert!(moved == "OK" || moved == "NOKEY", "{moved}");
            crate::rest(pause);
        }
        // The new owner first: otherwise the slot would belong to nobody for a moment.
        for node in [to, from] {
            assert_eq!(self.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "OK");
        }
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
