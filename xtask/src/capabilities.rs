//! `cargo xtask capabilities`: `CAPABILITIES.md`, generated from the code of the brokers and the conformance suite.
//!
//! The page itself is printed by a program of the `tests` package, which links the brokers; this command only
//! stores or compares it, so that it stays quick to build.

use crate::cargo::{Cargo, root};
use crate::{Failure, Result};

pub(crate) fn run(check: bool) -> Result<()> {
    let generated = Cargo::new(["run", "--quiet", "--package", "goose-tests", "--bin", "capabilities"]).output()?;
    let path = root().join("CAPABILITIES.md");
    if check {
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        return compare(&stored, &generated);
    }
    std::fs::write(&path, generated)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Fails with the first line that differs.
fn compare(stored: &str, generated: &str) -> Result<()> {
    if stored == generated {
        return Ok(());
    }
    let (mut old, mut new) = (stored.lines(), generated.lines());
    let mut number = 1;
    loop {
        let pair = (old.next(), new.next());
        if pair.0 != pair.1 || pair == (None, None) {
            let shown = |line: Option<&str>| line.unwrap_or("(end of file)").to_owned();
            return Err(Failure::new(format!(
                "CAPABILITIES.md is out of date at line {number}, run `cargo xtask capabilities`\n  stored:    {}\n  generated: {}",
                shown(pair.0),
                shown(pair.1),
            )));
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown() {
        compare("a\nb\n", "a\nb\n").unwrap();
        let message = compare("a\nb\n", "a\nc\n").unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("stored:    b") && message.contains("generated: c"));
        assert!(compare("", "a\n").unwrap_err().to_string().contains("stored:    (end of file)"));
        assert!(compare("a", "a\n").is_err());
    }
}
