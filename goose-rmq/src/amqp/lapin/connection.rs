//! One connection of the library.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use lapin::{Connection as Lapin, Event};
use tokio::sync::Mutex;

use super::channel::LapinChannel;
use super::classify::classify;
use crate::amqp::{Channel, Connection, ConnectionEvent};

/// The reply code of a connection that ends in good order.
const GOODBYE: u16 = 200;

type Events = Pin<Box<dyn futures_core::Stream<Item = Event> + Send>>;

pub(super) struct LapinConnection {
    lapin: Lapin,
    /// A second handle on its socket.
    socket: Option<TcpStream>,
    /// One listener only: the library's share what happens among them.
    events: Mutex<Events>,
}

impl fmt::Debug for LapinConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LapinConnection").field("status", self.lapin.status()).finish_non_exhaustive()
    }
}

impl LapinConnection {
    pub(super) fn new(lapin: Lapin, socket: Option<TcpStream>) -> Self {
        let events = Mutex::new(Box::pin(lapin.events_listener()) as Events);
        Self { lapin, socket, events }
    }

    fn is_over(&self) -> bool {
        !self.lapin.status().connected()
    }
}

fn over() -> ConnectionEvent {
    ConnectionEvent::Over(Error::new(ErrorKind::Unavailable, "the connection to the server was closed"))
}

impl Connection for LapinConnection {
    fn open_channel(&self) -> BoxFuture<'_, Result<Arc<dyn Channel>>> {
        Box::pin(async move {
            let channel = self.lapin.create_channel().await.map_err(|error| classify(error, "open a channel"))?;
            Ok(Arc::new(LapinChannel::new(channel)) as Arc<dyn Channel>)
        })
    }

    fn next_event(&self) -> BoxFuture<'_, ConnectionEvent> {
        Box::pin(async move {
            let mut events = self.events.lock().await;
            loop {
                let event = std::future::poll_fn(|context: &mut Context<'_>| events.as_mut().poll_next(context));
                match event.await {
                    Some(Event::ConnectionBlocked(reason)) => return ConnectionEvent::Blocked(reason),
                    Some(Event::ConnectionUnblocked) => return ConnectionEvent::Unblocked,
                    Some(Event::Error(error)) => {
                        // Errors of a channel are told here as well.
                        if self.is_over() {
                            return ConnectionEvent::Over(classify(error, "go on"));
                        }
                    }
                    Some(_) => {
                        if self.is_over() {
                            return over();
                        }
                    }
                    None => return over(),
                }
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let closing = pin!(self.lapin.close(GOODBYE, "OK".into()));
            // It is over either way.
            let _ = closing.await;
        })
    }

    fn cut(&self) {
        if let Some(socket) = &self.socket {
            // Fails when the other side has closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
