//! The Redis servers that a lab has for itself.

use goose_services::{Cluster, Server, Watched};

use crate::Result;

/// How many servers there are, and who finds the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Three primaries with a replica each.
    Cluster,
    /// A primary with a replica, watched by three Sentinels.
    Sentinel,
}

/// When a write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is answered.
    Always,
    /// Within a second.
    EverySecond,
}

/// How the servers are set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Which servers.
    pub topology: Topology,
    /// How durable writes are.
    pub fsync: Fsync,
    /// How long a primary is silent until another takes its place, in ms.
    pub failover_after_ms: u32,
    /// With how many replicas in touch a primary takes writes.
    pub min_replicas: u32,
}

impl Setup {
    /// Durable, and patient: a primary may be killed and started again, or hang for a while, without losing its place.
    #[must_use]
    pub fn patient(topology: Topology) -> Self {
        Self { topology, fsync: Fsync::Always, failover_after_ms: 5_000, min_replicas: 0 }
    }
}

/// The servers. Dropping this ends them.
#[derive(Debug)]
pub enum Servers {
    /// One.
    Standalone(Server),
    /// A cluster.
    Cluster(Cluster),
    /// A primary and its replica, and those who watch them.
    Sentinel(Watched),
}

impl Servers {
    /// Starts them and waits until they are ready.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let fsync = match setup.fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        let (silence, replicas) = (setup.failover_after_ms.to_string(), setup.min_replicas.to_string());
        let mut settings = vec!["--appendonly", "yes", "--appendfsync", fsync];
        settings.extend(["--min-replicas-to-write", &replicas, "--min-replicas-max-lag", "2"]);
        match setup.topology {
            Topology::Standalone => Self::Standalone(Server::with(&settings)),
            Topology::Sentinel => Self::Sentinel(Watched::with(setup.failover_after_ms, &settings)),
            Topology::Cluster => {
                settings.extend(["--cluster-node-timeout", &silence]);
                Self::Cluster(Cluster::with(3, true, &settings))
            }
        }
    }

    /// How clients find them.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Standalone(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Sentinel(watched) => watched.url(),
        }
    }

    /// Those that hold data: the primaries of the beginning first, then their replicas in the same order.
    #[must_use]
    pub fn nodes(&self) -> Vec<&Server> {
        match self {
            Self::Standalone(server) => vec![server],
            Self::Cluster(cluster) => cluster.nodes.iter().collect(),
            Self::Sentinel(watched) => vec![&watched.primary, &watched.replica],
        }
    }

    /// One of [`nodes`](Self::nodes), to be killed or started again.
    ///
    /// # Errors
    /// There are not so many.
    pub fn node(&mut self, n: usize) -> Result<&mut Server> {
        let node = match (self, n) {
            (Self::Standalone(server), 0) => Some(server),
            (Self::Cluster(cluster), n) => cluster.nodes.get_mut(n),
            (Self::Sentinel(watched), 0) => Some(&mut watched.primary),
            (Self::Sentinel(watched), 1) => Some(&mut watched.replica),
            _ => None,
        };
        Ok(node.ok_or_else(|| format!("there is no server {n}"))?)
    }

    /// Waits until they serve clients again after a restart: a cluster takes some seconds longer than its nodes.
    pub fn wait_until_well(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.wait_until_ok();
        }
    }

    /// The places in [`nodes`](Self::nodes) of those that are primaries now by their own account.
    #[must_use]
    pub fn primaries(&self) -> Vec<usize> {
        let is_primary = |server: &Server| server.try_ask(&["ROLE"]).is_ok_and(|role| role.starts_with("master"));
        let nodes = self.nodes();
        (0..nodes.len()).filter(|n| is_primary(nodes[*n])).collect()
    }

    /// The place in [`nodes`](Self::nodes) of the primary of a queue, if there is one.
    #[must_use]
    pub fn primary_of(&self, prefix: &str, queue: &str) -> Option<usize> {
        match self {
            Self::Standalone(_) => Some(0),
            Self::Cluster(cluster) => cluster.owner(slot(&format!("{prefix}:{{{queue}}}:jobs"), cluster)?),
            Self::Sentinel(watched) => {
                let port = watched.primary_port()?;
                self.nodes().iter().position(|node| node.port() == port)
            }
        }
    }
}

/// Asks whoever answers: the first node may be the one that was hurt.
fn slot(key: &str, cluster: &Cluster) -> Option<usize> {
    cluster.nodes.iter().find_map(|node| node.try_ask(&["CLUSTER", "KEYSLOT", key]).ok()?.parse().ok())
}
