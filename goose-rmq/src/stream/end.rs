//! Where a stream begins, after the server has cut off its oldest entries; and where it ends, while the server takes in nothing: then
//! no entry of one's own can tell.

use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};

use super::tail::already_there;
use super::{Entry, OFFSET, Stream};
use crate::amqp::{Channel, Delivered, Deliveries, Table, Value};

/// How many entries the server sends ahead.
const AHEAD: u16 = 1000;

/// The consumer's name, which only has to be unique on its channel.
const TAG: &str = "end";

/// When a stream that has entries would have begun to come, as a rule.
const QUIET: Duration = Duration::from_secs(1);

impl<F> Stream<F> {
    /// The place of the first entry there is; `None` if nothing is sent within a second. The server cuts a stream from its beginning, and
    /// tells nobody.
    ///
    /// To be called on the broker's runtime.
    ///
    /// # Errors
    /// Whatever the server or the connection say.
    pub(crate) async fn first_place(&self) -> Result<Option<u64>> {
        let channel = self.wires.control.channel().await?;
        let mut deliveries = begin(&*channel, &self.name, "first", 1).await?;
        let delivered = tokio::time::timeout(QUIET, deliveries.next()).await.ok().flatten();
        let place = delivered.map(|delivered| Entry::of(delivered, &self.name)).transpose()?;
        let _ = channel.close().await;
        Ok(place.map(|(_, entry)| entry.offset))
    }
}

async fn begin(channel: &dyn Channel, name: &str, from: &str, ahead: u16) -> Result<Box<dyn Deliveries>> {
    channel.limit_next_consumer(ahead).await?;
    channel.consume(name, TAG, &Table::from([(OFFSET.to_owned(), Value::Text(from.to_owned()))])).await
}

/// The place of the last entry; `None` if there is none. What is appended meanwhile may or may not count.
pub(super) async fn last_place<F>(stream: &Stream<F>) -> Result<Option<u64>> {
    let channel = stream.wires.control.channel().await?;
    let mut deliveries = begin(&*channel, &stream.name, "last", AHEAD).await?;
    let Some(mut delivered) = first(stream, &*channel, &mut *deliveries).await? else { return Ok(None) };
    // These are the last entries that were written together. The server sends them at one go, and answers behind that.
    loop {
        channel.round_trip().await?;
        if let Some(last) = already_there(&mut *deliveries, AHEAD.into()).await.and_then(|mut batch| batch.pop()) {
            channel.ack(delivered.tag, true).await?;
            delivered = last;
            continue;
        }
        let (_, Entry { offset, .. }) = Entry::of(delivered, &stream.name)?;
        let _ = channel.close().await;
        return Ok(Some(offset));
    }
}

/// The server begins to send as soon as it has looked. How many entries there are it knows a few seconds late. If it does not send, and knows
/// of none, there are none.
async fn first<F>(
    stream: &Stream<F>,
    channel: &dyn Channel,
    deliveries: &mut (dyn Deliveries + 'static),
) -> Result<Option<Delivered>> {
    loop {
        match tokio::time::timeout(QUIET, deliveries.next()).await {
            Ok(Some(delivered)) => return Ok(Some(delivered)),
            Ok(None) => return Err(Error::new(ErrorKind::Unavailable, "the reading of a stream was interrupted")),
            Err(_) => {
                let state = channel.inspect_queue(&stream.name).await?;
                if state.is_none_or(|state| state.ready == 0) {
                    return Ok(None);
                }
            }
        }
    }
}
