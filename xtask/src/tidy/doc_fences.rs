//! Rule: the code in documentation is compiled.

use super::{Offence, Repository, Rule};

pub(super) const RULE: Rule = Rule {
    name: "doc fences",
    reason: "an example that is not compiled will lie one day; use `no_run` where it needs a live service",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust() {
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim_start();
            let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { continue };
            if is_ignored_fence(text) {
                offences.push(Offence::new(&file.path, number + 1, "an example is not compiled"));
            }
        }
    }
    for file in repository.markdown() {
        for (number, line) in file.text.lines().enumerate() {
            if is_ignored_fence(line) {
                offences.push(Offence::new(&file.path, number + 1, "an example is not compiled"));
            }
        }
    }
    offences
}

/// Whether the line opens a code block that rustdoc would skip.
fn is_ignored_fence(line: &str) -> bool {
    let Some(words) = line.trim().strip_prefix("```") else { return false };
    words.split(',').any(|word| word.trim().starts_with("ignore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_that_skip_the_compiler_are_found() {
        let code = "//! ```ignore\n//! ```\n/// ```rust,ignore\n/// ```no_run\n/// we ignore ``` here\n    /// ```ignore-windows\n";
        let page = "```rust, ignore\n```\n```text\n";
        let found = check(&Repository::sample(&[("a.rs", code), ("b.md", page)]));
        let places: Vec<_> = found.iter().map(|offence| (offence.path.as_str(), offence.line)).collect();
        assert_eq!(places, [("a.rs", 1), ("a.rs", 3), ("a.rs", 6), ("b.md", 1)]);
    }
}
