//! Deleting waiting jobs and moving them to the front.
//!
//! Nothing can be taken out of a queue. A job that is deleted, or was moved to another message, is removed when a worker meets it, so
//! says the control log. What the journal adds is to know whether it waits, and where.

use std::time::Duration;

use goose_core::{Clock, Error, ErrorKind, QueueName, Result, SystemClock, codec};

use super::index::Place;
use super::note::Note;
use super::{Found, Journal};
use crate::amqp::Outgoing;
use crate::delay::Path;
use crate::log::{Text, Whereabouts};
use crate::message::{self, Rank, Ticket};

/// A message whose time has come is in its queue by then, and one whose time is that far away is in the cascade.
pub(super) const SETTLES: Duration = Duration::from_secs(30);

impl Journal {
    /// Deletes a job that was found. `false` if it was deleted before, or runs meanwhile: then it goes on, and is retried like others.
    pub(crate) async fn delete(&self, found: &Found, remembered: Duration) -> Result<bool> {
        let place = &found.place;
        if !self.log.delete(place.id, remembered, Some(whereabouts(place))).await? {
            return Ok(false);
        }
        // By now every worker has heard of it, and we of everything that began before.
        self.up_to_date().await?;
        let runs = self.stream().state().is_running(place.id);
        if runs {
            self.log.restore(&[place.id]).await?;
        }
        Ok(!runs)
    }

    /// Moves a job that was found to the front of its queue: another message goes there, then the one that waits is given up. Who is
    /// killed in between leaves both.
    pub(crate) async fn prioritise(&self, found: &Found) -> Result<()> {
        let Found { place, job, headers } = found;
        self.topology.ensure_queue(&place.queue).await?;
        let now = SystemClock.now();
        let recoveries = Ticket::of_headers(headers, now).recoveries;
        let ticket = Ticket { recoveries, ..Ticket::now(Rank::Front, now) };
        let (exchange, key) = self.topology.names.address(&place.queue, Path::NOW);
        let mut messages: [Outgoing; 1] = [message::sealed(job.id, codec::encode(job).into(), &ticket, exchange, key)];
        self.topology.names.stamp(&mut messages);
        let word = self.wires.publisher.publish_all(messages.into()).await.pop();
        word.unwrap_or(Ok(()))?;
        self.log.replace(place.copy, whereabouts(place)).await.map_err(|error| {
            let message = "the job was moved to the front, and it could not be noted that its old place is no more; it may run twice";
            Error::new(ErrorKind::OutcomeUnknown, message).with_source(error)
        })
    }

    /// Nothing waits any more in a queue, or in the cascade, of what stood in the journal up to a place.
    pub(crate) async fn is_gone(&self, queue: Option<QueueName>, up_to: u64, due: i64) -> Result<u64> {
        self.stream().append_and_read_back(Note::Gone { queue, up_to, due }.entry()).await
    }

    /// Takes out of the journal what is not in a queue: the server had nothing of it, and no session, after the journal had been read
    /// up to that place. It stands there because a worker or a program was killed before it could say what had become of it.
    pub(crate) async fn forget_ghosts(&self, queue: Option<&QueueName>, up_to: u64) -> Result<()> {
        let now = SystemClock.now();
        let due = match queue {
            Some(_) => now.saturating_sub(SETTLES),
            None => now.saturating_add(SETTLES),
        };
        let jobs = self.is_gone(queue.cloned(), up_to, due.as_millis()).await?;
        tracing::info!(jobs, "jobs were in the journal that are over");
        Ok(())
    }

    /// The last place that is known.
    pub(crate) async fn end(&self) -> Result<u64> {
        self.up_to_date().await?;
        Ok(self.stream().state().last)
    }
}

fn whereabouts(place: &Place) -> Whereabouts {
    let due = if place.rank == Rank::Due { place.ready_at } else { 0 };
    Whereabouts { queue: Text(place.queue.clone()), due }
}
