//! Queue names and the numbers that stand for them in the file.

use std::collections::HashMap;

use goose_core::QueueName;
use rusqlite::{Connection, OptionalExtension};

use crate::error::SqlResult;
use crate::sql;

/// What this process has learned. Queues are never removed from the file, so what is known stays true, except
/// for a number given in a transaction that was rolled back: [`Names::forget`] then.
#[derive(Debug, Default)]
pub(crate) struct Names {
    ids: HashMap<QueueName, i64>,
    names: HashMap<i64, QueueName>,
}

impl Names {
    /// The number of a queue, made up if it is new. Only within a write transaction.
    pub(crate) fn id(&mut self, conn: &Connection, name: &QueueName) -> SqlResult<i64> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        conn.prepare_cached(sql::QUEUE_ADD)?.execute([name.as_str()])?;
        let id = conn.prepare_cached(sql::QUEUE_ID)?.query_row([name.as_str()], |row| row.get(0))?;
        self.learn(name.clone(), id);
        Ok(id)
    }

    /// The number of a queue, if anyone ever used it.
    pub(crate) fn known_id(&mut self, conn: &Connection, name: &QueueName) -> SqlResult<Option<i64>> {
        if let Some(id) = self.ids.get(name) {
            return Ok(Some(*id));
        }
        let id = conn.prepare_cached(sql::QUEUE_ID)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            self.learn(name.clone(), id);
        }
        Ok(id)
    }

    /// The queue a number stands for. A name this version would refuse becomes the default queue's: the file
    /// was edited by hand.
    pub(crate) fn name(&mut self, conn: &Connection, id: i64) -> SqlResult<QueueName> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        let text: Option<String> =
            conn.prepare_cached(sql::QUEUE_NAME)?.query_row([id], |row| row.get(0)).optional()?;
        let name = text.and_then(|text| QueueName::new(text).ok()).unwrap_or_default();
        self.names.insert(id, name.clone());
        Ok(name)
    }

    /// Drops what a rolled back transaction may have taught.
    pub(crate) fn forget(&mut self) {
        self.ids.clear();
        self.names.clear();
    }

    fn learn(&mut self, name: QueueName, id: i64) {
        self.ids.insert(name.clone(), id);
        self.names.insert(id, name);
    }
}
