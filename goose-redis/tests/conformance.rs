//! The conformance suite over Redis: one private server, a prefix per scenario.

#![allow(clippy::print_stderr, reason = "a test program speaks to people")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{BoxFuture, JobId, QueueName, Result};
use goose_redis::{RedisBroker, RedisOptions};
use goose_testkit::conformance::{Harness, Namespace, Process, libtest};

#[allow(dead_code, reason = "shared with other test programs, which use the rest")]
mod support;

use support::cluster::Cluster;
use support::server::Server;

/// Short, so that the recovery scenarios are.
const LEASE: Duration = Duration::from_millis(1200);
const MAX_RECOVERIES: u32 = 2;

fn main() -> ExitCode {
    let one = Server::with(&["--save", ""]);
    let cluster = Cluster::start(3, true);
    cluster.wait_until_ok();
    let standalone = Redis { name: "standalone", url: one.url() };
    let clustered = Redis { name: "cluster", url: cluster.url() };
    let code = libtest::main([Arc::new(standalone) as Arc<dyn Harness>, Arc::new(clustered)]);
    drop((one, cluster));
    code
}

#[derive(Debug)]
struct Redis {
    name: &'static str,
    url: String,
}

impl Redis {
    async fn open(&self, namespace: &Namespace) -> Result<RedisBroker> {
        let options = RedisOptions::new(&self.url).prefix(namespace.to_string());
        options.lease(LEASE).max_recoveries(MAX_RECOVERIES).open().await
    }
}

impl Harness for Redis {
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
        Box::pin(async move { self.open(namespace).await?.enqueue_raw(queue, id, bytes).await })
    }

    fn recovery_deadline(&self) -> Duration {
        LEASE * 4
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    fn clean_up<'a>(&'a self, _: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        // The server goes with the tests.
        Box::pin(async { Ok(()) })
    }
}
