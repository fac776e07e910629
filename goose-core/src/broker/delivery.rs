//! A claimed job and the proof of the claim.

use std::fmt;

use crate::{Job, Timestamp};

/// A job that this session, and nobody else, may run now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// The job.
    pub job: Job,
    /// The proof of the claim, needed to settle it.
    pub receipt: Receipt,
    /// How often the job was taken from a dead session before.
    pub recoveries: u32,
    /// When the job could first have been claimed, on the broker's clock: the time it entered its queue or
    /// became due.
    pub ready_at: Timestamp,
    /// When it was claimed, on the broker's clock. The difference is how long it waited.
    pub claimed_at: Timestamp,
}

impl Delivery {
    /// A claimed job that was never recovered.
    #[must_use]
    pub fn new(job: Job, receipt: Receipt, ready_at: Timestamp, claimed_at: Timestamp) -> Self {
        Self { job, receipt, recoveries: 0, ready_at, claimed_at }
    }
}

/// What a claim is proved with: 32 bytes that only the broker that made them understands.
///
/// A receipt names one claim, not one job: when the same job is claimed again, even by the same session, the
/// earlier receipt is stale.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt([u64; 4]);

impl Receipt {
    /// A receipt with the broker's content.
    #[must_use]
    pub const fn new(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The broker's content.
    #[must_use]
    pub const fn words(&self) -> [u64; 4] {
        self.0
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({:x?})", self.0)
    }
}
