//! The model's session.

use std::sync::Arc;
use std::time::Duration;

use goose_core::broker::{Consumer, Delivery, LoopHealth, Receipt, SettleError, Settlement};
use goose_core::{BoxFuture, Error, ErrorKind, Result};

use super::Defect;
use super::state::Shared;

#[derive(Debug)]
pub(crate) struct ModelConsumer {
    shared: Arc<Shared>,
    session: u64,
}

impl ModelConsumer {
    pub(crate) fn new(shared: Arc<Shared>, session: u64) -> Self {
        Self { shared, session }
    }

    async fn wait_for_jobs(&self, up_to: usize) -> Result<Vec<Delivery>> {
        loop {
            // Registered before the look, so that what happens in between is not missed.
            let mut woken = std::pin::pin!(self.shared.wake.notified());
            woken.as_mut().enable();
            let (claimed, next_event, defect) = self.shared.look(|state| {
                let open = state.sessions.get(&self.session).is_some_and(|session| session.gone.is_none());
                if !open {
                    return Err(Error::new(ErrorKind::Closed, "the session is closed"));
                }
                Ok((state.claim(self.session, up_to), state.next_event(), state.defect))
            })?;
            if defect == Some(Defect::LosesDroppedFetches) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if !claimed.is_empty() {
                return Ok(claimed);
            }
            let next_event = async {
                match next_event {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            if defect == Some(Defect::Polls) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            } else {
                tokio::select! {
                    () = woken => {}
                    () = next_event => {}
                }
            }
        }
    }
}

impl Consumer for ModelConsumer {
    fn fetch(&self, up_to: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move { if up_to == 0 { Ok(Vec::new()) } else { self.wait_for_jobs(up_to).await } })
    }

    fn settle<'a>(&'a self, settlements: &'a [Settlement]) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        Box::pin(async move { self.shared.change(|state| state.settle(settlements)) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.shared.change(|state| state.close(self.session, true));
            Ok(())
        })
    }

    fn holds(&self, receipt: &Receipt) -> bool {
        self.shared.look(|state| state.is(Defect::TrustsLostClaims) || state.holds(receipt).is_some())
    }

    fn health(&self) -> Vec<LoopHealth> {
        Vec::new()
    }
}

impl Drop for ModelConsumer {
    fn drop(&mut self) {
        self.shared.change(|state| state.close(self.session, false));
    }
}
