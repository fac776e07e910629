//! Scenarios of several processes on one SQLite file: killed, stopped, blocked and poisoned workers, killed producers,
//! damaged files and full disks.
//!
//! Most of them wait, for leases above all, so they run side by side, more than there are processors. What measures
//! time to the millisecond is in `timing.rs`.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

mod blocked;
mod files;
mod flow;
mod full;
mod killed;
mod paused;
mod poison;

use std::future::Future;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// How a scenario ends: done, or not possible here and why.
enum Played {
    Done,
    Skipped(&'static str),
}

type Outcome = goose_tests::Result<Played>;

/// One test per scenario, named as its function is.
macro_rules! trials {
    ($($module:ident::$scenario:ident),+ $(,)?) => {
        vec![$(trial(concat!(stringify!($module), "::", stringify!($scenario)), $module::$scenario)),+]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(6);
    let trials = trials![
        // The longest first.
        blocked::handlers_that_block_every_thread_keep_their_claims,
        poison::a_job_that_kills_its_workers_dies_and_the_others_live,
        killed::a_worker_with_one_job_in_flight,
        killed::a_worker_with_fifty_jobs_in_flight,
        paused::a_worker_that_slept_longer_than_its_lease,
        flow::twenty_thousand_jobs_on_two_workers,
        flow::five_thousand_jobs_with_faults,
        flow::fifteen_graceful_stops,
        killed::a_producer_in_mid_bulk,
        files::a_read_only_place,
        files::a_corrupt_file,
        files::a_file_that_is_no_database,
        files::a_foreign_database,
        files::a_newer_schema,
        files::a_missing_folder,
        full::a_file_at_its_size_limit,
        full::a_disk_without_room,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F>(name: &'static str, scenario: fn() -> F) -> Trial
where
    F: Future<Output = Outcome> + 'static,
{
    Trial::ignorable_test(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(scenario())? {
            Played::Done => Ok(Completion::Completed),
            Played::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        }
    })
}

/// Ends a scenario with an error unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

use ensure;
