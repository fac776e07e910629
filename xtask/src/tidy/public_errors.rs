//! Rule: no public signature mentions an error of another library.
//!
//! A reading of the text, not of types: it knows public functions, types, traits and `From` implementations,
//! and the error types that a file imports. Together with the lint `unreachable_pub` that is enough.

use std::collections::BTreeSet;

use super::repository::Member;
use super::{Offence, Repository, Rule, code};
use crate::manifest::Kind;

pub(super) const RULE: Rule = Rule {
    name: "public errors",
    reason: "an error type of another library in a signature makes each of its major versions ours; keep it as the source of a goose_core::Error",
    check: |repository| Ok(check(repository)),
};

fn check(repository: &Repository) -> Vec<Offence> {
    let mut offences = Vec::new();
    for member in repository.members() {
        if !member.name().starts_with("goose-") || member.name() == "goose-tests" {
            continue;
        }
        let foreign = foreign_crates(&member);
        let folder = format!("{}src/", member.path.trim_end_matches("Cargo.toml"));
        let files: Vec<(&str, String)> = repository
            .rust()
            .filter(|file| file.path.starts_with(&folder))
            .map(|file| {
                (file.path.as_str(), code::only(file.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()))
            })
            .collect();
        let public_types: BTreeSet<String> = files.iter().flat_map(|(_, code)| public_types(code)).collect();
        for (path, code) in &files {
            let imported = imported_errors(code, &foreign);
            for (line, signature) in signatures(code, &public_types) {
                if let Some(name) = foreign_error(&signature, &foreign, &imported) {
                    offences.push(Offence::new(*path, line, format!("`{name}` is in a public signature")));
                }
            }
        }
    }
    offences
}

/// The crates a member uses that are not of the family, as they are written in code.
fn foreign_crates(member: &Member) -> BTreeSet<String> {
    let dependencies = member.manifest.dependencies().into_iter();
    let foreign =
        dependencies.filter(|dependency| dependency.kind == Kind::Normal && !dependency.name.starts_with("goose-"));
    foreign.map(|dependency| dependency.name.replace('-', "_")).collect()
}

fn public_types(code: &str) -> Vec<String> {
    let declared = |line: &str| {
        let rest =
            line.trim_start().strip_prefix("pub struct ").or_else(|| line.trim_start().strip_prefix("pub enum "))?;
        Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned())
    };
    code.lines().filter_map(declared).collect()
}

/// The names under which a file imports error types (and `Result` aliases, which hide one) of foreign crates.
fn imported_errors(code: &str, foreign: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for statement in code.split(';') {
        let Some((_, path)) = statement.rsplit_once("use ") else { continue };
        if !foreign.contains(path.split("::").next().unwrap_or_default().trim()) {
            continue;
        }
        for leaf in path.split(['{', '}', ',']).map(str::trim) {
            let (original, name) = leaf.split_once(" as ").unwrap_or((leaf, leaf));
            if is_error_name(original.rsplit("::").next().unwrap_or_default()) {
                names.insert(name.rsplit("::").next().unwrap_or_default().trim().to_owned());
            }
        }
    }
    names
}

fn is_error_name(name: &str) -> bool {
    name.ends_with("Error") || name == "Result"
}

/// Everything that a user of the crate can see types in, each with its line.
fn signatures(code: &str, public_types: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, line) in code.lines().enumerate() {
        let rest = &code[offset..];
        offset += line.len() + 1;
        let item = line.trim_start();
        let signature =
            if ["pub fn ", "pub async fn ", "pub const fn ", "pub type "].iter().any(|start| item.starts_with(start)) {
                head(rest)
            } else if item.starts_with("pub enum ") || item.starts_with("pub trait ") {
                block(rest)
            } else if item.starts_with("pub struct ") {
                public_fields(&block(rest))
            } else if item.starts_with("impl") && head(rest).contains("From<") {
                let target =
                    head(rest).rsplit_once(" for ").map(|(_, target)| target.trim().to_owned()).unwrap_or_default();
                if !public_types.contains(target.split('<').next().unwrap_or_default()) {
                    continue;
                }
                head(rest)
            } else if item.starts_with("type Error =") || item.starts_with("type Err =") {
                head(rest)
            } else {
                continue;
            };
        found.push((number + 1, signature));
    }
    found
}

