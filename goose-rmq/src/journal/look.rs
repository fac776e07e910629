//! Pages of what waits.

use goose_core::broker::capability::{Cursor, JobFilter, Page, Paged, ScheduledJob};
use goose_core::{Clock, Job, QueueName, Result, SystemClock, Timestamp};

use super::index::{Key, Place};
use super::{Found, Journal, bad_cursor};
use crate::message::Rank;

/// The order of ranks, as cursors write them.
const RANKS: [Rank; 5] = [Rank::Again, Rank::Front, Rank::Due, Rank::Returned, Rank::Normal];

impl Journal {
    /// The next jobs of a queue, in the order in which workers take them.
    pub(crate) async fn page_of_queue(&self, queue: &QueueName, filter: &JobFilter, page: Page) -> Result<Paged<Job>> {
        let after = page.after.as_ref().map(key).transpose()?;
        self.up_to_date().await?;
        let places: Vec<Place> = {
            let index = self.stream().state();
            let waiting = index.of_queue(queue, after).filter(|place| !self.is_dropped(place));
            waiting.take(limit(&page)).cloned().collect()
        };
        let next = next(&page, &places, |place| {
            let Key(rank, time, first) = place.key();
            let rank = RANKS.iter().position(|other| *other == rank).unwrap_or_default();
            format!("{rank}.{time}.{first}")
        });
        let found = self.fetch(places).await?.into_iter().map(|found| found.job);
        Ok(Paged { items: found.filter(|job| filter.matches(job)).collect(), next })
    }

    /// The next jobs that wait for their time, in order of time.
    pub(crate) async fn page_of_scheduled(&self, filter: &JobFilter, page: Page) -> Result<Paged<ScheduledJob>> {
        let after = page.after.as_ref().map(time).transpose()?;
        self.up_to_date().await?;
        let places: Vec<Place> = {
            let index = self.stream().state();
            let waiting = index.of_later(after).filter(|place| !self.is_dropped(place));
            waiting.take(limit(&page)).cloned().collect()
        };
        let next = next(&page, &places, |place| format!("{}.{}", place.ready_at, place.first));
        let found = self.fetch(places).await?.into_iter().filter(|found| filter.matches(&found.job));
        Ok(Paged { items: found.map(Found::scheduled).collect(), next })
    }

    /// Whether the journal believes that jobs wait in a queue, and up to which place that is so. Those whose time has just come may be on their
    /// way, and are left out.
    pub(crate) async fn believed(&self, queue: &QueueName) -> Result<(bool, u64)> {
        self.up_to_date().await?;
        let index = self.stream().state();
        let settled = SystemClock.now().saturating_sub(super::repair::SETTLES).as_millis();
        let is_there = |place: &Place| place.rank != Rank::Due || place.ready_at < settled;
        Ok((index.of_queue(queue, None).any(is_there), index.last))
    }

    /// The same of those that wait for their time.
    pub(crate) async fn believed_scheduled(&self) -> Result<(bool, u64)> {
        self.up_to_date().await?;
        let index = self.stream().state();
        let settled = SystemClock.now().saturating_add(super::repair::SETTLES).as_millis();
        Ok((index.of_later(Some((settled, 0))).next().is_some(), index.last))
    }
}

impl Found {
    pub(crate) fn scheduled(self) -> ScheduledJob {
        ScheduledJob::new(self.job, Timestamp::from_millis(self.place.ready_at), self.place.kind)
    }
}

fn limit(page: &Page) -> usize {
    usize::try_from(page.limit.clamp(1, Page::MAX)).unwrap_or(1)
}

/// Where a page ends, if there may be more.
fn next(page: &Page, places: &[Place], cursor: impl Fn(&Place) -> String) -> Option<Cursor> {
    places.last().filter(|_| places.len() == limit(page)).map(|last| Cursor::new(cursor(last)))
}

fn key(cursor: &Cursor) -> Result<Key> {
    let mut parts = cursor.as_str().splitn(3, '.');
    let mut part = || parts.next().and_then(|part| part.parse::<i64>().ok());
    let key = (|| {
        let rank = usize::try_from(part()?).ok()?;
        Some(Key(*RANKS.get(rank)?, part()?, part()?))
    })();
    key.ok_or_else(|| bad_cursor(cursor))
}

fn time(cursor: &Cursor) -> Result<(i64, u64)> {
    let parts = cursor.as_str().split_once('.');
    let time = parts.and_then(|(due, first)| Some((due.parse().ok()?, first.parse().ok()?)));
    time.ok_or_else(|| bad_cursor(cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        let key_of = |text: &str| key(&Cursor::new(text));
        assert_eq!(key_of("1.-5.-7").unwrap(), Key(Rank::Front, -5, -7));
        assert_eq!(key_of("4.0.9").unwrap(), Key(Rank::Normal, 0, 9));
        assert_eq!(time(&Cursor::new("-5.9")).unwrap(), (-5, 9));
        assert!(RANKS.is_sorted());
        for bad in ["", "5.0.1", "1.2", "a.b.c", "-1.0.0", "1.2.3.4"] {
            assert!(key_of(bad).is_err(), "{bad}");
        }
        assert!(time(&Cursor::new("7")).is_err());
    }
}
