//! The one place that talks to the server. Everything else in this crate goes through [`Link`] and knows no client crate.
//!
//! Reading order: `link` is what the rest of the crate may ask for, `script` and `reply` are what goes in and comes
//! out. `redis` is the one implementation: it owns a thread (`runtime`) on which every connection lives, so that
//! nothing here depends on the caller's runtime. A `keeper` keeps one connection alive for ever, `attempts` is how it
//! makes one, a `wire` is that connection from its opening to its break, `call` decides what may be sent again,
//! `classify` reads the server's errors, `wait` blocks on wake markers. `config` is every setting of the client crate,
//! `tls` whom to trust, `preflight` the check of the server at the start, `pace` the pauses between attempts.

mod attempts;
mod call;
mod classify;
mod config;
mod keeper;
mod link;
mod pace;
mod preflight;
mod redis;
mod reply;
mod runtime;
mod script;
#[cfg(feature = "tls")]
mod tls;
mod wait;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use link::{Health, Lane, Link, Topology, Waiter};
pub(crate) use redis::open;
pub(crate) use reply::Reply;
pub(crate) use script::{Repeat, Script};
