//! The conformance scenarios that a broker of ours does not pass, each with the reason. `CAPABILITIES.md` prints them.

use goose_testkit::conformance::Skip;

/// What SQLite does not pass. A database in memory has some more, which are about tests.
#[must_use]
pub fn sqlite() -> Vec<Skip> {
    Vec::new()
}

/// What Redis does not pass.
#[must_use]
pub fn redis() -> Vec<Skip> {
    Vec::new()
}

/// What RabbitMQ does not pass, on classic and on quorum queues, unless a journal is kept.
#[must_use]
pub fn rmq() -> Vec<Skip> {
    let no_look = "RabbitMQ hands out what is in a queue and cannot show it: a job cannot be found, listed or moved";
    let no_knowledge = "RabbitMQ cannot tell what is in a queue: a deletion is kept until a worker meets the job";
    let blind = [
        "enqueued_jobs::a_job_is_found_by_its_id",
        "enqueued_jobs::a_running_or_scheduled_job_is_not_enqueued",
        "enqueued_jobs::pages_visit_each_job_once_in_order",
        "enqueued_jobs::a_page_outlives_changes",
        "enqueued_jobs::filters_are_applied",
        "enqueued_jobs::a_prioritised_job_comes_first",
        "scheduled_jobs::a_scheduled_job_is_found_with_its_time",
        "scheduled_jobs::retries_and_snoozes_are_scheduled_too",
        "scheduled_jobs::pages_visit_each_job_once_in_order_of_time",
        "scheduled_jobs::scheduled_filters_are_applied",
        "scheduled_jobs::a_prioritised_job_runs_now_and_first",
    ];
    let unknowing = [
        "enqueued_jobs::a_deletion_knows_what_waits",
        "enqueued_jobs::a_running_job_cannot_be_deleted",
        "scheduled_jobs::a_deletion_knows_what_is_scheduled",
    ];
    let blind = blind.map(|scenario| Skip::new(scenario, no_look));
    let unknowing = unknowing.map(|scenario| Skip::new(scenario, no_knowledge));
    blind.into_iter().chain(unknowing).chain(rmq_with_journal()).collect()
}

/// What RabbitMQ does not pass either where a journal is kept.
#[must_use]
pub fn rmq_with_journal() -> Vec<Skip> {
    let no_index = "RabbitMQ has no index of what lies in its queues: an id is kept once within a call only";
    let ids = [
        "lifecycle::the_same_id_is_kept_once_while_ready",
        "lifecycle::the_same_id_is_kept_once_while_claimed",
        "lifecycle::the_same_id_is_kept_once_while_scheduled",
        "lifecycle::the_same_id_is_kept_once_while_dead",
        "statistics::what_is_enqueued_again_counts_once",
    ];
    ids.map(|scenario| Skip::new(scenario, no_index)).into()
}

/// What RabbitMQ before 4.0 does not pass on quorum queues, beside what it passes nowhere.
#[must_use]
pub fn rmq_quorum_before_4() -> Vec<Skip> {
    let no_front = "quorum queues have priorities from RabbitMQ 4.0 on: on 3.x what goes to the front goes to the end";
    let fronts = [
        "order::released_jobs_go_to_the_front_in_order",
        "retry::a_retry_without_a_pause_goes_to_the_front",
        "retry::a_snooze_without_a_pause_goes_to_the_front",
    ];
    // It is in order only where the next session happens to receive everything at once, and sorts it.
    let no_return = "on 3.x a job that is handed back to a quorum queue goes to the end, for `nack`, which would put it back in its place, counts as a crash there: a stop loses nothing, but not all comes back in order";
    let stop = Skip::new("shutdown::a_stop_hands_back_what_was_not_handed_out_in_order", no_return);
    fronts.map(|scenario| Skip::new(scenario, no_front)).into_iter().chain([stop]).collect()
}

/// What else it does not pass there with a journal.
#[must_use]
pub fn rmq_quorum_with_journal_before_4() -> Vec<Skip> {
    let no_front =
        "quorum queues have priorities from RabbitMQ 4.0 on: on 3.x what is moved to the front goes to the end";
    let moved =
        ["enqueued_jobs::a_prioritised_job_comes_first", "scheduled_jobs::a_prioritised_job_runs_now_and_first"];
    moved.map(|scenario| Skip::new(scenario, no_front)).into()
}
