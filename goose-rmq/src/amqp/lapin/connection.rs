//! One connection of the library.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures_core::Stream;
use goose_core::{BoxFuture, Error, ErrorKind, Result};
use lapin::{Connection as Lapin, Event};
use tokio::sync::{Mutex, watch};

use super::channel::{LapinChannel, Life};
use super::classify::classify;
use super::socket::Socket;
use crate::amqp::{Channel, Connection, ConnectionEvent};

/// The reply code of a connection that ends in good order.
const GOODBYE: u16 = 200;

/// How long the server has to answer a goodbye. While it blocks publishers, the library does not even send one.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often the state is looked at besides waiting for events: there is none for a server that closes a connection without an
/// error.
const LOOK: Duration = Duration::from_secs(5);

type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

pub(super) struct LapinConnection {
    lapin: Lapin,
    socket: Socket,
    /// One listener only: the library's share what happens among them.
    events: Mutex<Events>,
    is_there: watch::Sender<bool>,
}

impl fmt::Debug for LapinConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinConnection").field("status", self.lapin.status()).finish_non_exhaustive()
    }
}

impl LapinConnection {
    pub(super) fn new(lapin: Lapin, socket: Socket) -> Self {
        let events = Mutex::new(Box::pin(lapin.events_listener()) as Events);
        Self { lapin, socket, events, is_there: watch::Sender::new(true) }
    }

    fn is_over(&self) -> bool {
        !self.lapin.status().connected()
    }

    async fn event(&self) -> ConnectionEvent {
        let mut events = self.events.lock().await;
        // At first without waiting: what happened before there was a listener nobody was told.
        let mut patience = Duration::ZERO;
        loop {
            let event = std::future::poll_fn(|context: &mut Context<'_>| events.as_mut().poll_next(context));
            match tokio::time::timeout(patience, event).await {
                Ok(Some(Event::ConnectionBlocked(reason))) => return ConnectionEvent::Blocked(reason),
                Ok(Some(Event::ConnectionUnblocked)) => return ConnectionEvent::Unblocked,
                // Errors of a channel are told here as well.
                Ok(Some(Event::Error(error))) if self.is_over() => {
                    return ConnectionEvent::Over(classify(error, "go on"));
                }
                Ok(None) => return over(),
                Ok(Some(_)) | Err(_) if self.is_over() => return over(),
                Ok(Some(_)) | Err(_) => patience = LOOK,
            }
        }
    }
}

fn over() -> ConnectionEvent {
    ConnectionEvent::Over(Error::new(ErrorKind::Unavailable, "the connection to the server was closed"))
}

impl Connection for LapinConnection {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        Box::pin(async move {
            let channel = self.lapin.create_channel().await.map_err(|error| classify(error, "open a channel"))?;
            Ok(Arc::new(LapinChannel::new(channel, Life(self.is_there.subscribe()))) as Arc<dyn Channel>)
        })
    }

    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent> {
        Box::pin(async move {
            let event = self.event().await;
            if matches!(event, ConnectionEvent::Over(_)) {
                self.is_there.send_replace(false);
            }
            event
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It is over either way.
            let _ = tokio::time::timeout(FAREWELL, self.lapin.close(GOODBYE, "OK".into())).await;
            self.socket.cut();
            self.is_there.send_replace(false);
        })
    }

    #[cfg(any(test, feature = "fault-injection"))]
    fn cut(&self) {
        self.socket.cut();
    }
}
