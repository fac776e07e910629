//! Rule: every third-party crate is named once and has its reason written down.

use std::collections::BTreeSet;

use super::{Offence, Repository, Rule};

pub(super) const RULE: Rule = Rule {
    name: "dependencies",
    reason: "each dependency is code we answer for: its version stands once in the root manifest, its reason in decisions/0010-dependencies.md, and nothing is listed that nobody uses",
    check: |repository| Ok(check(repository)),
};

const REASONS: &str = "decisions/0010-dependencies.md";

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut used = BTreeSet::new();
    for member in repository.members() {
        for dependency in member.manifest.dependencies() {
            if !dependency.from_workspace {
                let message = format!("{} does not come from [workspace.dependencies]", dependency.name);
                offences.push(Offence::new(&member.path, 0, message));
            }
            used.insert(dependency.name);
        }
    }
    let reasons = repository.file(REASONS).map_or("", |file| &file.text);
    let workspace = repository.workspace();
    for name in workspace.keys("workspace.dependencies").into_iter().filter(|name| !name.starts_with("goose-")) {
        if !reasons.contains(&format!("`{name}`")) {
            offences.push(Offence::new(REASONS, 0, format!("does not say why `{name}` is in")));
        }
        if !used.contains(name) {
            offences.push(Offence::new("Cargo.toml", 0, format!("{name} is listed and no member uses it")));
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexplained_unused_and_scattered_dependencies_are_found() {
        let root = "[workspace]\nmembers = [\"a\"]\n[workspace.dependencies]\ngoose-core = { path = \"goose-core\" }\n\
            tokio = \"1\"\nserde = \"1\"\nrand = \"0.9\"";
        let member = "[package]\nname = \"a\"\n[dependencies]\ntokio.workspace = true\nserde = { workspace = true }\nlibc = \"0.2\"";
        let repository = Repository::sample(&[
            ("Cargo.toml", root),
            ("a/Cargo.toml", member),
            (REASONS, "`tokio` runs the worker, `rand` rolls dice"),
        ]);
        let messages: Vec<String> = check(&repository).into_iter().map(|offence| offence.message).collect();
        assert_eq!(
            messages,
            [
                "libc does not come from [workspace.dependencies]",
                "rand is listed and no member uses it",
                "does not say why `serde` is in"
            ]
        );
    }
}
