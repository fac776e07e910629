//! Sleeping until there may be something to fetch.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use fred::bytes::Bytes;
use goose_core::{BoxFuture, Result};
use tokio::sync::oneshot;

use crate::broker::Inner;
use crate::connection::{Topology, Waiter};
use crate::session::Session;

/// The longest sleep: repairs a wake-up that got lost with a connection.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Between waits that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for markers that may be under way while other things happen: a marker that arrives meanwhile is not lost.
pub(crate) struct Sleeper {
    waits: Vec<Wait>,
}

/// A wait for markers that are on one node.
struct Wait {
    markers: Vec<Bytes>,
    state: State,
}

/// The waiter back, and the marker that it took.
type Answer = (Box<dyn Waiter>, Result<Option<Bytes>>);

enum State {
    /// Nothing is under way, and there may be no connection either.
    Idle(Option<Box<dyn Waiter>>),
    /// Dropping the sender ends it early.
    UnderWay(BoxFuture<'static, Answer>, oneshot::Sender<()>),
}

impl Sleeper {
    /// One wait for all queues of the session. On a cluster each queue has a node of its own, and a wait too.
    pub(crate) fn new(session: &Session, topology: Topology) -> Self {
        let markers: Vec<Bytes> = session.queues.iter().map(|(_, keys)| keys.wake.clone()).collect();
        let groups = if topology.is_cluster() { markers.chunks(1) } else { markers.chunks(markers.len().max(1)) };
        let wait = |group: &[Bytes]| Wait { markers: group.to_vec(), state: State::Idle(None) };
        Self { waits: groups.map(wait).collect() }
    }

    /// Begins to wait for all markers that are not waited for already.
    pub(crate) async fn start(&mut self, inner: &Inner) -> Result<()> {
        for wait in &mut self.waits {
            wait.start(inner).await?;
        }
        Ok(())
    }

    /// The end of a wait under way; `true` when a marker was taken. Never comes when none is under way.
    pub(crate) async fn marker(&mut self) -> bool {
        let (ended, waiter, answer) = poll_fn(|cx| {
            for (n, wait) in self.waits.iter_mut().enumerate() {
                if let State::UnderWay(under_way, _) = &mut wait.state
                    && let Poll::Ready((waiter, answer)) = under_way.as_mut().poll(cx)
                {
                    return Poll::Ready((n, waiter, answer));
                }
            }
            Poll::Pending
        })
        .await;
        let (waiter, answer) = match answer {
            Ok(marker) => (Some(waiter), Ok(marker.is_some())),
            Err(error) => (None, Err(error)),
        };
        self.waits[ended].state = State::Idle(waiter);
        match answer {
            Ok(woken) => woken,
            // The next fetch says what is wrong, and whoever waits for it makes the pause.
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "waiting for jobs failed");
                tokio::time::sleep(PAUSE).await;
                false
            }
        }
    }

    /// Closes all connections, also those that wait: a marker that comes later must wake somebody else.
    pub(crate) async fn close(self) {
        for wait in self.waits {
            let waiter = match wait.state {
                State::Idle(waiter) => waiter,
                State::UnderWay(under_way, go_on) => {
                    drop(go_on);
                    Some(under_way.await.0)
                }
            };
            if let Some(waiter) = waiter {
                waiter.close().await;
            }
        }
    }
}

impl Wait {
    async fn start(&mut self, inner: &Inner) -> Result<()> {
        let State::Idle(waiter) = &mut self.state else { return Ok(()) };
        let mut waiter = match waiter.take() {
            Some(waiter) => waiter,
            None => inner.link.waiter().await?,
        };
        let markers = self.markers.clone();
        let (go_on, ended) = oneshot::channel();
        let wait = async move {
            let answer = tokio::select! {
                answer = waiter.wait(&markers, LONGEST_WAIT) => answer,
                _ = ended => Ok(None),
            };
            (waiter, answer)
        };
        self.state = State::UnderWay(Box::pin(wait), go_on);
        Ok(())
    }
}
