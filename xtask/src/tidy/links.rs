//! Rule: links inside the repository lead somewhere.

use super::{Offence, Repository, Rule};
use crate::cargo::root;

pub(super) const RULE: Rule = Rule {
    name: "links",
    reason: "a link that leads nowhere costs its reader more than no link",
    check: |repository| Ok(check(repository, &|path| root().join(path).exists())),
};

/// `exists` answers for paths from the root of the repository.
fn check(repository: &Repository, exists: &dyn Fn(&str) -> bool) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in repository.markdown() {
        let mut in_code = false;
        for (number, line) in file.text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            if in_code {
                continue;
            }
            for target in targets(line).filter(|target| !is_elsewhere(target)) {
                if let Some(problem) = problem(repository, exists, &file.path, target) {
                    offences.push(Offence::new(&file.path, number + 1, problem));
                }
            }
        }
    }
    offences
}

/// What follows `](` up to the closing bracket, outside of code spans.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let prose = line.split('`').step_by(2);
    // A link text may itself be a code span: then `](` opens the next piece of prose.
    prose.flat_map(|piece| piece.split("](").skip(1)).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

fn is_elsewhere(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

fn problem(repository: &Repository, exists: &dyn Fn(&str) -> bool, from: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { from.to_owned() } else { resolve(from, path) };
    if repository.file(&path).is_none() && !exists(&path) {
        return Some(format!("{target} leads to {path}, which does not exist"));
    }
    let page = repository.file(&path).filter(|_| path.ends_with(".md"))?;
    let anchor = anchor?;
    let found = page.text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
    (!found).then(|| format!("{target} names a heading that {path} does not have"))
}

/// A path from the root, for a target relative to the file it stands in.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor that a heading gets: lower case, hyphens for blanks, nothing else but letters, digits, `_` and `-`.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_and_anchors_are_found() {
        let page = "[a](../README.md) [b](gone.md) [`c`](../README.md#the-promise)\n[d](../README.md#nope) `[e](x.md)`\n\
            ```\n[f](y.md)\n```\n[g](https://example.com/z.md) [h](../src) [i](#here)\n# Here\n";
        let repository = Repository::sample(&[("README.md", "# Goose\n## The promise\n"), ("docs/page.md", page)]);
        let found: Vec<_> = check(&repository, &|path| path == "src")
            .into_iter()
            .map(|offence| (offence.line, offence.message))
            .collect();
        assert_eq!(
            found,
            [
                (1, "gone.md leads to docs/gone.md, which does not exist".to_owned()),
                (2, "../README.md#nope names a heading that README.md does not have".to_owned()),
            ]
        );
    }
}
