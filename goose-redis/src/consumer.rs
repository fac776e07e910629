//! A claim-holding session, seen from the worker.

use std::sync::Arc;

use goose_core::broker::{Consumer, Delivery, LoopHealth, Receipt, SettleError, Settlement};
use goose_core::{BoxFuture, Result};

use crate::broker::Inner;
use crate::encoding::Claim;
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
        inner.link.spawn(Box::pin(fetch::serve(Arc::clone(&inner), Arc::clone(&session))));
        Self { inner, session }
    }
}

/// Ends a session: hands back what was claimed and not fetched, ends the lease.
pub(crate) async fn stop(inner: &Inner, session: &Arc<Session>) -> Result<()> {
    if session.is_stopped() || session.is_abandoned() {
        return Ok(());
    }
    let buffered = session.stop();
    inner.forget(session);
    let claims: Vec<Claim> = buffered.iter().filter_map(|delivery| Claim::of(&delivery.receipt)).collect();
    settle::release(inner, session, &claims).await?;
    lease::close(inner, session).await
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
        let mut heartbeat = LoopHealth::new("heartbeat", self.session.last_renewal(), self.session.lease * 5 / 6);
        heartbeat.last_error = self.inner.last_error();
        vec![heartbeat]
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
