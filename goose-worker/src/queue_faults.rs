//! What the test broker can be told to do wrong, and what it has seen.

use goose_core::{Job, JobId};

/// What goes wrong, each as often as its number says.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) fetch_errors: usize,
    pub(crate) fetch_panics: usize,
    pub(crate) settle_errors: usize,
    pub(crate) settle_panics: usize,
    /// Settles that are stored, and whose answers are lost.
    pub(crate) settle_answers_lost: usize,
    pub(crate) settles_refused: usize,
    pub(crate) settles_closed: usize,
    /// Refuses all ends of a call in which the job with this number ends.
    pub(crate) refuses: Option<u32>,
    /// No room for retries: all ends of a call with one fail.
    pub(crate) full: bool,
    pub(crate) holds_panics: usize,
    pub(crate) stop_panics: usize,
    /// The job with this number comes as one that was recovered this often.
    pub(crate) recoveries: Option<(u32, u32)>,
    /// How many sessions may be opened; any number by default.
    pub(crate) consumes_allowed: Option<usize>,
    pub(crate) claims_unsure: bool,
    pub(crate) settle_hangs: bool,
    pub(crate) stop_hangs: bool,
}

/// What was asked of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) fetches: Vec<usize>,
    pub(crate) settles: Vec<usize>,
    pub(crate) done: Vec<Job>,
    pub(crate) discarded: Vec<JobId>,
    pub(crate) released: usize,
    pub(crate) stops: usize,
    pub(crate) most_claimed: usize,
}
