//! A broker in a few hundred lines: the contract with nothing in the way, kept in the memory of one process.
//!
//! It shows that the suite can be passed by something that is not SQLite, and it can be broken on purpose, one
//! [`Defect`] at a time, to show that the suite notices. It is a place to look up what a call means; it is no broker
//! to use: everything is lost with the process.

mod broker;
mod capability;
mod claims;
mod consumer;
mod defect;
mod harness;
mod record;
mod state;

pub(crate) use broker::Model;
pub(crate) use defect::Defect;
pub(crate) use harness::ModelHarness;
