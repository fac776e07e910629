//! Rule: every member takes its lints, version and edition from the workspace.

use super::{Offence, Repository, Rule};

pub(super) const RULE: Rule = Rule {
    name: "lint opt-in",
    reason: "cargo does not apply workspace lints to a member that does not ask for them, and says nothing",
    check: |repository| Ok(check(repository)),
};

const INHERITED: [&str; 4] = ["version", "edition", "rust-version", "license"];

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for member in repository.members() {
        if member.manifest.value("lints", "workspace") != Some("true") {
            offences.push(Offence::new(&member.path, 0, "lacks `[lints] workspace = true`"));
        }
        for key in INHERITED {
            if member.manifest.value("package", &format!("{key}.workspace")) != Some("true") {
                offences.push(Offence::new(&member.path, 0, format!("lacks `{key}.workspace = true`")));
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_with_its_own_ways_is_found() {
        let good = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
            rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true";
        let bad = good.replace("edition.workspace = true", "edition = \"2021\"").replace("[lints]\n", "[lint]\n");
        let root = "[workspace]\nmembers = [\"a\", \"b\"]";
        let repository = Repository::sample(&[("Cargo.toml", root), ("a/Cargo.toml", good), ("b/Cargo.toml", &bad)]);
        let expected = ["lacks `[lints] workspace = true`", "lacks `edition.workspace = true`"];
        assert_eq!(check(&repository), expected.map(|message| Offence::new("b/Cargo.toml", 0, message)));
    }
}
