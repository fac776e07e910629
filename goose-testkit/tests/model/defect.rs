//! The ways in which the model can be broken.

/// One broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Every thousandth job is acknowledged and thrown away.
    LosesOneJobInAThousand,
    /// A fetch of several jobs returns the last first.
    ReversesFetches,
    /// A delay means now.
    IgnoresDelays,
    /// Due a moment too soon.
    IsEarly,
    /// Looks for work twice a second instead of being woken.
    Polls,
    /// A late settle ends the claim of whoever has the job now.
    ForgetsFencing,
    /// A late settle changes nothing but is told that it did.
    LiesAboutFencing,
    /// Jobs that were claimed by a fetch that is then dropped are gone until the session ends.
    LosesDroppedFetches,
    /// One claim in five hundred leaves the job in its queue.
    SharesJobs,
    /// Enqueuing an id again enqueues the job again.
    ForgetsIds,
    /// A retry comes back with the record from before the failure.
    ForgetsFailures,
    /// Retries stay in the job's own queue.
    IgnoresRetryQueues,
    /// Jobs of dead sessions stay claimed.
    RecoversNothing,
    /// Jobs are recovered for ever.
    ToleratesPoison,
    /// A claim left at a graceful stop counts as a crash.
    CountsStopsAsCrashes,
    /// A released job goes to the end of its queue.
    ReleasesToTheEnd,
    /// Arguments are cut at a mebibyte.
    CutsArguments,
    /// Headers do not travel.
    DropsHeaders,
    /// What is no job stops the consumer.
    StumblesOverGarbage,
    /// Weights are ignored.
    IsAlwaysStrict,
    /// Each page begins one job too late.
    SkipsAtPages,
    /// A replayed job keeps its retries used.
    ReplaysWithoutReset,
    /// A purge reports what it removed and forgets to.
    PurgesNothing,
    /// A pop leaves the job where it is.
    PopsWithoutRemoving,
    /// Running jobs count as ready as well.
    CountsTwice,
    /// The session still trusts a claim after it was lost.
    TrustsLostClaims,
    /// There are no dead jobs to look at.
    LacksDeadJobs,
    /// A pause is listed and has no effect.
    IgnoresPauses,
    /// A resume is listed and has no effect.
    StaysPaused,
    /// Goes on after it was closed.
    IgnoresClose,
}
