//! Who tests the tests? A sound broker passes every scenario; each broken one is caught by the scenario that should.

mod model;

use std::sync::Arc;

use goose_testkit::conformance::{self, Harness, Outcome, Report, Skip, scenarios};
use model::{Defect, ModelHarness};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_broker_passes_every_scenario() {
    let harness: Arc<dyn Harness> = Arc::new(ModelHarness::default());
    // Scenarios wait more than they work, but on two processors too many at once would make them late.
    // Those that measure time take all seats.
    let seats = Arc::new(Semaphore::new(6));
    let mut running = JoinSet::new();
    for scenario in scenarios() {
        let (harness, seats) = (Arc::clone(&harness), Arc::clone(&seats));
        running.spawn(async move {
            let _seats = seats.acquire_many_owned(if scenario.is_timed() { 6 } else { 1 }).await;
            (scenario.name().to_owned(), scenario.run(&harness).await)
        });
    }
    let report = Report { outcomes: running.join_all().await };
    assert_eq!(report.outcomes.len(), scenarios().len());
    assert!(report.is_success(), "{report}");
}

/// Each defect with a scenario that must notice it.
const CAUGHT_BY: [(Defect, &str); 30] = [
    (Defect::LosesOneJobInAThousand, "concurrency::a_thousand_tasks_enqueue_one_job_each"),
    (Defect::ReversesFetches, "order::first_in_first_out"),
    (Defect::IgnoresDelays, "schedule::a_delay_is_kept_and_hardly_exceeded"),
    (Defect::IsEarly, "schedule::a_delay_is_kept_and_hardly_exceeded"),
    (Defect::Polls, "wakeup::by_an_enqueue_of_the_same_process"),
    (Defect::ForgetsFencing, "fencing::a_receipt_is_stale_when_another_session_has_the_job"),
    (Defect::LiesAboutFencing, "fencing::a_receipt_is_stale_after_a_recovery"),
    (Defect::LosesDroppedFetches, "shutdown::a_dropped_fetch_loses_nothing"),
    (Defect::SharesJobs, "concurrency::eight_sessions_of_two_processes_share_no_job"),
    (Defect::ForgetsIds, "lifecycle::the_same_id_is_kept_once_while_ready"),
    (Defect::ForgetsFailures, "retry::a_retry_comes_after_its_pause_with_its_failure"),
    (Defect::IgnoresRetryQueues, "retry::a_retry_goes_to_the_retry_queue"),
    (Defect::RecoversNothing, "recovery::a_crashed_process_gives_up_its_jobs_in_time"),
    (Defect::ToleratesPoison, "recovery::a_job_that_kills_its_workers_is_dead_in_the_end"),
    (Defect::CountsStopsAsCrashes, "shutdown::a_claim_left_at_stop_is_recovered_without_counting_as_a_crash"),
    (Defect::ReleasesToTheEnd, "order::released_jobs_go_to_the_front_in_order"),
    (Defect::CutsArguments, "payload::ten_mebibytes"),
    (Defect::DropsHeaders, "lifecycle::every_field_of_a_job_survives"),
    (Defect::StumblesOverGarbage, "payload::what_is_no_job_goes_to_the_dead_and_the_consumer_goes_on"),
    (Defect::IsAlwaysStrict, "order::a_weighted_set_starves_no_queue"),
    (Defect::SkipsAtPages, "enqueued_jobs::pages_visit_each_job_once_in_order"),
    (Defect::ReplaysWithoutReset, "dead_jobs::a_replayed_job_starts_over_at_the_front_of_its_own_queue"),
    (Defect::PurgesNothing, "scheduled_jobs::a_purge_removes_all_that_waits_for_its_time"),
    (Defect::PopsWithoutRemoving, "dead_jobs::a_pop_takes_the_first_death_out"),
    (Defect::CountsTwice, "statistics::every_job_is_in_exactly_one_state"),
    (Defect::TrustsLostClaims, "recovery::a_lost_session_knows_it"),
    (Defect::LacksDeadJobs, "dead_jobs::a_pop_takes_the_first_death_out"),
    (Defect::IgnoresPauses, "paused_queues::a_pause_reaches_a_session_that_waits"),
    (Defect::StaysPaused, "paused_queues::a_resume_wakes_a_session_that_waits"),
    (Defect::IgnoresClose, "lifecycle::a_closed_broker_answers_closed"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_broker_is_caught() {
    let mut running = JoinSet::new();
    for (defect, scenario) in CAUGHT_BY {
        running.spawn(async move {
            let report = conformance::run(Arc::new(ModelHarness::broken(defect)), scenario).await;
            (defect, scenario, report)
        });
    }
    for (defect, scenario, report) in running.join_all().await {
        assert_eq!(report.outcomes.len(), 1, "{scenario} is not one scenario");
        assert!(!report.is_success(), "a broker that {defect:?} got away with {scenario}");
    }
}

#[tokio::test]
async fn a_failure_says_what_was_expected_and_where() {
    let scenario = "order::first_in_first_out";
    let report = conformance::run(Arc::new(ModelHarness::broken(Defect::ReversesFetches)), scenario).await;
    let (_, failure) = report.failures().next().expect("a failure");
    assert!(failure.message().starts_with("the jobs that came: expected [0, 1, 2,"), "{failure}");
    assert!(failure.to_string().contains("conformance/session.rs:"), "{failure}");
    assert!(report.to_string().ends_with("conformance: 0 passed, 0 skipped, 1 failed"), "{report}");
}

#[tokio::test]
async fn a_missing_capability_fails_unless_it_is_skipped_with_a_reason() {
    let scenario = "dead_jobs::a_pop_takes_the_first_death_out";
    let silent = ModelHarness::broken(Defect::LacksDeadJobs);
    let report = conformance::run(Arc::new(silent), scenario).await;
    let (_, failure) = report.failures().next().expect("a failure");
    assert!(failure.message().contains("does not support dead jobs"), "{failure}");

    let mut open = ModelHarness::broken(Defect::LacksDeadJobs);
    open.skips.push(Skip::new(scenario, "the dead are not kept"));
    let report = conformance::run(Arc::new(open), scenario).await;
    assert!(report.is_success(), "{report}");
    assert!(matches!(report.outcomes[0].1, Outcome::Skipped("the dead are not kept")), "{report}");
    assert!(report.to_string().contains("skipped  dead_jobs::a_pop_takes_the_first_death_out: the dead"), "{report}");
}

#[tokio::test]
async fn skips_that_skip_nothing_fail_the_run() {
    let mut harness = ModelHarness::default();
    let twice = "lifecycle::a_done_job_is_gone";
    harness.skips = vec![
        Skip::new("lifecycle::no_such_scenario", "it was renamed"),
        Skip::new(twice, "one"),
        Skip::new(twice, "two"),
        Skip::new("payload::one_mebibyte", " "),
    ];
    let report = conformance::run(Arc::new(harness), "no scenario has this name").await;
    let failed: Vec<_> = report.failures().map(|(name, failure)| (name, failure.message())).collect();
    assert_eq!(
        failed,
        [
            ("skips::lifecycle::no_such_scenario", "there is no scenario of this name to skip"),
            ("skips::lifecycle::a_done_job_is_gone", "is skipped twice"),
            ("skips::payload::one_mebibyte", "is skipped without a reason"),
        ]
    );
}
