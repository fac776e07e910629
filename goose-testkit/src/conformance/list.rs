//! The one list of scenarios, and the run through it.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Failure, Harness, Outcome, Report, Scenario, battery};

/// Every scenario there is, battery by battery.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    battery::ALL.concat()
}

/// Runs all scenarios whose name contains `filter` (the empty filter means all), one after another.
///
/// Must be called inside a tokio runtime with time enabled; a multi-threaded one finds more.
pub async fn run(harness: Arc<dyn Harness>, filter: &str) -> Report {
    let mut report = Report { outcomes: mistakes(&*harness) };
    for scenario in scenarios().into_iter().filter(|scenario| scenario.name.contains(filter)) {
        let outcome = scenario.run(&harness).await;
        report.outcomes.push((scenario.name.to_owned(), outcome));
    }
    report
}

/// What is wrong with the harness's list of skips: a skip that skips nothing hides that its scenario was renamed.
pub(crate) fn mistakes(harness: &dyn Harness) -> Vec<(String, Outcome)> {
    let known: HashSet<&str> = scenarios().iter().map(|scenario| scenario.name).collect();
    let mut seen = HashSet::new();
    let mut mistakes = Vec::new();
    for skip in harness.skips() {
        let problem = if !known.contains(skip.scenario) {
            "there is no scenario of this name to skip"
        } else if !seen.insert(skip.scenario) {
            "is skipped twice"
        } else if skip.reason.trim().is_empty() {
            "is skipped without a reason"
        } else {
            continue;
        };
        mistakes.push((format!("skips::{}", skip.scenario), Outcome::Failed(Failure::new(problem))));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use goose_core::broker::capability;

    #[test]
    fn names_are_unique_and_needs_are_capabilities() {
        let mut names = HashSet::new();
        for scenario in scenarios() {
            assert!(names.insert(scenario.name), "{} is listed twice", scenario.name);
            for need in scenario.needs {
                assert!(capability::ALL.iter().any(|power| power.name == *need), "{}: {need}", scenario.name);
            }
        }
        assert!(names.len() >= 90, "{} scenarios", names.len());
    }

    #[test]
    fn every_capability_has_scenarios() {
        for power in capability::ALL {
            assert!(scenarios().iter().any(|scenario| scenario.needs.contains(&power.name)), "{}", power.name);
        }
    }
}
