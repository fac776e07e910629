//! Real servers, a link that can be damaged, and a server that says what it is told to, for the tests of this crate.
//!
//! Servers run on private ports in temporary folders, and end with the value that stands for them, also when a test
//! panics. `GOOSE_REDIS_SERVER` names another command than `redis-server`.

#![allow(unreachable_pub, reason = "it is a module of several test programs")]
#![allow(clippy::expect_used, clippy::panic, reason = "a failed expectation is how a test reports")]

pub mod cluster;
pub mod fake;
pub mod proxy;
pub mod resp;
pub mod sentinel;
pub mod server;

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Waits for a condition; panics with `what` after ten seconds.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, condition);
}

/// Waits for a condition; panics with `what` after `limit`.
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        rest(Duration::from_millis(5));
    }
}

/// A pause: how long a fault lasts, or between two looks at a condition.
pub fn rest(pause: Duration) {
    let (_alive, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(pause);
}
