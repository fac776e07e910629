//! The chaos lab: real processes, real faults, and an oracle that counts.
//!
//! A *producer* process enqueues jobs and writes each acknowledged id to a *ledger*; *worker* processes write when they
//! start and finish a job; the lab kills and pauses them as a *plan* made from a seed says; at the end the *oracle*
//! compares the ledger with what is left in the broker. `cargo xtask chaos` runs it all; the integration tests in
//! `tests/tests` play single scenarios with the same parts.
//!
//! - [`ledger`]: the file all processes append to.
//! - [`oracle`]: lost, doubled, claimed by nobody?
//! - [`chore`]: the job that is run, with the ways it can misbehave.
//! - [`brokers`]: opening a broker by its address. Another broker is one more arm there.
//! - [`child`]: starting, killing and pausing processes. None outlives its test.
//! - [`fault`]: what to break when, from a seed.
//! - [`lab`]: a place with a broker and a ledger, and the processes on it.
//! - [`servers`]: the Redis servers of a lab.
//! - [`skips`]: the conformance scenarios that a broker does not pass, and why.
//! - [`warnings`]: how much a process warns of.
//! - [`chaos`]: a whole run.
//! - [`scenario`]: single scenarios that every broker must survive.
//! - [`flags`]: `--name value`.

pub mod brokers;
pub mod chaos;
pub mod child;
pub mod chore;
pub mod fault;
pub mod flags;
pub mod lab;
pub mod ledger;
pub mod oracle;
pub mod scenario;
pub mod servers;
pub mod skips;
pub mod warnings;

/// What the lab's own steps return: any error ends the run.
pub type Result<T> = std::result::Result<T, goose_core::BoxError>;
