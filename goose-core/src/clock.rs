//! The only source of "now".

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use crate::Timestamp;

/// Tells the time. Production code uses [`SystemClock`]; tests put a clock here that they can move.
///
/// A clock decides when jobs are due. It never decides whether a worker is alive: leases are measured on
/// monotonic time, which no administrator or time server can turn.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Calls `on_jump` whenever the clock is moved by hand, so that whoever sleeps until a due time looks
    /// again. A clock that only ever flows, such as [`SystemClock`], need not implement this.
    fn on_jump(&self, on_jump: Arc<dyn Fn() + Send + Sync>) {
        drop(on_jump);
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place the rule points to")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
