//! The classes of failure, each with what a caller can do about it.

/// The class of an [`Error`](crate::Error). New kinds may be added, so match with a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller passed something that can never work: a bad name, a zero, a contradiction. Nothing was written.
    InvalidInput,
    /// The job is larger than the configured limit. Nothing was written.
    TooLarge,
    /// The arguments cannot be turned into bytes. Nothing was written.
    Encode,
    /// Bytes cannot be turned back into a job or its arguments.
    Decode,
    /// The broker lacks the capability that was asked for.
    Unsupported,
    /// Client middleware refused the job. Nothing was written.
    Rejected,
    /// The broker cannot be reached or is busy right now; nothing was written.
    Unavailable,
    /// The call went out and its answer was lost: it may or may not have happened.
    ///
    /// An enqueue may be repeated with the *same job id* without making two jobs of it; of a single job
    /// [`Error::job_id`](crate::Error::job_id) has it. Only a job that was stored and
    /// has already finished in the meantime is no longer known, and runs once more: at least once.
    OutcomeUnknown,
    /// The broker has no room left. Enqueues succeed again when there is room; workers make it, as far as the broker can
    /// still write at all.
    Full,
    /// The broker blocks publishers for a while, for instance by a memory alarm.
    Blocked,
    /// The broker refuses these credentials or rights.
    PermissionDenied,
    /// The broker is there but set up in a way that would lose jobs, or is not what the URL says.
    Misconfigured,
    /// The stored data is damaged or was written by something else.
    Corrupt,
    /// The stored data was written by a newer version of Goose.
    TooNew,
    /// The broker, client or worker was closed.
    Closed,
    /// A bug in Goose or in a broker implementation; please report it.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anyone changing anything.
    ///
    /// True for [`Unavailable`](Self::Unavailable), [`OutcomeUnknown`](Self::OutcomeUnknown),
    /// [`Full`](Self::Full) and [`Blocked`](Self::Blocked).
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::OutcomeUnknown | Self::Full | Self::Blocked)
    }
}
