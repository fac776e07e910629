//! Scenarios of several processes that must end well on every broker. The test targets name the broker.
//!
//! Most of them wait, for leases above all, so they run side by side, more than there are processors.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

pub mod blocked;
pub mod flow;
pub mod killed;
pub mod paused;
pub mod poison;

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use libtest_mimic::{Completion, Trial};

use crate::Result;

/// How a scenario ends: done, or not possible here and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    /// Everything held.
    Done,
    /// It cannot be played here; the words say why.
    Skipped(&'static str),
}

/// What a scenario returns; an error says what did not hold.
pub type Outcome = Result<Played>;

/// A scenario as a test.
pub fn trial<F>(name: impl Into<String>, scenario: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = Outcome> + 'static,
{
    let limit = if is_long() { LONG } else { SHORT };
    Trial::ignorable_test(name, move || match within(limit, scenario)? {
        Played::Done => Ok(Completion::Completed),
        Played::Skipped(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// How long one scenario may take, and one that lasts as long as in real life: several times what it needs, on a machine that
/// does much else. One that waits for ever must fail, not stop the rest.
const SHORT: Duration = Duration::from_secs(240);
const LONG: Duration = Duration::from_secs(3600);

/// Plays a scenario on a thread of its own, which is left behind when it does not end in time: it may be in a call that blocks.
fn within<F>(limit: Duration, scenario: impl FnOnce() -> F + Send + 'static) -> Outcome
where
    F: Future<Output = Outcome> + 'static,
{
    let (tell, ended) = channel();
    let thread = std::thread::Builder::new().name("scenario".to_owned()).spawn(move || {
        // Two threads, for a scenario may look at its server with calls that block.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(scenario()));
        let _ = tell.send(outcome);
    })?;
    match ended.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(format!("did not end within {limit:?}").into()),
        // It panicked, and the test must show with which words.
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err("ended without an outcome".into()),
        },
    }
}

/// Scenarios that hurt their own servers. Where this variable, `GOOSE_REDIS_URL` or `GOOSE_RABBITMQ_URL`, is set, none is
/// played: it names a server that must not be hurt, and there may be no other.
#[must_use]
pub fn on_servers_to_hurt(variable: &str, trials: Vec<Trial>) -> Vec<Trial> {
    if std::env::var_os(variable).is_none() {
        return trials;
    }
    let skipped = |name: &str| {
        trial(name, || async { Ok(Played::Skipped("the server that is given by its URL must not be hurt")) })
    };
    trials.iter().map(|trial| skipped(trial.name())).collect()
}

/// Whether to take the time that CI does not have: `GOOSE_LONG_SCENARIOS=1`.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("GOOSE_LONG_SCENARIOS").is_some_and(|value| value == "1")
}

/// One [`Trial`] per scenario, named as its function is: `trials![module::scenario, other::with(argument)]`. An
/// argument is part of the name only by what stands before a colon: `trials!["cluster": module::with(argument)]`.
#[macro_export]
macro_rules! trials {
    (@name) => { "" };
    (@name $label:literal) => { concat!($label, "::") };
    ($($($label:literal:)? $module:ident::$scenario:ident($($argument:expr)?)),+ $(,)?) => {
        vec![$($crate::scenario::trial(
            concat!($crate::trials!(@name $($label)?), stringify!($module), "::", stringify!($scenario)),
            move || $module::$scenario($($argument)?),
        )),+]
    };
}

/// Ends a scenario with an error unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_does_not_end_fails_and_one_that_panics_says_why() {
        let limit = Duration::from_millis(50);
        let waits = within(limit, || async { std::future::pending::<Outcome>().await });
        assert_eq!(waits.unwrap_err().to_string(), "did not end within 50ms");
        let blocks = within(limit, || async {
            std::thread::park_timeout(Duration::from_secs(60));
            Ok(Played::Done)
        });
        assert!(blocks.is_err());
        assert_eq!(within(Duration::from_secs(60), || async { Ok(Played::Done) }).unwrap(), Played::Done);
        let panics = std::panic::catch_unwind(|| within(Duration::from_secs(60), || async { panic!("the words") }));
        assert_eq!(panics.unwrap_err().downcast_ref::<&str>(), Some(&"the words"));
    }
}
