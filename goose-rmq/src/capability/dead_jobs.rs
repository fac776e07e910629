//! Dead jobs.

use goose_core::broker::capability::{Cursor, DeadJob, DeadJobs, JobFilter, Page, Paged};
use goose_core::{BoxFuture, Error, ErrorKind, JobId, Result, Timestamp};

use super::Powers;

impl DeadJobs for Powers {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move { powers.dead.size().await }))
    }

    fn pop(&self) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(self.run(|powers| async move { powers.dead.pop().await }))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        Box::pin(self.run(move |powers| async move { powers.dead.find(id).await }))
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, page: Page) -> BoxFuture<'a, Result<Paged<DeadJob>>> {
        Box::pin(async move {
            let after = page.after.as_ref().map(place).transpose()?;
            let limit = usize::try_from(page.limit.clamp(1, Page::MAX)).unwrap_or(1);
            let (found, next) = self.run(move |powers| async move { powers.dead.page(after, limit).await }).await?;
            let everything = *filter == JobFilter::default();
            let passes = |dead: &DeadJob| dead.job().map_or(everything, |job| filter.matches(job));
            let next = next.map(|place| Cursor::new(place.to_string()));
            Ok(Paged { items: found.into_iter().filter(passes).collect(), next })
        })
    }

    fn replay(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move { powers.dead.replay(id).await }))
    }

    fn replay_n(&self, n: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(move |powers| async move { powers.dead.replay_first(n).await }))
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.run(move |powers| async move { powers.dead.delete(id).await }))
    }

    fn delete_older_than(&self, time: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(move |powers| async move { powers.dead.delete_before(Some(time)).await }))
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.run(|powers| async move { powers.dead.delete_before(None).await }))
    }
}

/// The place in the stream where a page ended.
fn place(cursor: &Cursor) -> Result<u64> {
    cursor.as_str().parse().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "the page cursor is not one of this broker, start from the first page")
    })
}
