//! The server's clock, as far as it is known here.

use std::sync::atomic::{AtomicI64, Ordering};

use goose_core::{Clock, SystemClock, Timestamp};

/// An estimate of the server's time, corrected by every answer that carries it. Used where a time is only told
/// to people; what is due is decided by the server itself.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    /// Milliseconds by which the server is ahead.
    offset: AtomicI64,
}

impl ServerClock {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis().saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    /// The server has just said what time it is.
    pub(crate) fn heard(&self, server: Timestamp) {
        let offset = server.as_millis().saturating_sub(SystemClock.now().as_millis());
        self.offset.store(offset, Ordering::Relaxed);
    }
}
