//! What the Redis broker does when its server, its link or its data misbehave: in this process, against real servers of
//! its own, behind a link that can be damaged. Killed and paused processes are in the scenarios beside this.
//!
//! Most of them wait, for time limits above all, so they run side by side. `GOOSE_LONG_SCENARIOS=1` makes some of them
//! last as long, or be as large, as in real life.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

mod black_hole;
mod child;
mod lost_answers;
mod slow_link;
mod stage;

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
    if let Some(exit) = child::play() {
        return exit;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(6);
    let trials = trials![
        // The longest first.
        slow_link::a_link_with_200_ms_and_a_megabyte_per_second,
        slow_link::a_link_that_cuts_every_twentieth_answer,
        black_hole::connections_that_go_silent_under_load,
        black_hole::the_connections_of_an_idle_worker_go_silent,
        black_hole::a_link_that_swallows_everything_for_a_while,
        lost_answers::an_enqueue_whose_answer_is_lost,
        lost_answers::a_fetch_whose_answer_is_lost,
        lost_answers::a_settle_whose_answer_is_lost,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial<F>(name: &'static str, scenario: fn() -> F) -> Trial
where
    F: Future<Output = Outcome> + 'static,
{
    Trial::ignorable_test(name, move || {
        // Two threads, for a scenario may look at its server with calls that block.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
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
