//! Queues that are paused: a column that claims look at, and jobs that were claimed before and not fetched.

use std::sync::Arc;

use goose_core::broker::Delivery;
use goose_core::{QueueName, Result};
use rusqlite::params;

use super::Engine;
use crate::encoding::Claim;
use crate::error::{SqlResult, translate_one};
use crate::session::Session;
use crate::sql;
use crate::tx::Tx;

impl Engine {
    /// Pauses or resumes a queue; `false` when it was like that before.
    pub(super) fn set_paused(&mut self, queue: &QueueName, paused: bool) -> Result<bool> {
        let set = |tx: &mut Tx<'_>| {
            // A queue that nobody ever used can be paused, and then is known.
            let id = if paused { Some(tx.names.id(tx.conn, queue)?) } else { tx.names.known_id(tx.conn, queue)? };
            let Some(id) = id else { return Ok(false) };
            let changed = tx.conn.prepare_cached(sql::QUEUE_PAUSE)?.execute(params![id, paused])? == 1;
            tx.effects.jobs_moved |= changed && !paused;
            Ok(changed)
        };
        let changed = self.in_transaction(set).map_err(|failure| failure.translated())?;
        if paused {
            self.withhold(std::slice::from_ref(queue))?;
        }
        Ok(changed)
    }

    pub(super) fn list_paused(&mut self) -> Result<Vec<QueueName>> {
        let read = |tx: &mut Tx<'_>| -> SqlResult<Vec<String>> {
            tx.conn.prepare_cached(sql::PAUSED_QUEUES)?.query_map([], |row| row.get(0))?.collect()
        };
        let names = self.in_read_transaction(read).map_err(|failure| failure.translated())?;
        let paused: Vec<QueueName> = names.into_iter().map(QueueName::new).collect::<Result<_>>()?;
        self.withhold(&paused)?;
        Ok(paused)
    }

    /// What sessions have claimed of paused queues and nobody has fetched goes back to its places.
    fn withhold(&mut self, queues: &[QueueName]) -> Result<()> {
        let mut taken: Vec<(Arc<Session>, Vec<Delivery>)> = Vec::new();
        for queue in queues {
            let id = self.names.known_id(&self.conn, queue).map_err(translate_one)?;
            let Some(id) = id else { continue };
            for session in &self.sessions {
                let back = session.withhold(id);
                if !back.is_empty() {
                    taken.push((Arc::clone(session), back));
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let put_back = self.in_transaction(|tx| {
            for delivery in taken.iter().flat_map(|(_, back)| back) {
                let claim = Claim::of(&delivery.receipt);
                if tx.leave_claimed(claim)? {
                    tx.put_back(claim)?;
                }
            }
            Ok(())
        });
        put_back.map_err(|failure| {
            taken.into_iter().for_each(|(session, back)| session.keep(back));
            failure.translated()
        })
    }
}