/// Up to the body or the semicolon.
fn head(rest: &str) -> String {
    rest.split(['{', ';']).next().unwrap_or_default().to_owned()
}

/// Up to the end of the braces, or to the semicolon where there are none.
fn block(rest: &str) -> String {
    let mut depth = 0_usize;
    for (at, c) in rest.char_indices() {
        match c {
            ';' if depth == 0 => return rest[..at].to_owned(),
            '{' => depth += 1,
            '}' if depth <= 1 => return rest[..at].to_owned(),
            '}' => depth -= 1,
            _ => {}
        }
    }
    rest.to_owned()
}

/// The types of a struct's public fields.
fn public_fields(declaration: &str) -> String {
    let fields = declaration.split_once(['{', '(']).map_or("", |(_, fields)| fields);
    let public = |field: &&str| field.trim_start().starts_with("pub ");
    fields.split(['\n', ',']).filter(public).collect::<Vec<_>>().join("\n")
}

fn foreign_error(signature: &str, foreign: &BTreeSet<String>, imported: &BTreeSet<String>) -> Option<String> {
    signature.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').map(|path| path.trim_matches(':')).find_map(
        |path| {
            let (first, last) = (path.split("::").next()?, path.rsplit("::").next()?);
            let is_path = first != last && foreign.contains(first) && is_error_name(last);
            (is_path || imported.contains(path)).then(|| path.to_owned())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(code: &str) -> Vec<usize> {
        let manifest =
            "[package]\nname = \"goose-x\"\n[dependencies]\nrmp-serde = \"1\"\nrusqlite = \"1\"\ngoose-core = \"1\"";
        let repository = Repository::sample(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"goose-x\"]"),
            ("goose-x/Cargo.toml", manifest),
            ("goose-x/src/lib.rs", code),
        ]);
        check(&repository).into_iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn foreign_errors_are_found_wherever_a_user_can_see_them() {
        for code in [
            "pub fn open() -> Result<(), rusqlite::Error> {",
            "pub async fn open(\n    path: &str,\n) -> rusqlite::Result<()> {",
            "    pub fn encode() -> Result<(), rmp_serde::encode::Error> {",
            "pub enum Problem {\n    Sql(rusqlite::Error),\n}",
            "pub struct Problem {\n    pub source: rusqlite::Error,\n}",
            "pub struct Problem(pub rusqlite::Error);",
            "pub trait Open {\n    fn open(&self) -> rusqlite::Result<()>;\n}",
            "pub type Result<T> = std::result::Result<T, rusqlite::Error>;",
        ] {
            assert_eq!(lines(code), [1], "{code}");
        }
        assert_eq!(
            lines("use rusqlite::{Connection, Error as SqlError};\npub fn open() -> Result<Connection, SqlError> {"),
            [2]
        );
        assert_eq!(lines("pub struct Error;\nimpl From<rusqlite::Error> for Error {"), [2]);
    }

    #[test]
    fn what_no_user_sees_may_use_them() {
        for code in [
            "pub(crate) fn open() -> rusqlite::Result<()> {",
            "fn open() -> rusqlite::Result<()> {\n    let e: rusqlite::Error = x;\n}",
            "pub struct Problem {\n    source: rusqlite::Error,\n}",
            "struct Error;\nimpl From<rusqlite::Error> for Error {",
            "pub fn open() -> Result<(), goose_core::Error> {\n    rusqlite::Error::new()",
            "// pub fn open() -> rusqlite::Result<()> {",
            "pub fn open() -> Result<(), Error> {}\n#[cfg(test)]\nmod tests {\n    pub fn f() -> rusqlite::Result<()> {}",
        ] {
            assert_eq!(lines(code), [0; 0], "{code}");
        }
    }
}
