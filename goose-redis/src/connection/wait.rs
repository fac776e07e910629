//! Waiting for wake markers, on a connection of its own.
//!
//! Only markers are popped by a blocking call, never jobs: what a cut connection can lose is a wake-up, which the
//! limit of the wait repairs.

use std::sync::Arc;
use std::time::Duration;

use fred::bytes::Bytes;
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::classify::Verdict;
use super::keeper::Keeper;
use super::link::Waiter;
use super::pace::Pace;
use super::wire::{End, Request};
use super::{Reply, Topology};

/// The shortest wait there is. To the server zero means for ever, and 6.2 takes a thousandth of a second for zero.
const SHORTEST: Duration = Duration::from_millis(10);

/// How much longer than the wait itself its answer may take.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct BlockingWaiter {
    runtime: Handle,
    keeper: Arc<Keeper>,
    topology: Topology,
    pending: Option<Pending>,
}

/// A wait under way, whose caller may be gone.
#[derive(Debug)]
struct Pending {
    markers: Vec<Bytes>,
    until: Instant,
    task: JoinHandle<Result<Option<Bytes>>>,
}

/// Ends a task with the scope that wanted it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BlockingWaiter {
    pub(super) fn new(runtime: Handle, keeper: Keeper, topology: Topology) -> Self {
        Self { runtime, keeper: Arc::new(keeper), topology, pending: None }
    }

    /// Starts a wait, or takes up the one that was left.
    fn begin(&mut self, markers: &[Bytes], until: Instant) -> Result<&mut Pending> {
        if self.pending.as_ref().is_some_and(|pending| pending.markers != markers) {
            // The server is still at the old one, and would only get to this one after it.
            self.pending = None;
            self.keeper.restart();
        }
        let slots: Vec<_> = markers.iter().map(|marker| self.topology.slot_of(marker)).collect();
        let Some(slot) = slots.first().copied().filter(|first| slots.iter().all(|slot| slot == first)) else {
            return Err(Error::new(ErrorKind::Internal, "a wait needs markers, and all of them in one slot"));
        };
        let (runtime, keeper) = (&self.runtime, &self.keeper);
        Ok(self.pending.get_or_insert_with(|| {
            let task = runtime.spawn(block(Arc::clone(keeper), markers.to_vec(), slot, until));
            Pending { markers: markers.to_vec(), until, task }
        }))
    }
}

impl Waiter for BlockingWaiter {
    fn wait<'a>(&'a mut self, markers: &'a [Bytes], limit: Duration) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let until = Instant::now() + limit;
            let runtime = self.runtime.clone();
            let pending = self.begin(markers, until)?;
            let woken = if pending.until <= until {
                (&mut pending.task).await
            } else {
                // The one that was left lasts longer than this caller wants to wait.
                let mut alarm = AbortOnDrop(runtime.spawn(sleep_until(until)));
                tokio::select! {
                    woken = &mut pending.task => woken,
                    _ = &mut alarm.0 => return Ok(None),
                }
            };
            self.pending = None;
            woken.unwrap_or_else(|_| Err(crate::error::closed()))
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(mut pending) = self.pending.take() {
                pending.task.abort();
                let _ = (&mut pending.task).await;
            }
            // No task holds it any more.
            if let Some(keeper) = Arc::into_inner(self.keeper) {
                keeper.close().await;
            }
        })
    }
}

/// Waits for one marker.
async fn block(keeper: Arc<Keeper>, markers: Vec<Bytes>, slot: Option<u16>, until: Instant) -> Result<Option<Bytes>> {
    let mut pace = Pace::resending();
    loop {
        let wire = keeper.wire(until).await.map_err(|fault| fault.into_error("cannot wait for jobs"))?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let limit = left.max(SHORTEST).as_secs_f64();
        let args = markers.iter().cloned().chain([format!("{limit:.3}").into()]).collect();
        let request = Request { slot, blocking: true, ..Request::new("BZPOPMIN", args) };
        let fault = match wire.send(&request, until + GRACE).await {
            Ok(reply) => return reply.into_array()?.into_iter().next().map(Reply::into_bytes).transpose(),
            Err(fault) => fault,
        };
        match fault.verdict {
            Verdict::Unblocked => return Ok(None),
            Verdict::Refused | Verdict::NoScript => return Err(fault.into_error("cannot wait for jobs")),
            Verdict::Lost => wire.give_up(End::AtOnce, &fault.summary()),
            Verdict::Reconnect => wire.give_up(End::Gentle, &fault.summary()),
            Verdict::NotNow => {}
        }
        let pause = pace.pause();
        if Instant::now() + pause >= until {
            return Err(fault.without_outcome().into_error("cannot wait for jobs"));
        }
        sleep(pause).await;
    }
}
