//! The suite as a test binary: one test per scenario, with the usual flags of `cargo test`.

use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::list::mistakes;
use super::{Harness, Outcome, Scenario, scenarios};

/// Held by all scenarios that run, and by those that measure time alone.
static FLOOR: RwLock<()> = RwLock::new(());

/// Most scenarios wait for something, so more of them run at once than there are processors.
const THREADS: usize = 8;

/// The whole `main` of a test target with `harness = false`: runs every scenario over every harness.
///
/// Tests are named `harness::battery::what_must_hold`. A skip is shown as ignored, with its reason.
/// Takes the arguments of `cargo test`: a filter, `--exact`, `--list`, `--test-threads`, …
///
/// ```no_run
/// # fn my_harness() -> std::sync::Arc<dyn goose_testkit::conformance::Harness> { unreachable!() }
/// // tests/conformance.rs
/// fn main() -> std::process::ExitCode {
///     goose_testkit::conformance::libtest::main([my_harness()])
/// }
/// ```
#[must_use]
pub fn main(harnesses: impl IntoIterator<Item = Arc<dyn Harness>>) -> ExitCode {
    main_with_threads(THREADS, harnesses)
}

/// The same with so many scenarios at a time, unless the command line says how many: for servers that are slow.
#[must_use]
pub fn main_with_threads(threads: usize, harnesses: impl IntoIterator<Item = Arc<dyn Harness>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    libtest_mimic::run(&arguments, harnesses.into_iter().flat_map(|harness| trials(&harness)).collect()).exit_code()
}

fn trials(harness: &Arc<dyn Harness>) -> Vec<Trial> {
    let name = harness.name().to_owned();
    let wrong = mistakes(&**harness).into_iter().map({
        let name = name.clone();
        move |(mistake, outcome)| Trial::ignorable_test(format!("{name}::{mistake}"), move || completion(outcome))
    });
    let wrong: Vec<_> = wrong.collect();
    let played = scenarios().into_iter().map(|scenario| {
        let harness = Arc::clone(harness);
        Trial::ignorable_test(format!("{name}::{}", scenario.name()), move || play(scenario, &harness))
    });
    wrong.into_iter().chain(played).collect()
}

/// Each scenario has a runtime of its own, so that none can starve another's tasks.
fn play(scenario: Scenario, harness: &Arc<dyn Harness>) -> Result<Completion, Failed> {
    // What a panicking scenario leaves behind is no data of ours.
    let (_shared, _alone);
    if scenario.is_timed() {
        _alone = FLOOR.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = FLOOR.read().unwrap_or_else(PoisonError::into_inner);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    completion(runtime.block_on(scenario.run(harness)))
}

fn completion(outcome: Outcome) -> Result<Completion, Failed> {
    match outcome {
        Outcome::Passed(_) => Ok(Completion::Completed),
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed(failure) => Err(failure.into()),
    }
}
