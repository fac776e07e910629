//! What the Redis broker does when its server, its link or its data misbehave: in this process, against real servers of
//! its own, behind a link that can be damaged. Killed and paused processes are in the scenarios beside this.
//!
//! Most of them wait, for time limits above all, so they run side by side. `GOOSE_LONG_SCENARIOS=1` makes some of them
//! last as long, or be as large, as in real life.
//! With `GOOSE_REDIS_URL` they are all skipped: it names a server that must not be hurt.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

mod black_hole;
mod child;
mod clocks;
mod full;
mod garbage;
mod idle;
mod lost_answers;
mod payloads;
mod refused;
mod rights;
mod rights_of_many;
mod server_events;
mod shutdown;
mod slow_link;
mod stage;
mod tenants;
mod wrong_types;

use std::process::ExitCode;

use goose_tests::scenario::{Outcome, Played, is_long, on_servers_to_hurt};
use goose_tests::{ensure, trials};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(exit) = child::play() {
        return exit;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(6);
    let trials = trials![
        // The longest first.
        slow_link::a_link_with_200_ms_and_a_megabyte_per_second(),
        slow_link::a_link_that_cuts_every_twentieth_answer(),
        black_hole::connections_that_go_silent_under_load(),
        black_hole::the_connections_of_an_idle_worker_go_silent(),
        black_hole::a_link_that_swallows_everything_for_a_while(),
        server_events::a_primary_becomes_a_replica_and_no_connection_breaks(),
        server_events::scripts_are_flushed_over_and_over(),
        server_events::every_connection_is_killed_over_and_over(),
        server_events::blocked_connections_are_unblocked_over_and_over(),
        server_events::clients_are_paused_for_a_second(),
        server_events::the_data_is_saved_in_the_background(),
        full::workers_drain_a_server_without_any_room(),
        full::enqueues_at_the_limit_are_refused_whole(),
        wrong_types::enqueues_name_the_key_and_write_nothing(),
        wrong_types::workers_name_the_key_and_go_on_when_it_is_gone(),
        wrong_types::ends_of_jobs_name_the_key_and_change_nothing(),
        wrong_types::sessions_name_the_key_and_go_on_when_it_is_gone(),
        shutdown::ends_without_a_server(),
        shutdown::workers_and_brokers_end_while_they_are_blocked(),
        shutdown::consumers_stop_while_a_fetch_is_under_way(),
        shutdown::a_worker_stops_in_the_middle_of_its_work(),
        payloads::the_largest_that_is_allowed_works(),
        payloads::many_large_ones_travel_in_parts(),
        payloads::what_is_too_large_is_never_sent(),
        garbage::what_cannot_be_decoded_dies_with_its_bytes(),
        garbage::keys_that_were_edited_by_hand(),
        clocks::the_clock_of_the_server_jumps_by_an_hour(),
        clocks::a_process_that_is_an_hour_ahead(),
        clocks::a_process_that_is_an_hour_behind(),
        clocks::a_process_that_is_a_day_ahead(),
        clocks::a_process_that_is_a_day_behind(),
        idle::an_idle_worker_asks_for_little(),
        idle::a_thousand_idle_consumers_do_not_stampede(),
        idle::a_scheduled_job_wakes_a_worker_at_its_time(),
        refused::a_server_that_is_too_old(),
        refused::a_password_that_is_rotated(),
        rights::the_least_rights_are_enough_for_everything(),
        rights::the_least_rights_allow_nothing_else(),
        rights_of_many::the_least_rights_are_enough_on_a_cluster(),
        rights_of_many::the_least_rights_are_enough_with_sentinels(),
        tenants::tenants_see_nothing_of_each_other(),
        lost_answers::an_enqueue_whose_answer_is_lost(),
        lost_answers::a_fetch_whose_answer_is_lost(),
        lost_answers::a_settle_whose_answer_is_lost(),
        lost_answers::settles_that_a_crash_of_the_server_takes_back(),
    ];
    libtest_mimic::run(&arguments, on_servers_to_hurt("GOOSE_REDIS_URL", trials)).exit_code()
}
