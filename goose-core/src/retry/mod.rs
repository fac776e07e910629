//! How often a failed job is tried again, how late, and where it goes after that.

mod backoff;
mod policy;

pub use backoff::Backoff;
pub use policy::RetryPolicy;
