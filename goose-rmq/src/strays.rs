//! Brings back what the server could not route.
//!
//! Every exchange of the layout has an alternate: what finds no queue there is kept in the queue of the unroutable instead
//! of being dropped. That happens when somebody deletes a queue or a binding by hand while delayed jobs are on their way
//! to it. Each process that consumes also looks after that queue: whatever turns up there is declared anew and sent on
//! its way again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use goose_core::{Clock, Error, ErrorKind, QueueName, Result, SystemClock};

use crate::amqp::{Channel, Delivered, Outgoing, Table};
use crate::broker::Inner;
use crate::delay::{self, Path, Precision};
use crate::message::{self, Message, Rank, Ticket};
use crate::outbox;
use crate::topology::Topology;

/// How many are in hand at a time.
const AT_A_TIME: u16 = 16;

/// After a failure, or when the queue was deleted.
const PAUSE: Duration = Duration::from_secs(2);

/// Goes on until the broker is gone.
pub(crate) async fn bring_back(inner: Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let (link, topology) = (Arc::clone(&strong.links.control), Arc::clone(&strong.topology));
        drop(strong);
        let outcome = async {
            topology.ensure_base().await?;
            let channel = link.channel().await?;
            serve(&inner, &topology, &*channel).await
        };
        match outcome.await {
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => tracing::debug!(error = format!("{error:#}"), "cannot look after what could not be routed"),
            // The queue is gone: everything may be.
            Ok(()) => topology.forget_all(),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends without an error when the server ends the consumer.
async fn serve(inner: &Weak<Inner>, topology: &Topology, channel: &dyn Channel) -> Result<()> {
    channel.limit_next_consumer(AT_A_TIME).await?;
    let mut strays = channel.consume(&topology.names.unroutable(), "strays", &Table::new()).await?;
    while let Some(stray) = strays.next().await {
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        let tag = stray.tag;
        let message = on_its_way(stray, topology, delay::hop(inner.options.queue_type));
        // Something is missing that was thought to be there.
        topology.restore(&message).await?;
        let sent = outbox::publish_all(&inner, vec![message]).await;
        sent.into_iter().collect::<Result<()>>()?;
        channel.ack(tag, false).await?;
    }
    if channel.is_open() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unavailable, "the channel of what could not be routed was closed"))
}

/// The message that is sent instead. Bytes that are no job go to the default queue, whose consumers know what to do with
/// them.
fn on_its_way(stray: Delivered, topology: &Topology, hop: Duration) -> Outgoing {
    let now = SystemClock.now();
    let names = &topology.names;
    let id = stray.message_id.as_deref().and_then(|id| id.parse().ok());
    let bytes: Arc<[u8]> = stray.body.as_slice().into();
    match message::read(stray, &QueueName::default()) {
        Ok(Message { job, ticket, envelope }) => {
            let queue = job.ready_queue();
            tracing::warn!(%queue, job = %job.id, "a job had lost its way because a queue was deleted; sent again");
            let path = if ticket.rank == Rank::Due {
                delay::path(ticket.ready_at.since(now), Precision::Exact, hop)
            } else {
                Path::NOW
            };
            let (exchange, key) = names.address(queue, path);
            let ticket = Ticket { hold: path.hold(), goes_on: path.goes_on(), ..ticket };
            message::sealed(job.id, envelope, &ticket, exchange, key)
        }
        Err(_) => {
            let (exchange, key) = names.address(&QueueName::default(), Path::NOW);
            message::sealed(
                id.unwrap_or_else(goose_core::JobId::new),
                bytes,
                &Ticket::now(Rank::Normal, now),
                exchange,
                key,
            )
        }
    }
}
