//! The optional powers of a broker, one per file.
//!
//! Each file here has a namesake in every broker that has the power and in the conformance suite, so
//! `git ls-files '*dead_jobs*'` is the whole feature. A broker without a power leaves the accessor of
//! [`Broker`] at its default; callers turn that into
//! [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with [`require`].
//!
//! Every call is bounded: it looks at no more than [`Page::MAX`] jobs, whatever the size of the backlog. Calls that
//! remove everything work in such steps inside.

mod dead_jobs;
mod enqueued_jobs;
mod filter;
mod page;
mod paused_queues;
mod scheduled_jobs;
mod statistics;

pub use dead_jobs::{DeadContent, DeadJob, DeadJobs};
pub use enqueued_jobs::EnqueuedJobs;
pub use filter::JobFilter;
pub use page::{Cursor, Page, Paged};
pub use paused_queues::PausedQueues;
pub use scheduled_jobs::{ScheduledJob, ScheduledJobs, ScheduledKind};
pub use statistics::{LiveWorker, QueueCounts, Statistics, Totals};

use super::Broker;
use crate::{Error, Result};

/// One optional power: its name, and how to ask a broker for it.
#[derive(Debug, Clone, Copy)]
pub struct Capability {
    /// The name, as in `CAPABILITIES.md` and in errors.
    pub name: &'static str,
    /// Whether a broker has it.
    pub is_supported: fn(&dyn Broker) -> bool,
}

/// All optional powers, in the order of `CAPABILITIES.md`.
pub const ALL: [Capability; 5] = [
    Capability { name: "enqueued jobs", is_supported: |broker| broker.enqueued_jobs().is_some() },
    Capability { name: "scheduled jobs", is_supported: |broker| broker.scheduled_jobs().is_some() },
    Capability { name: "dead jobs", is_supported: |broker| broker.dead_jobs().is_some() },
    Capability { name: "paused queues", is_supported: |broker| broker.paused_queues().is_some() },
    Capability { name: "statistics", is_supported: |broker| broker.statistics().is_some() },
];

/// Turns a missing capability into the error that names broker and capability.
///
/// ```
/// # fn size(broker: &dyn goose_core::broker::Broker) -> goose_core::Result<()> {
/// use goose_core::broker::capability::require;
///
/// let dead_jobs = require(broker, "dead jobs", broker.dead_jobs())?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when `capability` is `None`.
pub fn require<'a, C: ?Sized>(broker: &dyn Broker, name: &str, capability: Option<&'a C>) -> Result<&'a C> {
    capability.ok_or_else(|| Error::unsupported(broker.name(), name))
}
