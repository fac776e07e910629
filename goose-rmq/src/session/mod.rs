//! What sessions receive, hold and settle.

mod buffer;
mod ledger;
mod mixer;
mod pace;
mod receipt;
mod window;
