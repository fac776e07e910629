//! Rule: no file outgrows one concept.

use super::{Offence, Repository, Rule};

const LIMIT: usize = 400;

pub(super) const RULE: Rule = Rule {
    name: "file length",
    reason: "a file has at most 400 lines before its test module: one concept that fits in a head; split it by concept",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust() {
        let lines = lines_before_tests(&file.text);
        if lines > LIMIT {
            offences.push(Offence::new(
                &file.path,
                LIMIT + 1,
                format!("{lines} lines before its tests, the limit is {LIMIT}"),
            ));
        }
    }
    offences
}

/// Lines up to the test module at the end. Only a module ends the count, not a single item for tests.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_test_module = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    lines.windows(2).position(is_test_module).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_before_the_test_module_count() {
        let long = "//! x\n".repeat(LIMIT + 1);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"\n".repeat(LIMIT) + "}\n";
        let just = "//! x\n".repeat(LIMIT) + &tests;
        let hidden = "#[cfg(test)]\nfn f() {}\n".to_owned() + &long;
        let repository = Repository::sample(&[("long.rs", &long), ("just.rs", &just), ("hidden.rs", &hidden)]);
        let found: Vec<_> = check(&repository).into_iter().map(|offence| (offence.path, offence.message)).collect();
        let message = |lines: usize| format!("{lines} lines before its tests, the limit is 400");
        assert_eq!(found, [("long.rs".to_owned(), message(401)), ("hidden.rs".to_owned(), message(403))]);
    }
}
