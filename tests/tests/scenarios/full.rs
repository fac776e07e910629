//! No room: enqueues say so, what was acknowledged stays, workers go on, and there is room again.

use std::path::Path;

use goose_client::Client;
use goose_core::broker::Broker;
use goose_core::broker::capability::require;
use goose_core::{ErrorKind, QueueName};
use goose_sqlite::{SqliteBroker, SqliteOptions};
use goose_tests::lab::PATIENCE;
use goose_tests::oracle::Leftovers;
use goose_worker::{Context, JobArgs, Worker};
use serde::{Deserialize, Serialize};

use crate::files::{Mount, NO_MOUNT};
use crate::{Outcome, Played, ensure};

/// A job that takes up room.
#[derive(Debug, Serialize, Deserialize)]
struct Crate(Vec<u8>);

impl JobArgs for Crate {
    const NAME: &'static str = "lab/crate";
}

/// Enqueues until there is no room. What was acknowledged must be there, and nothing else.
async fn fill(broker: &SqliteBroker) -> goose_tests::Result<usize> {
    let client = Client::new(broker.clone());
    let mut taken = Vec::new();
    let error = loop {
        match client.perform_async(bulky()).await {
            Ok(id) => taken.push(id),
            Err(error) => break error,
        }
        ensure!(taken.len() < 10_000, "the limit was never reached");
    };
    ensure!(error.kind() == ErrorKind::Full && error.is_retryable(), "expected Full, got {error:?}");
    ensure!(taken.len() > 20, "only {} jobs found room", taken.len());
    let left = Leftovers::of(broker).await?;
    ensure!(left.present.len() == taken.len(), "{} acknowledged, {} there", taken.len(), left.present.len());
    ensure!(taken.iter().all(|id| left.present.contains(id)), "an acknowledged job is not there");
    Ok(taken.len())
}

fn bulky() -> Crate {
    Crate(vec![0xC1; 20_000])
}

/// Works everything off and enqueues again.
async fn empty(broker: &SqliteBroker, count: usize) -> goose_tests::Result<()> {
    let worker = Worker::builder(broker.clone()).handle(|_: Crate, _: Context| async {}).drain();
    let drained = tokio::time::timeout(PATIENCE, worker).await.map_err(|_| "the worker came to no end")??;
    ensure!(drained.succeeded == u64::try_from(count)?, "{drained:?} of {count}");
    Client::new(broker.clone()).perform_async(bulky()).await?;
    let enqueued = require(broker, "enqueued jobs", broker.enqueued_jobs())?;
    ensure!(enqueued.size(&QueueName::default()).await? == 1, "the job after the flood is not there");
    Ok(broker.close().await?)
}

/// The way out needs no more room than there is.
pub(crate) async fn a_file_at_its_size_limit() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    let broker = SqliteOptions::new(&path).max_file_size(2 << 20).open().await?;
    let count = fill(&broker).await?;
    empty(&broker, count).await?;
    check_integrity(&path)
}

/// The same handle goes on when somebody has made room.
pub(crate) async fn a_disk_without_room() -> Outcome {
    let folder = tempfile::tempdir()?;
    let Some(mounted) = Mount::new(folder.path(), "size=6m") else { return Ok(Played::Skipped(NO_MOUNT)) };
    let path = folder.path().join("jobs.db");
    let broker = SqliteBroker::open(&path).await?;
    let count = fill(&broker).await?;
    ensure!(mounted.remount("size=24m"), "cannot enlarge the file system");
    empty(&broker, count).await?;
    check_integrity(&path)
}

fn check_integrity(path: &Path) -> Outcome {
    let check: String = rusqlite::Connection::open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "integrity check: {check}");
    Ok(Played::Done)
}
