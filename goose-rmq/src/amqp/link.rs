//! One connection that is kept alive for ever, and where its channels come from.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Channel, Connect, Connection, ConnectionEvent, Role};
use crate::error::closed;

/// The pauses between attempts to connect: doubled from the first to the longest, each with full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A supervised connection of one role.
///
/// Made again for ever with full jitter of 100 ms to 5 s, at once the first time, each time to the next server of
/// the list. All of its work runs on the broker's own thread.
#[derive(Debug)]
pub(crate) struct Link {
    role: Role,
    connect: Arc<dyn Connect>,
    patience: Duration,
    current: watch::Sender<Current>,
    epoch: watch::Sender<u64>,
    blocked: watch::Sender<Option<String>>,
    last_error: Mutex<Option<String>>,
}

/// What stands at this moment.
#[derive(Debug, Clone)]
enum Current {
    Connected(Arc<dyn Connection>),
    Connecting,
    Closed,
}

impl Link {
    /// Connects for the first time, so that what can never work is told at once, and keeps it alive from then on. Runs on
    /// `runtime`; each server is tried once. What must be changed by somebody is told rather than that another server is away.
    pub(crate) async fn open(
        connect: Arc<dyn Connect>,
        role: Role,
        patience: Duration,
        servers: usize,
        runtime: &Handle,
    ) -> Result<Arc<Self>> {
        let first = {
            let connect = Arc::clone(&connect);
            let connecting = runtime.spawn(async move {
                let mut answer = connect.connect(role).await;
                for _ in 1..servers {
                    let Err(before) = answer else { break };
                    answer =
                        connect.connect(role).await.map_err(|error| if before.is_retryable() { error } else { before });
                }
                answer
            });
            connecting.await.map_err(|_| closed())??
        };
        let link = Arc::new(Self {
            role,
            connect,
            patience,
            current: watch::Sender::new(Current::Connected(Arc::clone(&first))),
            epoch: watch::Sender::new(1),
            blocked: watch::Sender::new(None),
            last_error: Mutex::new(None),
        });
        runtime.spawn(Arc::clone(&link).keep(first));
        Ok(link)
    }

    /// A new channel on the connection that stands now. Waits for one that is being made, within the connect timeout.
    pub(crate) async fn channel(&self) -> Result<Arc<dyn Channel>> {
        let opening = async {
            let mut current = self.current.subscribe();
            loop {
                let now = current.borrow_and_update().clone();
                match now {
                    Current::Closed => return Err(closed()),
                    // It may have broken a moment ago; then another one comes soon. The library may say so or nothing at all.
                    Current::Connected(connection) => tokio::select! {
                        biased;
                        opened = connection.open_channel() => match opened {
                            Err(error) if error.kind() == ErrorKind::Unavailable => {
                                tracing::debug!(role = ?self.role, error = format!("{error:#}"), "no channel");
                            }
                            answer => return answer,
                        },
                        changed = current.changed() => {
                            changed.map_err(|_| closed())?;
                            continue;
                        }
                    },
                    Current::Connecting => {}
                }
                current.changed().await.map_err(|_| closed())?;
            }
        };
        match tokio::time::timeout(self.patience, opening).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = self.last_error().unwrap_or_else(|| "the server does not answer".to_owned());
                Err(Error::new(ErrorKind::Unavailable, format!("no connection within {:?}: {why}", self.patience)))
            }
        }
    }

    /// Counts connections: 1 for the first. Changes when the old one is known to be over; what was received under
    /// another number is worth nothing.
    pub(crate) fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// Why the server blocks publishers at this moment, if it does.
    pub(crate) fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.blocked.subscribe()
    }

    /// Why the last connection broke or could not be made, until one stands again.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Gives up the connection of this epoch if it still stands: its server is of no use. The next one is made to the next
    /// server.
    pub(crate) async fn leave(&self, epoch: u64) {
        let current = self.current.borrow().clone();
        if *self.epoch.borrow() == epoch
            && let Current::Connected(connection) = current
        {
            connection.close().await;
        }
    }

    /// Ends for good, saying goodbye. Also what is waiting for a channel ends, with `Closed`.
    pub(crate) fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Current::Connected(connection) = self.current.send_replace(Current::Closed) {
                connection.close().await;
                self.connect.ended(self.role, "the broker was closed", true);
            }
        })
    }

    /// Ends for good as a killed process would: the sockets are closed, nothing is said.
    #[cfg(any(test, feature = "fault-injection"))]
    pub(crate) fn abandon(&self) {
        if let Current::Connected(connection) = self.current.send_replace(Current::Closed) {
            connection.cut();
        }
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Looks after the connection until the link is closed. Never ends on an error.
    async fn keep(self: Arc<Self>, first: Arc<dyn Connection>) {
        let mut connection = first;
        let mut closed = self.current.subscribe();
        loop {
            let over = tokio::select! {
                over = self.until_over(&*connection) => over,
                _ = closed.wait_for(|current| matches!(current, Current::Closed)) => return,
            };
            // First the reason: whoever learns that it is over may ask for it.
            *self.last_error.lock() = Some(format!("{over:#}"));
            // Not if it was closed meanwhile.
            let is_closed = self.change(Current::Connecting);
            self.blocked.send_replace(None);
            self.epoch.send_modify(|epoch| *epoch += 1);
            if is_closed {
                return;
            }
            tracing::warn!(role = ?self.role, error = format!("{over:#}"), "lost the connection to the server; will connect again");
            self.connect.ended(self.role, &format!("{over:#}"), false);
            drop(connection);
            connection = tokio::select! {
                connection = self.connect_again() => connection,
                _ = closed.wait_for(|current| matches!(current, Current::Closed)) => return,
            };
            tracing::info!(role = ?self.role, "connected to the server again");
            *self.last_error.lock() = None;
            if self.change(Current::Connected(Arc::clone(&connection))) {
                connection.close().await;
                return;
            }
        }
    }

    /// Takes on another state unless the link is closed; says whether it is.
    fn change(&self, next: Current) -> bool {
        let changed = self.current.send_if_modified(|current| {
            let is_open = !matches!(current, Current::Closed);
            if is_open {
                *current = next;
            }
            is_open
        });
        !changed
    }

    async fn until_over(&self, connection: &dyn Connection) -> Error {
        loop {
            match connection.next_event().await {
                ConnectionEvent::Blocked(reason) => {
                    tracing::warn!(role = ?self.role, reason, "the server takes in nothing more");
                    self.blocked.send_replace(Some(reason));
                }
                ConnectionEvent::Unblocked => {
                    tracing::info!(role = ?self.role, "the server takes in messages again");
                    self.blocked.send_replace(None);
                }
                ConnectionEvent::Over(error) => return error,
            }
        }
    }

    async fn connect_again(&self) -> Arc<dyn Connection> {
        let began = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            tokio::time::sleep(pause.mul_f64(random())).await;
            match self.connect.connect(self.role).await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::warn!(
                        role = ?self.role, error = format!("{error:#}"), since = ?began.elapsed(),
                        "cannot connect to the server; will try again"
                    );
                    *self.last_error.lock() = Some(format!("{error:#}"));
                }
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }
}

/// A random number in `0.0..1.0`, from the key that the operating system gives every new hasher.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    let [a, b, c, d, ..] = bits.to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
