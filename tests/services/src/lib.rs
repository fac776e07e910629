//! Real servers, a link that can be damaged, and a server that says what it is told to, for tests.
//!
//! Servers run on private ports in temporary folders, and end with the value that stands for them, also when a test
//! panics; where there is no time for that, as after `kill -9`, they end with the process. `GOOSE_REDIS_SERVER=COMMAND`
//! names the server to use; otherwise it is `redis-server`, and `valkey-server` where there is no other.
//! `GOOSE_RABBITMQ_SERVER=COMMAND` names the RabbitMQ of [`rabbit`]; otherwise it is the newest one that is installed.
//!
//! Everything here panics when it cannot do what it is asked: it is only ever called by tests, and by the program
//! `services`, which starts servers for hand use. For Unix only, as the servers are.

#![allow(clippy::expect_used, clippy::panic, reason = "a failed expectation is how a test reports")]

mod cluster;
mod fake;
mod leash;
mod proxy;
pub mod rabbit;
mod remote;
mod resp;
mod sentinel;
mod server;
mod shifted_clock;

use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use fake::{Fake, stranger};
pub use leash::end as leash;
pub use proxy::{Mode, Proxy};
pub use remote::Remote;
pub use sentinel::Watched;
pub use server::{Server, free_port};
pub use shifted_clock::ShiftedClock;

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
