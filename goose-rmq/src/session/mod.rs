//! What sessions receive, hold and settle.
//!
//! A session is one open consumer. It has a channel of its own on the connection for consuming, with a consumer for each queue
//! of its set, and a task on the broker's own thread.
//!
//! ```text
//!             fetch ─┐             ┌─ settle
//!                    ▼             ▼
//!   state      buffers ◄─ ledger: every unacknowledged delivery
//!                    ▲             │
//!   task    deliveries             └─► acknowledgements
//! ```
//!
//! Reading order: `receipt`, `buffer`, `mixer`, `window`, `pace` and `ledger` are arithmetic without a server; `slot` is one
//! queue, `state` all of them, `acknowledging` what the server is told, and `fetching` what a fetch sees of them; `shared` adds
//! what wakes whom; `task` does the work, with `wires` for its consumers, `losses` for what is taken from it, `intake` for what
//! they receive, `errands` for jobs that belong elsewhere, `hand_back` for those that go back, and `probe` to know that the
//! server still hears us; `settle` ends claims; `lease` and `long` are about jobs that take longer than the server allows;
//! `consumer` is what the worker sees.

mod acknowledging;
mod begun;
#[cfg(test)]
mod bench;
mod buffer;
mod connect;
mod consumer;
mod errands;
mod fetching;
mod hand_back;
mod intake;
mod lease;
mod ledger;
mod long;
mod losses;
mod mixer;
#[cfg(test)]
#[cfg(feature = "fault-injection")]
mod on_a_server;
mod pace;
mod phase;
mod probe;
mod receipt;
mod settle;
mod shared;
mod slot;
mod state;
mod surroundings;
mod task;
mod window;
mod wires;

use std::sync::Arc;

use goose_core::Result;
use goose_core::broker::{Consumer, ConsumerOptions};

use self::consumer::RmqConsumer;
use self::shared::Shared;
use self::task::Task;
use crate::broker::{Inner, OpenSession};
use crate::error::closed;

/// Opens a session. Returns when jobs can be claimed.
///
/// # Errors
/// Whatever the server says of the queues, or the connection.
pub(crate) async fn open(inner: Arc<Inner>, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
    let session = Arc::new(Shared::new(Arc::clone(&inner), options));
    let connecting = Arc::clone(&session);
    let connected = inner.runtime.spawn(async move { connect::first(&connecting).await }).await;
    let channel = connected.map_err(|_| closed())??;
    inner.remember(Arc::clone(&session) as Arc<dyn OpenSession>);
    inner.runtime.spawn(Task::new(Arc::clone(&session)).run(channel));
    let consumer = RmqConsumer { session };
    // Closed in between: then nobody else will stop it.
    inner.check_open()?;
    Ok(Box::new(consumer))
}
