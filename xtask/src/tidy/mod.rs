//! `cargo xtask tidy`: the house rules that no compiler checks, one file per rule.
//!
//! Each rule says why it is there, because that is what its breaker wants to know. All rules also run as a
//! test, so that `cargo test` finds what `cargo xtask tidy` finds.

mod additive_features;
mod code;
mod core_stands_alone;
mod crate_graph;
mod decisions;
mod dependencies;
mod doc_fences;
mod file_length;
mod ignored_tests;
mod leftovers;
mod links;
mod lint_opt_in;
mod module_docs;
mod module_names;
mod public_errors;
mod repository;

use repository::Repository;

use crate::cargo::root;
use crate::{Failure, Result};

/// One house rule.
struct Rule {
    name: &'static str,
    /// Why it is there; printed with its offences.
    reason: &'static str,
    check: fn(&Repository) -> Result<Vec<Offence>>,
}

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

impl Offence {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

const RULES: &[Rule] = &[
    module_docs::RULE,
    file_length::RULE,
    module_names::RULE,
    crate_graph::RULE,
    core_stands_alone::RULE,
    dependencies::RULE,
    lint_opt_in::RULE,
    public_errors::RULE,
    ignored_tests::RULE,
    additive_features::RULE,
    leftovers::RULE,
    doc_fences::RULE,
    decisions::RULE,
    links::RULE,
];

pub(crate) fn run() -> Result<()> {
    let repository = Repository::read(&root())?;
    let mut report = String::new();
    let mut offences = 0;
    for rule in RULES {
        // A rule that cannot look has not been kept, and must not hide what the others found.
        let cannot_look = |failure: Failure| vec![Offence::new("Cargo.toml", 0, format!("not checked, {failure}"))];
        let found = (rule.check)(&repository).unwrap_or_else(cannot_look);
        println!("{:<18} {}", rule.name, if found.is_empty() { "ok" } else { "BROKEN" });
        offences += found.len();
        report.push_str(&describe(rule, &found));
    }
    if offences == 0 {
        println!("tidy: {} rules, {} files", RULES.len(), repository.files().len());
        return Ok(());
    }
    Err(Failure::new(format!("the house rules are broken in {offences} places\n{report}")))
}

/// The offences against a rule, under its reason; nothing where there are none.
fn describe(rule: &Rule, offences: &[Offence]) -> String {
    if offences.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}: {}\n", rule.name, rule.reason);
    for Offence { path, line, message } in offences {
        let place = if *line == 0 { path.clone() } else { format!("{path}:{line}") };
        text.push_str(&format!("  {place}: {message}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        if let Err(failure) = run() {
            panic!("{failure}");
        }
    }

    #[test]
    fn an_offence_is_shown_with_its_place_and_the_reason_of_the_rule() {
        let text = describe(&module_docs::RULE, &[Offence::new("a.rs", 7, "bad"), Offence::new("b.rs", 0, "worse")]);
        assert!(
            text.contains(module_docs::RULE.reason) && text.contains("a.rs:7: bad\n") && text.contains("b.rs: worse\n")
        );
    }
}
