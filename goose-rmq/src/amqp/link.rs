//! One connection that is kept alive for ever, and where its channels come from.

use std::sync::Arc;

use goose_core::{BoxFuture, Error, Result};
use tokio::sync::watch;

use super::{Channel, Connect, Role};

/// A supervised connection of one role.
///
/// Made again for ever with full jitter between 100 ms and 30 s, at once the first time, each time to the next server of
/// the list. All of its work runs on the broker's own thread.
#[derive(Debug)]
pub(crate) struct Link {}

impl Link {
    /// Connects for the first time, within the connect timeout, so that what can never work is told at once.
    pub(crate) async fn open(_connect: Arc<dyn Connect>, _role: Role) -> Result<Arc<Self>> {
        unimplemented!()
    }

    /// A new channel on the connection that stands now. Waits for one that is being made, within the connect timeout.
    pub(crate) async fn channel(&self) -> Result<Arc<dyn Channel>> {
        unimplemented!()
    }

    /// Counts connections: 1 for the first. Changes when the old one is known to be over; what was received under
    /// another number is worth nothing.
    pub(crate) fn epoch(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Why the server blocks publishers at this moment, if it does.
    pub(crate) fn blocked(&self) -> watch::Receiver<Option<String>> {
        unimplemented!()
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        unimplemented!()
    }

    /// Ends for good, saying goodbye. Also what is waiting for a channel ends, with `Closed`.
    pub(crate) fn close(&self) -> BoxFuture<'_, ()> {
        unimplemented!()
    }

    /// Ends for good as a killed process would: the sockets are closed, nothing is said.
    pub(crate) fn abandon(&self) {
        unimplemented!()
    }
}

fn _error(_: Error) {}
