//! Rule: the tests in `tests/` ask for no feature's absence.

use super::{Offence, Repository, Rule, code};

pub(super) const RULE: Rule = Rule {
    name: "additive features",
    reason: "features only add, and tests from outside run once, with all of them: one that wants a feature off would run nowhere; make it a unit test",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust().filter(|file| !file.path.contains("/src/") && file.path.contains("/tests/")) {
        for (number, line) in code::only(&file.text).lines().enumerate() {
            let packed: String = line.split_whitespace().collect();
            if packed.contains("not(feature") || packed.contains("!cfg!(feature") {
                offences.push(Offence::new(&file.path, number + 1, "asks for the absence of a feature"));
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_from_outside_are_held_to_it() {
        let repository = Repository::sample(&[
            ("a/src/tests/x.rs", "#[cfg(not(feature = \"tls\"))]"),
            ("a/tests/good.rs", "#[cfg(feature = \"tls\")] // not(feature"),
            ("a/tests/bad.rs", "\n#[cfg( not(feature = \"tls\"))]"),
            ("a/tests/worse.rs", "if !cfg!(feature = \"tls\") {}"),
        ]);
        let found: Vec<_> = check(&repository).into_iter().map(|offence| (offence.path, offence.line)).collect();
        assert_eq!(found, [("a/tests/bad.rs".to_owned(), 2), ("a/tests/worse.rs".to_owned(), 1)]);
    }
}
