//! Brings back what the server could not route (the unroutable).
//!
//! Every exchange of the layout has an alternate: what finds no queue there is kept in the queue of the unroutable instead
//! of being dropped. That happens when somebody deletes a queue or a binding by hand while delayed jobs are on their way
//! to it. Each process that consumes also looks after that queue: whatever turns up there is declared anew and sent on
//! its way again. What cannot be (a queue of another type, a missing right) goes behind the others after a pause, so that it
//! holds up none of them, and the log says why.

#[cfg(test)]
mod on_a_server;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goose_core::{Clock, Error, ErrorKind, JobId, QueueName, Result, SystemClock};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::amqp::{Channel, Delivered, Outgoing, Table};
use crate::broker::Inner;
use crate::delay::{self, Path, Precision};
use crate::message::{self, Message, Rank, Ticket};
use crate::outbox;
use crate::topology::Names;

/// How many are in hand at a time.
const AT_A_TIME: u16 = 16;

/// After a failure, or when the queue was deleted.
const PAUSE: Duration = Duration::from_secs(2);

/// The same trouble with the same queue is told once in so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Troubles that were told, with the time.
type Told = Arc<Mutex<HashMap<QueueName, Instant>>>;

/// Goes on until the broker is gone.
pub(crate) async fn bring_back(inner: Weak<Inner>) {
    let told = Told::default();
    let mut is_in_trouble = false;
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let (link, topology) = (Arc::clone(&strong.links.control), Arc::clone(&strong.topology));
        drop(strong);
        let outcome = async {
            topology.ensure_base().await?;
            let channel = link.channel().await?;
            serve(&inner, &topology.names, &*channel, &told).await
        };
        match outcome.await {
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => {
                // Connections come and go; what is said twice in a row, or will not go by itself, is worth a word.
                if is_in_trouble || !error.kind().is_retryable() {
                    tell(&told, &QueueName::default(), || {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "cannot look after what could not be routed; will try again");
                    });
                }
                is_in_trouble = true;
            }
            // The queue is gone: everything may be.
            Ok(()) => {
                is_in_trouble = false;
                topology.forget_all();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends without an error when the server ends the consumer.
async fn serve(inner: &Weak<Inner>, names: &Names, channel: &dyn Channel, told: &Told) -> Result<()> {
    channel.limit_next_consumer(AT_A_TIME).await?;
    let mut strays = channel.consume(&names.unroutable(), "strays", &Table::new()).await?;
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(done) = under_way.join_next(), if !under_way.is_empty() => {
                if let Ok(Some(tag)) = done {
                    channel.ack(tag, false).await?;
                }
            }
            stray = strays.next() => match stray {
                Some(stray) => drop(under_way.spawn(one(Weak::clone(inner), Arc::clone(told), stray))),
                None if channel.is_open() => return Ok(()),
                None => {
                    let message = "the channel of what could not be routed was closed";
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            },
        }
    }
}

/// Sees one to its end. Returns the tag of what may be acknowledged then; `None` if the broker is gone.
async fn one(inner: Weak<Inner>, told: Told, stray: Delivered) -> Option<u64> {
    let stray = Stray::read(stray);
    loop {
        let error = match send_on(&inner.upgrade()?, &stray).await {
            Ok(()) => return Some(stray.tag),
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) => format!("{error:#}"),
        };
        tell(&told, &stray.queue, || {
            let (queue, job) = (&stray.queue, stray.id);
            tracing::warn!(%queue, %job, error, "a job has lost its way and cannot be sent to its queue; will try again");
        });
        tokio::time::sleep(PAUSE).await;
        let inner = inner.upgrade()?;
        let behind = stray.message("".into(), inner.topology.names.unroutable(), &stray.ticket);
        if outbox::publish_all(&inner, vec![behind]).await.iter().all(Result::is_ok) {
            return Some(stray.tag);
        }
    }
}

/// Something is missing that was thought to be there.
async fn send_on(inner: &Arc<Inner>, stray: &Stray) -> Result<()> {
    let message = stray.on_its_way(&inner.topology.names, delay::hop(inner.options.queue_type));
    inner.topology.restore(&message).await?;
    outbox::publish_all(inner, vec![message]).await.into_iter().collect::<Result<()>>()?;
    let (queue, job) = (&stray.queue, stray.id);
    tracing::warn!(%queue, %job, "a job had lost its way because a queue was deleted; sent again");
    Ok(())
}

fn tell(told: &Told, queue: &QueueName, warn: impl FnOnce()) {
    let (mut told, now) = (told.lock(), Instant::now());
    told.retain(|_, when| now.saturating_duration_since(*when) < TELL_AGAIN);
    if !told.contains_key(queue) {
        told.insert(queue.clone(), now);
        warn();
    }
}

/// A message without a way, and what is known of it. Bytes that are no job go to the default queue, whose consumers know what
/// to do with them.
struct Stray {
    tag: u64,
    id: JobId,
    queue: QueueName,
    ticket: Ticket,
    bytes: Arc<[u8]>,
}

impl Stray {
    fn read(mut stray: Delivered) -> Self {
        // How often it was tried to send it on says nothing about its job.
        message::forget_deliveries(&mut stray.headers);
        let tag = stray.tag;
        let id = stray.message_id.as_deref().and_then(|id| id.parse().ok());
        let bytes: Arc<[u8]> = stray.body.as_slice().into();
        match message::read(stray, &QueueName::default()) {
            Ok(Message { job, ticket, envelope }) => {
                Self { tag, id: job.id, queue: job.ready_queue().clone(), ticket, bytes: envelope }
            }
            Err(_) => {
                let (id, ticket) = (id.unwrap_or_else(JobId::new), Ticket::now(Rank::Normal, SystemClock.now()));
                Self { tag, id, queue: QueueName::default(), ticket, bytes }
            }
        }
    }

    /// The message that is sent instead.
    fn on_its_way(&self, names: &Names, hop: Duration) -> Outgoing {
        let left = self.ticket.ready_at.since(SystemClock.now());
        let path = if self.ticket.rank == Rank::Due { delay::path(left, Precision::Exact, hop) } else { Path::NOW };
        let (exchange, key) = names.address(&self.queue, path);
        let ticket = Ticket { hold: path.hold(), goes_on: path.goes_on(), ..self.ticket.clone() };
        self.message(exchange, key, &ticket)
    }

    fn message(&self, exchange: Arc<str>, key: String, ticket: &Ticket) -> Outgoing {
        message::sealed(self.id, Arc::clone(&self.bytes), ticket, exchange, key)
    }
}
