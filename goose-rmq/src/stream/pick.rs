//! Reading single entries again, by their places.

use std::collections::VecDeque;
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};

use super::{Entry, Fold, OFFSET, Stream};
use crate::amqp::{Channel, Table, Value};

/// How many entries the server sends ahead.
const AHEAD: u16 = 500;

/// A gap of more entries than this is jumped over, at the cost of a round trip, instead of being read.
const GAP: u64 = 1000;

/// Entries that are known to be there come at once, or the server has trouble.
const PATIENCE: Duration = Duration::from_secs(10);

impl<F: Fold> Stream<F> {
    /// The entries at these places, in ascending order; those that the server has cut off are left out.
    ///
    /// To be called on the broker's runtime.
    ///
    /// # Errors
    /// Whatever the server or the connection say.
    pub(crate) async fn pick(&self, places: &[u64]) -> Result<Vec<Entry>> {
        debug_assert!(places.is_sorted(), "places in ascending order");
        let mut wanted: VecDeque<u64> = places.iter().copied().collect();
        let mut found = Vec::with_capacity(places.len());
        if wanted.is_empty() {
            return Ok(found);
        }
        let channel = self.wires.control.channel().await?;
        let read = async {
            let mut run = 0_u32;
            while let Some(first) = wanted.front().copied() {
                run += 1;
                self.pick_run(&*channel, &format!("pick-{run}"), first, &mut wanted, &mut found).await?;
            }
            Ok(())
        };
        let outcome = tokio::time::timeout(PATIENCE, read).await;
        let _ = channel.close().await;
        let slow = || Error::new(ErrorKind::Unavailable, format!("the server does not send what is in {}", self.name));
        outcome.unwrap_or_else(|_| Err(slow())).map(|()| found)
    }

    /// Reads from one place on, up to a gap.
    async fn pick_run(
        &self,
        channel: &dyn Channel,
        tag: &str,
        first: u64,
        wanted: &mut VecDeque<u64>,
        found: &mut Vec<Entry>,
    ) -> Result<()> {
        channel.limit_next_consumer(AHEAD).await?;
        let from = Value::Int(i64::try_from(first).unwrap_or(i64::MAX));
        let mut deliveries = channel.consume(&self.name, tag, &Table::from([(OFFSET.to_owned(), from)])).await?;
        let mut read = 0;
        loop {
            let delivered = deliveries
                .next()
                .await
                .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("reading {} was interrupted", self.name)))?;
            let (delivery_tag, entry) = Entry::of(delivered, &self.name)?;
            read += 1;
            // What lies before the first entry there is has been cut off.
            while wanted.front().is_some_and(|place| *place < entry.offset) {
                wanted.pop_front();
            }
            if wanted.front() == Some(&entry.offset) {
                wanted.pop_front();
                found.push(entry);
            } else if wanted.front().is_none_or(|place| *place > entry.offset + GAP) {
                break;
            }
            if wanted.is_empty() {
                break;
            }
            if read % (AHEAD / 4) == 0 {
                channel.ack(delivery_tag, true).await?;
            }
        }
        channel.cancel(tag).await
    }
}
