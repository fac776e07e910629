//! The conformance suite over the embedded broker: in a file that several handles share, and in memory.

#![expect(clippy::print_stderr, reason = "a test program of its own")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, JobId, QueueName, Result};
use goose_sqlite::{SqliteBroker, SqliteOptions};
use goose_testkit::conformance::{Harness, Namespace, Process, Skip, libtest};
use goose_tests::skips;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Short, so that the recovery scenarios are.
const LEASE: Duration = Duration::from_millis(900);
const MAX_RECOVERIES: u32 = 2;

fn main() -> ExitCode {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("cannot create a folder for the databases: {error}");
            return ExitCode::FAILURE;
        }
    };
    libtest::main([Arc::new(InFile { folder }) as Arc<dyn Harness>, Arc::new(InMemory::default())])
}

fn with_short_lease(options: SqliteOptions) -> SqliteOptions {
    options.lease(LEASE).max_recoveries(MAX_RECOVERIES)
}

fn process(broker: SqliteBroker) -> Process {
    let doomed = broker.clone();
    Process::new(broker, move || {
        let doomed = doomed.clone();
        async move { doomed.abandon().await }
    })
}

/// One file per scenario; each handle has a connection and a thread of its own, as another process would.
#[derive(Debug)]
struct InFile {
    folder: TempDir,
}

impl InFile {
    async fn open(&self, namespace: &Namespace) -> Result<SqliteBroker> {
        let path = self.folder.path().join(format!("{namespace}.db"));
        with_short_lease(SqliteOptions::new(path)).open().await
    }
}

impl Harness for InFile {
    fn name(&self) -> &str {
        "file"
    }

    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
        Box::pin(async move { Ok(process(self.open(namespace).await?)) })
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
        // What `SqliteOptions::lease` promises is 4/3 of the lease; the rest is for a busy machine.
        LEASE * 3
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    fn skips(&self) -> Vec<Skip> {
        skips::sqlite()
    }

    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for end in ["db", "db-wal", "db-shm"] {
                let path = self.folder.path().join(format!("{namespace}.{end}"));
                match std::fs::remove_file(&path) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let message = format!("cannot remove {}", path.display());
                        return Err(Error::new(ErrorKind::Internal, message).with_source(error));
                    }
                }
            }
            Ok(())
        })
    }
}

/// One database per scenario, shared by clones of one handle: there is only one process that could see it.
#[derive(Debug, Default)]
struct InMemory {
    databases: Mutex<HashMap<Namespace, SqliteBroker>>,
}

impl InMemory {
    async fn open(&self, namespace: &Namespace) -> Result<SqliteBroker> {
        let mut databases = self.databases.lock().await;
        if let Some(broker) = databases.get(namespace) {
            return Ok(broker.clone());
        }
        let broker = with_short_lease(SqliteOptions::in_memory()).open().await?;
        databases.insert(namespace.clone(), broker.clone());
        Ok(broker)
    }
}

impl Harness for InMemory {
    fn name(&self) -> &str {
        "memory"
    }

    fn connect<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<Process>> {
        Box::pin(async move { Ok(process(self.open(namespace).await?)) })
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
        LEASE * 3
    }

    fn max_recoveries(&self) -> u32 {
        MAX_RECOVERIES
    }

    fn skips(&self) -> Vec<Skip> {
        let crash = "memory dies with its process, nobody is left to recover from";
        let close = "all handles on one memory are one handle, closing one closes all";
        let mut skips = skips::sqlite();
        skips.extend([
            Skip::new("fencing::a_receipt_is_stale_after_a_recovery", crash),
            Skip::new("recovery::a_crashed_process_gives_up_its_jobs_in_time", crash),
            Skip::new("recovery::what_was_settled_before_the_crash_stays_settled", crash),
            Skip::new("recovery::what_was_not_yet_handed_out_is_recovered_too", crash),
            Skip::new("recovery::recovered_jobs_go_to_the_front_in_order", crash),
            Skip::new("recovery::a_session_opened_after_the_crash_recovers", crash),
            Skip::new("recovery::a_lost_session_knows_it", crash),
            Skip::new("recovery::a_crashed_worker_is_no_longer_listed", crash),
            Skip::new("recovery::a_job_that_kills_its_workers_is_dead_in_the_end", crash),
            Skip::new("lifecycle::a_job_outlives_its_handle", close),
            Skip::new("paused_queues::a_pause_outlives_its_process", close),
        ]);
        skips
    }

    fn clean_up<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.databases.lock().await.remove(namespace);
            Ok(())
        })
    }
}
