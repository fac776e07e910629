//! A claim-holding session, seen from the worker.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Consumer, Delivery, LoopHealth, Receipt, SettleError, Settlement};
use goose_core::{BoxFuture, Result};
use tokio::sync::oneshot;

use crate::broker::Inner;
use crate::encoding::Claim;
use crate::error::closed;
use crate::session::Session;
use crate::{fetch, lease, settle};

/// The consumer of the Redis broker. Dropping it without [`stop`](Consumer::stop) stops it in the background.
#[derive(Debug)]
pub(crate) struct RedisConsumer {
    inner: Arc<Inner>,
    session: Arc<Session>,
}

impl RedisConsumer {
    /// Starts the session's tasks on the broker's own thread.
    pub(crate) fn start(inner: Arc<Inner>, session: Arc<Session>) -> Self {
        inner.link.spawn(Box::pin(lease::serve(Arc::clone(&inner), Arc::clone(&session))));
        let fetching = inner.link.spawn(Box::pin(fetch::serve(Arc::clone(&inner), Arc::clone(&session))));
        session.is_fetched_for_by(fetching);
        Self { inner, session }
    }
}

/// How long a stop waits for the fetching task, which may be in the middle of a call to a server that is away.
const FETCHING_ENDS_WITHIN: Duration = Duration::from_millis(500);

/// Begins to end a session, unless it is over already: hands back what was claimed and not fetched, ends the lease. It is
/// done on the broker's own thread: it needs no runtime of the caller's, and comes to its end also when the caller does
/// not wait for that.
pub(crate) fn begin_stop(inner: &Arc<Inner>, session: &Arc<Session>) -> Option<oneshot::Receiver<Result<()>>> {
    if session.is_stopped() || session.is_abandoned() {
        return None;
    }
    let buffered = session.stop();
    inner.forget(session);
    let (tell, outcome) = oneshot::channel();
    let (inner_there, session) = (Arc::clone(inner), Arc::clone(session));
    inner.link.spawn(Box::pin(async move {
        let _ = tell.send(end(&inner_there, &session, &buffered).await);
    }));
    Some(outcome)
}

async fn stop(inner: &Arc<Inner>, session: &Arc<Session>) -> Result<()> {
    match begin_stop(inner, session) {
        Some(outcome) => outcome.await.unwrap_or_else(|_| Err(closed())),
        None => Ok(()),
    }
}

async fn end(inner: &Arc<Inner>, session: &Arc<Session>, buffered: &[Delivery]) -> Result<()> {
    // Its wait must be over before anything is handed back: the marker would wake us instead of somebody who stays.
    if let Some(fetching) = session.fetching() {
        let _ = tokio::time::timeout(FETCHING_ENDS_WITHIN, fetching).await;
    }
    let claims: Vec<Claim> = buffered.iter().filter_map(|delivery| Claim::of(&delivery.receipt)).collect();
    let released = settle::release(inner, session, &claims).await;
    // Also when that failed: jobs of a session that ended in good order are recovered without counting as a crash.
    let closed = lease::close(inner, session).await;
    released.and(closed)
}

impl Consumer for RedisConsumer {
    fn fetch(&self, up_to: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            if up_to == 0 {
                return Ok(Vec::new());
            }
            loop {
                if let Some(answer) = self.session.take(up_to) {
                    return answer;
                }
                // Whatever is delivered from here on stays in the session's buffer until somebody takes it, so
                // that dropping this future at the await loses nothing.
                let wanting = self.session.want(up_to);
                self.session.woken().await;
                drop(wanting);
            }
        })
    }

    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(settle::settle(&self.inner, &self.session, settlements))
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(stop(&self.inner, &self.session))
    }

    fn holds(&self, receipt: &Receipt) -> bool {
        Claim::of(receipt).is_some_and(|claim| self.session.holds(claim))
    }

    fn health(&self) -> Vec<LoopHealth> {
        let (renewed, limit) = (self.session.last_renewal(), self.session.lease * 5 / 6);
        let mut heartbeat = LoopHealth::new("heartbeat", renewed, limit);
        heartbeat.last_error = self.inner.last_error();
        let link = self.inner.link.health();
        let silent_for = if link.connected { Duration::ZERO } else { renewed };
        let mut connection = LoopHealth::new("connection", silent_for, limit);
        connection.restarts = link.reconnects;
        connection.last_error = link.last_error;
        vec![heartbeat, connection]
    }
}

impl Drop for RedisConsumer {
    fn drop(&mut self) {
        if !self.session.is_over() {
            let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
            self.inner.link.spawn(Box::pin(async move {
                if let Err(error) = stop(&inner, &session).await {
                    tracing::warn!(error = format!("{error:#}"), "cannot hand back jobs; they will be recovered");
                }
            }));
        }
    }
}
