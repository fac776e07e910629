//! Rule: every Rust file opens with a sentence about itself.

use super::{Offence, Repository, Rule};

pub(super) const RULE: Rule = Rule {
    name: "module docs",
    reason: "a file begins with `//!` and one sentence that says what it is for, so that a folder can be read from its doors",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust() {
        let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if first.strip_prefix("//!").is_none_or(|sentence| sentence.trim().is_empty()) {
            offences.push(Offence::new(&file.path, 1, "does not begin with `//!` and a sentence"));
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_first_sentence_is_found() {
        let repository = Repository::sample(&[
            ("good.rs", "//! The good one.\nuse std::fmt;"),
            ("bare.rs", "use std::fmt;\n//! too late"),
            ("empty.rs", ""),
            ("silent.rs", "//!\n//! second line"),
        ]);
        let paths: Vec<String> = check(&repository).into_iter().map(|offence| offence.path).collect();
        assert_eq!(paths, ["bare.rs", "empty.rs", "silent.rs"]);
    }
}
