//! Rule: no test is switched off.

use super::{Offence, Repository, Rule, code};

pub(super) const RULE: Rule = Rule {
    name: "ignored tests",
    reason: "a test that does not run is a claim that nobody checks; fix it or delete it",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.rust() {
        for (number, line) in code::only(&file.text).lines().enumerate() {
            let packed: String = line.split_whitespace().collect();
            if packed.contains("#[ignore") || (packed.contains("cfg_attr(") && packed.contains(",ignore")) {
                offences.push(Offence::new(&file.path, number + 1, "a test is ignored"));
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_ignore_a_test_is_found() {
        let text =
            "//! x\n#[ignore]\n#[ignore = \"slow\"]\n#[cfg_attr(miri, ignore)]\n// #[ignore]\nf(\"#[ignore]\")\n";
        let found = check(&Repository::sample(&[("a.rs", text)]));
        assert_eq!(found.iter().map(|offence| offence.line).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
