//! The steps from an empty file to today's tables.
//!
//! `PRAGMA application_id` says that a file is ours, `PRAGMA user_version` how far it has come. Each step runs in one
//! transaction with the number it leads to, so that a crash leaves a file at one version or the other.

use goose_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::{SqlResult, translate_one};

/// `Goos`, as a number.
const APPLICATION_ID: i64 = 0x476F_6F73;

/// Step *n* leads from version *n* to *n* + 1. A step that was released is never changed.
const STEPS: &[&str] = &[include_str!("schema/0001_initial.sql"), include_str!("schema/0002_paused.sql")];

/// Brings a file to this build's version.
pub(crate) fn migrate(conn: &mut Connection) -> Result<()> {
    run(conn, STEPS)
}

fn run(conn: &mut Connection, steps: &[&str]) -> Result<()> {
    // The common case, an up-to-date file, takes no lock.
    if look(conn, steps.len())? == Some(steps.len()) {
        return Ok(());
    }
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate_one)?;
    // Only now is it sure that nobody else is doing the same.
    let version = inspect(&transaction, steps.len())?.unwrap_or(0);
    for (number, step) in steps.iter().enumerate().skip(version) {
        let apply = || -> SqlResult<()> {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", i64::try_from(number + 1).unwrap_or(i64::MAX))
        };
        apply().map_err(translate_one)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(translate_one)?;
    transaction.commit().map_err(translate_one)
}

/// Refuses the files of other programs and of newer versions, without changing anything.
pub(crate) fn check_owner(conn: &mut Connection) -> Result<()> {
    look(conn, STEPS.len()).map(drop)
}

/// [`inspect`] of one moment: between two statements of their own, somebody else might finish the whole migration.
fn look(conn: &mut Connection, newest: usize) -> Result<Option<usize>> {
    let snapshot = conn.transaction().map_err(translate_one)?;
    inspect(&snapshot, newest)
}

/// The version of the file; `None` when it is empty. Within a transaction.
fn inspect(conn: &Connection, newest: usize) -> Result<Option<usize>> {
    let read = || -> SqlResult<(i64, i64, i64)> {
        let application: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables = conn.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application, version, tables))
    };
    match read().map_err(translate_one)? {
        (0, 0, 0) => Ok(None),
        (APPLICATION_ID, version, _) => match usize::try_from(version) {
            Ok(version) if version <= newest => Ok(Some(version)),
            _ => Err(Error::new(
                ErrorKind::TooNew,
                format!(
                    "the database has schema version {version}, this build reads up to {newest}; \
                     update this program or open another file"
                ),
            )),
        },
        _ => Err(Error::new(
            ErrorKind::Misconfigured,
            "the file is the database of another program; give Goose a file of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(conn: &Connection) -> i64 {
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    const TWO: &[&str] = &["CREATE TABLE a (x); INSERT INTO a VALUES (1);", "ALTER TABLE a ADD COLUMN y DEFAULT 7;"];

    #[test]
    fn steps_run_once_and_in_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        run(&mut conn, &TWO[..1]).unwrap();
        assert_eq!(version(&conn), 1);
        run(&mut conn, TWO).unwrap();
        run(&mut conn, TWO).unwrap();
        assert_eq!(version(&conn), 2);
        assert_eq!(conn.query_row("SELECT y FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
    }

    #[test]
    fn the_queues_of_a_file_of_version_1_are_not_paused() {
        let mut conn = Connection::open_in_memory().unwrap();
        run(&mut conn, &STEPS[..1]).unwrap();
        conn.execute_batch("INSERT INTO queue (name, ready) VALUES ('mail', 3)").unwrap();
        migrate(&mut conn).unwrap();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        assert_eq!(conn.query_row("SELECT ready, paused FROM queue", [], read).unwrap(), (3_i64, 0_i64));
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut conn = Connection::open_in_memory().unwrap();
        run(&mut conn, &TWO[..1]).unwrap();
        let broken = [TWO[0], "DROP TABLE a; CREATE TABLE b (x); THIS IS NOT SQL;"];
        assert_eq!(run(&mut conn, &broken).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(version(&conn), 1);
        run(&mut conn, TWO).unwrap();
    }

    #[test]
    fn files_of_others_and_of_the_future_are_refused() {
        let mut other = Connection::open_in_memory().unwrap();
        other.execute_batch("CREATE TABLE customers (name)").unwrap();
        assert_eq!(run(&mut other, TWO).unwrap_err().kind(), ErrorKind::Misconfigured);
        let mut newer = Connection::open_in_memory().unwrap();
        run(&mut newer, TWO).unwrap();
        let error = run(&mut newer, &TWO[..1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooNew);
        assert_eq!(
            error.to_string(),
            "the database has schema version 2, this build reads up to 1; update this program or open another file"
        );
    }
}
