//! Rule: decisions are numbered and have one form.

use super::{Offence, Repository, Rule};

pub(super) const RULE: Rule = Rule {
    name: "decisions",
    reason: "a decision is found by its number and read in a minute: Decision, Rationale, Avoided designs, in this order",
    check: |repository| Ok(check(repository)),
};

const HEADINGS: [&str; 3] = ["Decision", "Rationale", "Avoided designs"];

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut expected = 1;
    for file in repository.markdown() {
        let Some(name) = file.path.strip_prefix("decisions/") else { continue };
        let Some(number) = number(name) else {
            offences.push(Offence::new(&file.path, 0, "is not named NNNN-title.md, in lower case with hyphens"));
            continue;
        };
        if number != expected {
            offences.push(Offence::new(&file.path, 0, format!("has number {number:04}, expected {expected:04}")));
        }
        expected = number + 1;
        let text = without_code(&file.text);
        if !text.starts_with("# ") {
            offences.push(Offence::new(&file.path, 1, "does not begin with its title"));
        }
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
        if headings != HEADINGS {
            offences.push(Offence::new(&file.path, 0, format!("has the headings {headings:?}, not {HEADINGS:?}")));
        }
    }
    offences
}

/// The number of a well-named file.
fn number(name: &str) -> Option<u32> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let title_fits =
        !title.is_empty() && title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (number.len() == 4 && title_fits).then(|| number.parse().ok()).flatten()
}

/// A page without its code blocks, in which a `#` means something else.
fn without_code(text: &str) -> String {
    let mut in_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_names_and_forms_are_found() {
        let good = "# 0001: One\n\n## Decision\n\n## Rationale\n```sh\n## not a heading\n```\n## Avoided designs\n";
        let swapped = "# Three\n## Rationale\n## Decision\n## Avoided designs\n";
        let repository = Repository::sample(&[
            ("decisions/0001-one.md", good),
            ("decisions/0003-three.md", swapped),
            ("decisions/0004-four.md", &good.replace("# 0001", "0001")),
            ("decisions/5-Five.md", good),
            ("docs/glossary.md", "anything"),
        ]);
        let found: Vec<_> = check(&repository).into_iter().map(|offence| (offence.path, offence.message)).collect();
        let offence = |path: &str, message: &str| (path.to_owned(), message.to_owned());
        assert_eq!(
            found,
            [
                offence("decisions/0003-three.md", "has number 0003, expected 0002"),
                offence(
                    "decisions/0003-three.md",
                    r#"has the headings ["Rationale", "Decision", "Avoided designs"], not ["Decision", "Rationale", "Avoided designs"]"#
                ),
                offence("decisions/0004-four.md", "does not begin with its title"),
                offence("decisions/5-Five.md", "is not named NNNN-title.md, in lower case with hyphens"),
            ]
        );
    }
}
