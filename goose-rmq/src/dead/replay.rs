//! Letting dead jobs run again.
//!
//! The queue and the stream of the dead cannot be changed in one step. So a replay takes dead jobs to itself first (the first to say
//! so has them), then enqueues them, then notes that they are replayed. One that dies in the middle leaves them to the next after a
//! while, which enqueues them once more with the same ids: at least once, as everywhere.

use goose_core::{Clock, Error, Job, JobId, Result, SystemClock};

use super::index::Place;
use super::note::{Known, Note};
use super::{Dead, STEP};
use crate::amqp::Outgoing;
use crate::delay::Path;
use crate::log::Text;
use crate::message::{self, Rank, Ticket};

impl Dead {
    /// Whether there was such a dead job, and it is one that can be decoded.
    pub(crate) async fn replay(&self, id: JobId) -> Result<bool> {
        self.up_to_date().await?;
        let Some(place) = self.stream.state().of(id) else { return Ok(false) };
        Ok(self.replay_these(&[place]).await? > 0)
    }

    /// Replays up to so many, those that died first, in that order, and says how many.
    pub(crate) async fn replay_first(&self, n: u64) -> Result<u64> {
        let (mut replayed, mut after) = (0, None);
        while replayed < n {
            self.up_to_date().await?;
            let limit = usize::try_from(n - replayed).unwrap_or(STEP).min(STEP);
            let places = self.stream.state().after(after, limit);
            let Some(last) = places.last() else { break };
            after = Some(last.offset);
            replayed += self.replay_these(&places).await?;
        }
        Ok(replayed)
    }

    /// Replays some in order, except those that somebody else replays or that are no jobs.
    async fn replay_these(&self, places: &[Place]) -> Result<u64> {
        let deaths: Vec<Known> = places.iter().filter(|place| place.is_job).map(Place::known).collect();
        if deaths.is_empty() {
            return Ok(0);
        }
        let by = JobId::new();
        let claim = Note::Claim { deaths, by: Text(by), at: SystemClock.now().as_millis() };
        if self.stream.append_and_read_back(claim.entry()).await? == 0 {
            return Ok(0);
        }
        let ours: Vec<Place> = {
            let index = self.stream.state();
            places.iter().filter(|place| index.is_with(place.offset, by)).cloned().collect()
        };
        let sent = self.send(&ours).await;
        let (replayed, failure) = match sent {
            Ok((replayed, failure)) => (replayed, failure),
            Err(error) => (Vec::new(), Some(error)),
        };
        let left: Vec<u64> = ours.iter().map(|place| place.offset).filter(|place| !replayed.contains(place)).collect();
        let count = u64::try_from(replayed.len()).unwrap_or(0);
        if !left.is_empty() {
            let unclaim = Note::Unclaim { deaths: left, by: Text(by) };
            // If that fails too they can be had again after a while.
            drop(self.stream.append(&[unclaim.entry()]).await);
        }
        if !replayed.is_empty() {
            let done = Note::Replayed { deaths: replayed, by: Text(by) };
            self.stream.append_and_read_back(done.entry()).await?;
        }
        failure.map_or(Ok(count), Err)
    }

    /// Enqueues them. Answers the places of those that the server has, and why not the others.
    async fn send(&self, places: &[Place]) -> Result<(Vec<u64>, Option<Error>)> {
        let mut jobs: Vec<(u64, Job)> = Vec::with_capacity(places.len());
        for (place, dead) in self.fetch(places).await? {
            if let Some(job) = dead.job() {
                let mut job = job.clone();
                job.attempts.retry_count = 0;
                job.attempts.parked = None;
                jobs.push((place.offset, job));
            }
        }
        // Somebody may have deleted one while it was thought to wait in its queue.
        self.log.restore(&jobs.iter().map(|(_, job)| job.id).collect::<Vec<_>>()).await?;
        for (_, job) in &jobs {
            self.topology.ensure_queue(job.ready_queue()).await?;
            self.log.used(job.ready_queue());
        }
        let ticket = Ticket::now(Rank::Again, SystemClock.now());
        let outgoing = |(_, job): &(u64, Job)| -> Outgoing {
            let (exchange, key) = self.topology.names.address(job.ready_queue(), Path::NOW);
            message::outgoing(job, &ticket, exchange, key)
        };
        let mut messages: Vec<Outgoing> = jobs.iter().map(outgoing).collect();
        self.topology.names.stamp(&mut messages);
        let words = self.wires.publisher.publish_all(messages).await;
        let (mut replayed, mut failure) = (Vec::with_capacity(jobs.len()), None);
        for ((offset, _), word) in jobs.into_iter().zip(words) {
            match word {
                Ok(()) => replayed.push(offset),
                Err(error) => failure = failure.or_else(|| Some(error.into())),
            }
        }
        Ok((replayed, failure))
    }
}
