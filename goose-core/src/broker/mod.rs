//! The contract between the Goose engine and a broker.
//!
//! Read in this order: [`Broker`] takes jobs in, [`Consumer`] lets one worker take them out,
//! [`Delivery`] and [`Receipt`] are what a claim looks like, [`Settlement`] and [`Verdict`] are how it ends,
//! [`capability`] holds the optional powers. Whoever implements a broker runs the conformance suite of
//! `goose-testkit` against it; each sentence with "must" in this folder is a scenario there.

mod consumer;
mod contract;
mod delivery;
mod options;
mod settlement;
mod shared;
mod shares;

pub mod capability;

pub use consumer::{Consumer, LoopHealth};
pub use contract::{Broker, EnqueueVerdict};
pub use delivery::{Delivery, Receipt};
pub use options::{ConsumerOptions, QueueSet, WorkerId, WorkerIdentity};
pub use settlement::{DeathCause, DeathReason, SettleError, Settlement, Verdict};
pub use shares::Shares;
