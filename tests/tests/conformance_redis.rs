//! The conformance suite over Redis: one server, a cluster of three primaries with a replica each, and a primary that
//! Sentinels watch.
//!
//! Each topology is started once, by the first scenario that needs it; each scenario has a key prefix of its own.
//! `GOOSE_REDIS_SERVER=COMMAND` names another server program. With `GOOSE_REDIS_URL=redis://…` that server is used
//! instead of one of our own; the two other topologies, which one URL cannot be, are skipped then.

use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goose_core::broker::Broker;
use goose_core::{BoxFuture, Error, ErrorKind, JobId, QueueName, Result};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::{Cluster, Remote, Server, Watched};
use goose_testkit::conformance::{Harness, Namespace, Process, Skip, libtest, scenarios};
use goose_tests::skips;

/// Short, so that the recovery scenarios are.
const LEASE: Duration = Duration::from_millis(900);
const MAX_RECOVERIES: u32 = 2;

fn main() -> ExitCode {
    let given = std::env::var("GOOSE_REDIS_URL").ok();
    let standalone = match given.clone() {
        Some(url) => OnRedis::new("standalone", move || Servers::Given(url.clone())),
        None => OnRedis::new("standalone", || Servers::One(Server::start())),
    };
    let mut harnesses = vec![
        standalone,
        OnRedis::new("cluster", || Servers::Cluster(Cluster::start(3, true))),
        OnRedis::new("sentinel", || Servers::Watched(Watched::start())),
    ];
    if given.is_some() {
        harnesses[1..].iter_mut().for_each(|harness| harness.skips = true);
    }
    let harnesses: Vec<Arc<OnRedis>> = harnesses.into_iter().map(Arc::new).collect();
    let outcome = libtest::main(harnesses.iter().map(|harness| Arc::clone(harness) as Arc<dyn Harness>));
    harnesses.iter().for_each(|harness| harness.stop());
    outcome
}

/// The servers of one topology.
enum Servers {
    One(Server),
    Cluster(Cluster),
    Watched(Watched),
    /// Somebody else's, by its URL.
    Given(String),
}

impl Servers {
    fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Watched(watched) => watched.url(),
            Self::Given(url) => url.clone(),
        }
    }

    /// Those that hold keys; the replicas follow them.
    fn primaries(&self) -> Vec<String> {
        match self {
            Self::One(server) => vec![server.url()],
            Self::Cluster(cluster) => cluster.nodes[..3].iter().map(Server::url).collect(),
            Self::Watched(watched) => vec![watched.primary.url()],
            Self::Given(url) => vec![url.clone()],
        }
    }
}

struct OnRedis {
    name: &'static str,
    start: Box<dyn Fn() -> Servers + Send + Sync>,
    servers: Mutex<Option<Servers>>,
    skips: bool,
}

impl fmt::Debug for OnRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRedis").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OnRedis {
    fn new(name: &'static str, start: impl Fn() -> Servers + Send + Sync + 'static) -> Self {
        Self { name, start: Box::new(start), servers: Mutex::new(None), skips: false }
    }

    fn with_servers<T>(&self, ask: impl FnOnce(&Servers) -> T) -> Result<T> {
        let failed = || Error::new(ErrorKind::Unavailable, "the servers did not start; the first failure says why");
        let mut servers = self.servers.lock().map_err(|_| failed())?;
        Ok(ask(servers.get_or_insert_with(&self.start)))
    }

    /// Ends the servers, also after one of them failed to start.
    fn stop(&self) {
        drop(self.servers.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn open(&self, namespace: &Namespace) -> Result<RedisBroker> {
        let options = RedisOptions::new(self.with_servers(Servers::url)?).prefix(namespace.as_str());
        options.lease(LEASE).max_recoveries(MAX_RECOVERIES).open().await
    }
}

impl Harness for OnRedis {
    fn name(&self) -> &str {
        self.name
    }

    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
        Box::pin(async move {
            let broker = self.open(namespace).await?;
            let doomed = broker.clone();
            Ok(Process::new(broker, move || {
                let doomed = doomed.clone();
                async move { doomed.abandon().await }
            }))
        })
    }

    fn enqueue_raw<'a>(
        &'a self,
        namespace: &'a Namespace,
        queue: &'a QueueName,
        id: JobId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let broker = self.open(namespace).await?;
            broker.enqueue_raw(queue, id, bytes).await?;
            broker.close().await
        })
    }

    fn recovery_deadline(&self) -> Duration {
        // What `RedisOptions::lease` promises is 3/2 of the lease. A session that is held up for longer than that on a busy
        // machine gives others two seconds more.
        LEASE * 5
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    fn skips(&self) -> Vec<Skip> {
        let reason = "GOOSE_REDIS_URL is set, and what it names cannot be this topology";
        let all = scenarios().into_iter().map(|scenario| Skip::new(scenario.name(), reason));
        if self.skips { all.collect() } else { skips::redis() }
    }

    /// Looks whether all counts are still right, and removes the scenario's keys.
    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let broker = self.open(namespace).await?;
            let complaints = broker.check_consistency().await?;
            broker.close().await?;
            for url in self.with_servers(Servers::primaries)? {
                // Nothing but `redis://` can be asked behind the broker's back; the keys of others stay.
                let Some(server) = Remote::at(&url) else { continue };
                server.remove_keys(&format!("{namespace}:")).map_err(|error| {
                    Error::new(ErrorKind::Internal, "cannot remove the keys of the scenario").with_source(error)
                })?;
            }
            if complaints.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Corrupt, complaints.join("; "))) }
        })
    }
}
