//! The embedded broker of Goose: jobs in one SQLite file, shared by any number of processes of one host.
//!
//! Nothing to install and nothing to run beside the program. The file is in WAL mode; by default every
//! acknowledged enqueue and every settle is on disk before it is answered. See `docs/brokers/sqlite.md` for
//! what is guaranteed, what is fast and what the limits are.
//!
//! ```
//! # async fn f() -> goose_core::Result<()> {
//! use goose_sqlite::{SqliteBroker, SqliteOptions, Synchronous};
//!
//! let broker = SqliteBroker::open("jobs.db").await?;
//! let scratch = SqliteBroker::in_memory().await?;
//! let faster = SqliteOptions::new("jobs.db").synchronous(Synchronous::Normal).open().await?;
//! # Ok(()) }
//! ```
//!
//! Reading order: [`SqliteOptions`], `path` and `connection` open a file; `engine` is the one thread that owns it;
//! `work` is what that thread is asked to do; `enqueue`, `fetch`, `settle`, `recover` and `lease` are the verbs,
//! `places` moves a job between its states, the SQL of it all is in `sql`; `broker` and `consumer` are the handles; `capability` holds the optional powers.

mod broker;
mod capability;
mod connection;
mod consistency;
mod consumer;
mod counts;
mod encoding;
mod engine;
mod enqueue;
mod error;
mod fetch;
mod lease;
mod migrations;
mod names;
mod options;
mod path;
mod places;
mod recover;
mod session;
mod settle;
mod sql;
mod tx;
mod work;

#[cfg(feature = "fault-injection")]
mod fault_injection;

pub use broker::SqliteBroker;
pub use options::{SqliteOptions, Synchronous};
