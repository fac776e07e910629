//! A claim-holding session, seen from the worker.

use std::sync::Arc;
use std::time::Instant;

use goose_core::broker::{Consumer, Delivery, LoopHealth, Receipt, SettleError, Settlement};
use goose_core::{BoxFuture, Result};

use super::settle;
use super::shared::{End, Shared};

/// The consumer of the RabbitMQ broker. Dropping it without [`stop`](Consumer::stop) stops it in the background.
#[derive(Debug)]
pub(super) struct RmqConsumer {
    pub(super) session: Arc<Shared>,
}

/// While it lives, a fetch waits.
struct Waiting<'a> {
    session: &'a Shared,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.session.want_nothing();
        }
    }
}

impl Consumer for RmqConsumer {
    fn fetch(&self, up_to: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            if up_to == 0 {
                return Ok(Vec::new());
            }
            let session = &*self.session;
            let mut waiting = Waiting { session, is_over: false };
            loop {
                if let Some(answer) = session.take(up_to) {
                    waiting.is_over = true;
                    return answer;
                }
                // What comes from here on stays in its buffer until somebody takes it, so that dropping this future at
                // the await loses nothing.
                session.delivered.notified().await;
            }
        })
    }

    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(settle::settle(&self.session, settlements))
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.session.begin_stop();
            self.session.ended(End::HandedBack).await;
            self.session.say_counts().await;
            self.session.state().stop_error.take().map_or(Ok(()), Err)
        })
    }

    fn holds(&self, receipt: &Receipt) -> bool {
        self.session.holds(receipt)
    }

    fn health(&self) -> Vec<LoopHealth> {
        let state = self.session.state();
        let silent_for = Instant::now().saturating_duration_since(state.renewed);
        let mut lease = LoopHealth::new("lease", silent_for, self.session.heartbeat());
        lease.restarts = state.losses;
        lease.last_error = state.last_error.clone().or_else(|| self.session.inner.last_error());
        vec![lease]
    }
}

impl Drop for RmqConsumer {
    fn drop(&mut self) {
        self.session.begin_stop();
    }
}
