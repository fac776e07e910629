//! A claim-holding session, seen from the worker.

use std::sync::Arc;

use goose_core::broker::{Consumer, Delivery, LoopHealth, Receipt, SettleError, Settlement, Verdict};
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::broker::EngineHandle;
use crate::encoding::Claim;
use crate::engine::Message;
use crate::session::Session;
use crate::settle::{Settle, answers};
use crate::work::answer;

/// The consumer of the embedded broker. Dropping it without [`stop`](Consumer::stop) stops it in the background.
#[derive(Debug)]
pub(crate) struct SqliteConsumer {
    engine: EngineHandle,
    session: Arc<Session>,
}

impl SqliteConsumer {
    pub(crate) fn new(engine: EngineHandle, session: Arc<Session>) -> Self {
        Self { engine, session }
    }
}

/// Whether an error may be one settlement's fault, so that the others would do without it.
fn is_about_one_of_them(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown | ErrorKind::Closed)
}

impl SqliteConsumer {
    /// Each in a transaction of its own; first those that make room, since the reason may be a full disk.
    async fn settle_one_by_one(&self, settlements: &[Settlement]) -> Vec<Result<(), SettleError>> {
        let stores = |i: &usize| {
            matches!(settlements[*i].verdict, Verdict::Retry { .. } | Verdict::Snooze { .. } | Verdict::Bury { .. })
        };
        let mut order: Vec<usize> = (0..settlements.len()).collect();
        order.sort_by_key(stores);
        let mut all: Vec<Result<(), SettleError>> = settlements.iter().map(|_| Err(SettleError::Fenced)).collect();
        for i in order {
            let outcome = self.engine.ask(Settle::work(&settlements[i..=i])).await;
            if let Some(answer) = answers(outcome, 1).pop() {
                all[i] = answer;
            }
        }
        all
    }
}

impl Consumer for SqliteConsumer {
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
                self.engine.send(Message::Look)?;
                self.session.woken().await;
                drop(wanting);
            }
        })
    }

    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move {
            if settlements.is_empty() {
                return Vec::new();
            }
            match self.engine.ask(Settle::work(settlements)).await {
                Err(error) if settlements.len() > 1 && is_about_one_of_them(&error) => {
                    self.settle_one_by_one(settlements).await
                }
                outcome => answers(outcome, settlements.len()),
            }
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.session.is_stopped() {
                return Ok(());
            }
            let (reply, stopped) = oneshot::channel();
            match self.engine.send(Message::Stop(Arc::clone(&self.session), reply)) {
                Ok(()) => answer(stopped).await,
                // Closing the broker has stopped it.
                Err(_) => Ok(()),
            }
        })
    }

    fn holds(&self, receipt: &Receipt) -> bool {
        self.session.holds(Claim::of(receipt))
    }

    fn health(&self) -> Vec<LoopHealth> {
        let mut heartbeat = LoopHealth::new("heartbeat", self.session.last_renewal(), self.session.lease * 5 / 6);
        heartbeat.last_error = self.engine.health().last_error;
        vec![self.engine.health(), heartbeat]
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        if !self.session.is_stopped() {
            let (reply, _) = oneshot::channel();
            let _ = self.engine.send(Message::Stop(Arc::clone(&self.session), reply));
        }
    }
}
