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
    Trial::ignorable_test(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(scenario())? {
            Played::Done => Ok(Completion::Completed),
            Played::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        }
    })
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
