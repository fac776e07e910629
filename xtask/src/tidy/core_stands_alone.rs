//! Rule: the core has no dependencies.

use super::{Offence, Rule};
use crate::cargo::Cargo;

pub(super) const RULE: Rule = Rule {
    name: "core stands alone",
    reason: "`cargo tree -p goose-core -e normal` prints one line: broker authors build on words and contracts, not on our choice of libraries",
    check: |_| Ok(check(&Cargo::new(["tree", "--package", "goose-core", "--edges", "normal"]).output()?)),
};

/// Anything below the first line of the tree is a dependency. Cargo is asked, and not the manifest, because only
/// cargo knows which optional dependencies the default features turn on.
fn check(tree: &str) -> Vec<Offence> {
    let dependencies = tree.lines().skip(1).filter(|line| !line.trim().is_empty());
    dependencies.map(|line| Offence::new("goose-core/Cargo.toml", 0, format!("depends on {}", line.trim()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_line_is_a_dependency() {
        assert_eq!(check("goose-core v0.1.0 (/goose/goose-core)\n"), []);
        let tree = "goose-core v0.1.0 (/goose/goose-core)\n└── serde v1.0.0\n";
        assert_eq!(check(tree), [Offence::new("goose-core/Cargo.toml", 0, "depends on └── serde v1.0.0")]);
    }

    #[test]
    fn the_rule_asks_cargo() {
        // Fails when the package is renamed or cargo changes its output: then the rule would see nothing.
        let tree = Cargo::new(["tree", "--package", "goose-core", "--edges", "normal"]).output().unwrap();
        assert!(tree.starts_with("goose-core v"), "{tree}");
    }
}
