//! Files that cannot be used: each gives an error of its kind, and stays as it was.

use std::path::Path;
use std::process::Command;

use goose_client::Client;
use goose_core::ErrorKind;
use goose_sqlite::SqliteBroker;
use goose_tests::chore::{Chore, Task};
use rusqlite::Connection;

use crate::{Outcome, Played, ensure};

/// Opening must fail in this way.
async fn must_fail(path: &Path, kind: ErrorKind, words: &str) -> goose_tests::Result<()> {
    match SqliteBroker::open(path).await {
        Ok(_) => Err(format!("{} was opened", path.display()).into()),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(error.kind() == kind && text.contains(words), "expected {kind:?} with {words:?}, got {error:?}");
            Ok(())
        }
    }
}

/// A closed file with some jobs in it.
async fn file_with_jobs(path: &Path, count: usize) -> goose_tests::Result<()> {
    let client = Client::new(SqliteBroker::open(path).await?);
    client.perform_bulk(vec![Chore { task: Task::Nothing }; count]).await?.into_result()?;
    client.broker().close().await?;
    // All that is in the log goes into the file.
    let conn = Connection::open(path)?;
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

pub(crate) async fn a_corrupt_file() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    file_with_jobs(&path, 500).await?;
    let mut bytes = std::fs::read(&path)?;
    // The head stays, so that it still looks like a database; the root page of the schema is overwritten.
    bytes[100..4_000].fill(0xA5);
    std::fs::write(&path, &bytes)?;
    must_fail(&path, ErrorKind::Corrupt, "the database file is damaged").await?;
    ensure!(std::fs::read(&path)? == bytes, "a damaged file was changed");
    Ok(Played::Done)
}

pub(crate) async fn a_file_that_is_no_database() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.txt");
    let text = "Dear diary, today I learned about background jobs. ".repeat(100);
    std::fs::write(&path, &text)?;
    must_fail(&path, ErrorKind::Corrupt, "the file is not a SQLite database").await?;
    ensure!(std::fs::read_to_string(&path)? == text, "a text file was changed");
    Ok(Played::Done)
}

pub(crate) async fn a_foreign_database() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shop.db");
    let foreign = Connection::open(&path)?;
    foreign.execute_batch("CREATE TABLE customer (name TEXT); INSERT INTO customer VALUES ('Ada')")?;
    foreign.close().map_err(|(_, error)| error)?;
    must_fail(&path, ErrorKind::Misconfigured, "database of another program").await?;
    let foreign = Connection::open(&path)?;
    let tables: u32 = foreign.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let name: String = foreign.query_row("SELECT name FROM customer", [], |row| row.get(0))?;
    ensure!((tables, name.as_str()) == (1, "Ada"), "a foreign database was changed");
    Ok(Played::Done)
}

pub(crate) async fn a_newer_schema() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.db");
    file_with_jobs(&path, 3).await?;
    let version = |conn: &Connection| conn.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
    let conn = Connection::open(&path)?;
    let ours = version(&conn)?;
    conn.pragma_update(None, "user_version", ours + 1)?;
    must_fail(&path, ErrorKind::TooNew, "update this program").await?;
    ensure!(version(&conn)? == ours + 1, "the version of a newer file was changed");
    // Nothing was lost by the attempt.
    conn.pragma_update(None, "user_version", ours)?;
    conn.close().map_err(|(_, error)| error)?;
    let broker = SqliteBroker::open(&path).await?;
    let left = goose_tests::oracle::Leftovers::of(&broker).await?;
    ensure!(left.present.len() == 3, "{} of 3 jobs are left", left.present.len());
    Ok(Played::Done)
}

pub(crate) async fn a_missing_folder() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("no/such/folder/jobs.db");
    match SqliteBroker::open(&path).await {
        Ok(_) => Err("a file in a missing folder was opened".into()),
        Err(error) => {
            ensure!(error.kind() == ErrorKind::InvalidInput, "expected InvalidInput, got {error:?}");
            Ok(Played::Done)
        }
    }
}

/// A small file system of our own, unmounted when this is dropped. Only a privileged user may have one.
pub(crate) struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    pub(crate) fn new(folder: &'a Path, options: &str) -> Option<Self> {
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder).then_some(Self(folder))
    }

    pub(crate) fn remount(&self, options: &str) -> bool {
        mount(&["-o", &format!("remount,{options}")], self.0)
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

pub(crate) const NO_MOUNT: &str = "needs the right to mount a file system of its own, run it as root on Linux";

pub(crate) async fn a_read_only_place() -> Outcome {
    let folder = tempfile::tempdir()?;
    // File modes do not bind the superuser, a read-only file system binds everyone.
    let Some(mounted) = Mount::new(folder.path(), "size=8m") else { return Ok(Played::Skipped(NO_MOUNT)) };
    let path = folder.path().join("jobs.db");
    file_with_jobs(&path, 3).await?;
    let bytes = std::fs::read(&path)?;
    ensure!(mounted.remount("ro"), "cannot make the file system read-only");
    must_fail(&path, ErrorKind::PermissionDenied, "write").await?;
    must_fail(&folder.path().join("new.db"), ErrorKind::PermissionDenied, "write").await?;
    ensure!(std::fs::read(&path)? == bytes, "a read-only file was changed");
    Ok(Played::Done)
}
