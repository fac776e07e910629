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

/// Counts jobs, and wakes whoever waits for the last of them.
#[derive(Clone)]
pub(crate) struct Counter(Arc<Shared>);

struct Shared {
    count: AtomicU64,
    last: u64,
    /// Told once, for a wake-up per job would be measured with the job.
    done: Notify,
}

impl Counter {
    pub(crate) fn up_to(last: u64) -> Self {
        Self(Arc::new(Shared { count: AtomicU64::new(0), last, done: Notify::new() }))
    }

    pub(crate) fn add(&self) {
        if self.0.count.fetch_add(1, Ordering::Relaxed) + 1 == self.0.last {
            self.0.done.notify_one();
        }
    }

    pub(crate) async fn is_full(&self) {
        self.0.done.notified().await;
    }
}
