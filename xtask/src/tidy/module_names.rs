//! Rule: a module is named after what is in it.

use super::{Offence, Repository, Rule, code};

const FORBIDDEN: [&str; 9] = ["util", "utils", "common", "helper", "helpers", "types", "prelude", "misc", "internal"];

pub(super) const RULE: Rule = Rule {
    name: "module names",
    reason: "a name like `utils` or `types` fits everything, so everything lands there; name the concept",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust() {
        for part in file.path.trim_end_matches(".rs").split('/') {
            if FORBIDDEN.contains(&part) {
                offences.push(Offence::new(&file.path, 0, format!("is in a module called `{part}`")));
            }
        }
        for (number, line) in code::only(&file.text).lines().enumerate() {
            let Some((_, inline)) = line.split_once("mod ") else { continue };
            let Some(name) = inline.trim_end().strip_suffix('{') else { continue };
            if FORBIDDEN.contains(&name.trim()) {
                offences.push(Offence::new(&file.path, number + 1, format!("has a module called `{}`", name.trim())));
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vague_names_are_found_as_files_folders_and_inline() {
        let repository = Repository::sample(&[
            ("a/src/utils.rs", ""),
            ("a/src/common/mod.rs", ""),
            ("a/src/lib.rs", "// mod types {\npub mod helpers {\n}"),
            ("a/src/settle.rs", "mod tests {\n}"),
        ]);
        let places: Vec<_> = check(&repository).into_iter().map(|offence| (offence.path, offence.line)).collect();
        let place = |path: &str, line| (path.to_owned(), line);
        assert_eq!(places, [place("a/src/utils.rs", 0), place("a/src/common/mod.rs", 0), place("a/src/lib.rs", 2)]);
    }
}
