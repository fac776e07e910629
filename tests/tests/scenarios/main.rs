//! Scenarios of several processes on one SQLite file: killed, stopped, blocked and poisoned workers, killed producers,
//! damaged files and full disks.
//!
//! Most of them wait, for leases above all, so they run side by side, more than there are processors. What measures
//! time to the millisecond is in `timing.rs`.

mod files;
mod full;

use std::process::ExitCode;

use goose_tests::brokers::Kind;
use goose_tests::scenario::{Outcome, Played, blocked, flow, killed, paused, poison};
use goose_tests::{ensure, trials};
use libtest_mimic::Arguments;

const SQLITE: Kind = Kind::Sqlite;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(6);
    let trials = trials![
        // The longest first.
        blocked::handlers_that_block_every_thread_keep_their_claims(SQLITE),
        poison::a_job_that_kills_its_workers_dies_and_the_others_live(SQLITE),
        killed::a_worker_with_one_job_in_flight(SQLITE),
        killed::a_worker_with_fifty_jobs_in_flight(SQLITE),
        paused::a_worker_that_slept_longer_than_its_lease(SQLITE),
        flow::twenty_thousand_jobs_on_two_workers(SQLITE),
        flow::five_thousand_jobs_with_faults(SQLITE),
        flow::fifteen_graceful_stops(SQLITE),
        killed::a_producer_in_mid_bulk(SQLITE),
        files::a_read_only_place(),
        files::a_corrupt_file(),
        files::a_file_that_is_no_database(),
        files::a_foreign_database(),
        files::a_newer_schema(),
        files::a_missing_folder(),
        full::a_file_at_its_size_limit(),
        full::a_disk_without_room(),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
