//! The one module that names the client library, `lapin`.
//!
//! Its automatic recovery is off: [`Link`](super::link::Link) makes connections again. What its sources taught, and what we do
//! about it, is in `decisions/0021-rabbitmq-client.md`.

mod channel;
mod classify;
mod connect;
mod connection;
mod convert;
mod socket;
#[cfg(feature = "tls")]
mod tls;
mod url;

pub(crate) use connect::Connector;
