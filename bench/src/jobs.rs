//! The job that does nothing, with 200 bytes of arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use goose_worker::JobArgs;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

#[derive(Serialize, Deserialize)]
pub(crate) struct NoOp {
    pub(crate) filler: String,
}

impl JobArgs for NoOp {
    const NAME: &'static str = "no-op";
}

impl NoOp {
    pub(crate) fn new() -> Self {
        Self { filler: "x".repeat(190) }
    }
}

/// A job that says when it was meant to start.
#[derive(Serialize, Deserialize)]
pub(crate) struct Timed {
    /// Microseconds since the start of the program.
    pub(crate) due: u64,
}

impl JobArgs for Timed {
    const NAME: &'static str = "timed";
}

/// Counts jobs, and wakes whoever waits for a number of them.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<(AtomicU64, Notify)>);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.notify_one();
    }

    pub(crate) async fn reaches(&self, number: u64) {
        while self.0.0.load(Ordering::Relaxed) < number {
            self.0.1.notified().await;
        }
    }
}
