//! The Redis broker of Goose: jobs on a Redis or Valkey server, a primary behind Sentinels, or a cluster.
//!
//! `docs/brokers/redis.md` says what is guaranteed, what to set on the server, and what the keys hold.
//!
//! ```no_run
//! # async fn f() -> goose_core::Result<()> {
//! use goose_redis::RedisBroker;
//!
//! let broker = RedisBroker::connect("redis://localhost").await?;
//! # Ok(()) }
//! ```
//!
//! Reading order: [`RedisOptions`] says what to connect to, `connection` does it and owns the thread on which everything
//! runs; `names` has every key, `scripts` every script, `encoding` the stored form of a job; `enqueue` (what is handed in is a `request`), `fetch`,
//! `settle` and `lease` are the verbs, `watch` who is dead, `sleeper` what happens between fetches; `broker`, `consumer`
//! and `session` the handles, `held` what a session has claimed; `capability` the optional powers; `consistency` counts
//! everything.

mod again;
mod broker;
mod calls;
mod capability;
mod connection;
mod consistency;
mod consumer;
mod encoding;
mod enqueue;
mod error;
mod fetch;
mod held;
mod lease;
mod names;
mod options;
mod request;
mod scripts;
mod server_clock;
mod session;
mod settle;
mod sleeper;
mod together;
mod watch;

#[cfg(feature = "fault-injection")]
mod fault_injection;

pub use broker::RedisBroker;
pub use options::RedisOptions;
