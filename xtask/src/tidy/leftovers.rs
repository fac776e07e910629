//! Rule: nothing is left for later in the code.

use super::{Offence, Repository, Rule};

/// Put together here, so that this file does not find itself.
const MARKS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub(super) const RULE: Rule = Rule {
    name: "leftovers",
    reason: "a note to oneself is work that was not done and that nobody will find; do it, or open an issue",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.files() {
        for (number, line) in file.text.lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(mark) = words.find(|word| MARKS.contains(word)) {
                offences.push(Offence::new(&file.path, number + 1, format!("has a {mark}")));
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_as_words_everywhere() {
        for mark in MARKS {
            let code = format!("//! x\nlet a = 1; // {mark}: later\nlet {mark}_LIST = 2;\n");
            let found = check(&Repository::sample(&[("a.rs", &code), ("b.md", &format!("({mark})"))]));
            let places: Vec<_> = found.into_iter().map(|offence| (offence.path, offence.line)).collect();
            assert_eq!(places, [("a.rs".to_owned(), 2), ("b.md".to_owned(), 1)]);
        }
    }
}
