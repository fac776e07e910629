//! What a run of the suite found.

use std::fmt;
use std::time::Duration;

use super::Failure;

/// How one scenario ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The broker keeps this promise. It took this long.
    Passed(Duration),
    /// The harness says that it does not apply, and why.
    Skipped(&'static str),
    /// The broker breaks this promise.
    Failed(Failure),
}

/// All scenarios that were asked for, in the order of the list.
///
/// `Display` prints one line each and a summary.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Scenario names with their outcomes.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Report {
    /// Whether nothing failed. Skipped scenarios do not count as failed; look at them too.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
    }

    /// What failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.outcomes.iter().filter_map(|(name, outcome)| match outcome {
            Outcome::Failed(failure) => Some((name.as_str(), failure)),
            Outcome::Passed(_) | Outcome::Skipped(_) => None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut passed, mut skipped, mut failed) = (0, 0, 0);
        for (name, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed(took) => {
                    passed += 1;
                    writeln!(f, "passed   {name} ({took:.1?})")?;
                }
                Outcome::Skipped(reason) => {
                    skipped += 1;
                    writeln!(f, "skipped  {name}: {reason}")?;
                }
                Outcome::Failed(failure) => {
                    failed += 1;
                    writeln!(f, "FAILED   {name}: {failure}")?;
                }
            }
        }
        write!(f, "conformance: {passed} passed, {skipped} skipped, {failed} failed")
    }
}
