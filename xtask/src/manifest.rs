//! The little of `Cargo.toml` that the commands need, read line by line.
//!
//! A TOML parser would be the largest thing to build before the first command runs. This reader knows the
//! forms that this repository uses, and the tidy rules keep it to them.

use std::collections::{BTreeMap, BTreeSet};

/// One `Cargo.toml`.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    sections: BTreeMap<String, Vec<(String, String)>>,
}

/// One line of a dependency table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
    /// Whether version and path come from `[workspace.dependencies]`.
    pub(crate) from_workspace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Manifest {
    /// Reads a manifest. Values that span lines are joined; comments are dropped.
    pub(crate) fn parse(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut section = String::new();
        let mut pending: Option<(String, String)> = None;
        for line in text.lines().map(without_comment) {
            if let Some((key, mut value)) = pending.take() {
                value.push_str(line);
                pending = manifest.store(&section, key, value);
            } else if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']').to_owned();
                manifest.sections.entry(section.clone()).or_default();
            } else if let Some((key, value)) = line.split_once('=') {
                pending = manifest.store(&section, key.trim().trim_matches('"').to_owned(), value.trim().to_owned());
            }
        }
        manifest
    }

    /// Stores a finished pair, or gives back one whose brackets are still open.
    fn store(&mut self, section: &str, key: String, value: String) -> Option<(String, String)> {
        let count = |open: char, close: char| value.matches(open).count() > value.matches(close).count();
        if count('[', ']') || count('{', '}') {
            return Some((key, value));
        }
        self.sections.entry(section.to_owned()).or_default().push((key, value));
        None
    }

    /// The raw value of a key.
    pub(crate) fn value(&self, section: &str, key: &str) -> Option<&str> {
        let pairs = self.sections.get(section)?;
        pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The name of the package, or nothing for a manifest that is only a workspace.
    pub(crate) fn package(&self) -> Option<&str> {
        self.value("package", "name").map(|name| name.trim_matches('"'))
    }

    /// The members of the workspace, as folders.
    pub(crate) fn members(&self) -> Vec<String> {
        self.strings("workspace", "members")
    }

    /// The strings of an array; none where there is no such key.
    pub(crate) fn strings(&self, section: &str, key: &str) -> Vec<String> {
        self.value(section, key).map(strings).unwrap_or_default()
    }

    /// The features with what each turns on.
    pub(crate) fn features(&self) -> BTreeMap<String, Vec<String>> {
        let pairs = self.sections.get("features").map(Vec::as_slice).unwrap_or_default();
        pairs.iter().map(|(name, value)| (name.clone(), strings(value))).collect()
    }

    /// The keys of a section.
    pub(crate) fn keys(&self, section: &str) -> BTreeSet<&str> {
        let pairs = self.sections.get(section).map(Vec::as_slice).unwrap_or_default();
        pairs.iter().map(|(key, _)| key.split('.').next().unwrap_or(key)).collect()
    }

    /// All dependencies, those for one platform among them.
    pub(crate) fn dependencies(&self) -> Vec<Dependency> {
        let mut all = Vec::new();
        for (section, pairs) in &self.sections {
            if section.starts_with("workspace.") {
                continue;
            }
            let kinds =
                [("dev-dependencies", Kind::Dev), ("build-dependencies", Kind::Build), ("dependencies", Kind::Normal)];
            // Longest first: each of the others ends with `dependencies` too.
            let Some((table, kind)) =
                kinds.into_iter().find(|(table, _)| section.split('.').any(|part| part == *table))
            else {
                continue;
            };
            if section.ends_with(table) {
                all.extend(pairs.iter().map(|(key, value)| Dependency {
                    name: key.split('.').next().unwrap_or(key).to_owned(),
                    kind,
                    optional: value.replace(' ', "").contains("optional=true"),
                    from_workspace: key.ends_with(".workspace") || value.replace(' ', "").contains("workspace=true"),
                }));
            } else if let Some((_, name)) = section.rsplit_once('.') {
                let is_true = |key: &str| pairs.iter().any(|(name, value)| name == key && value == "true");
                let (optional, from_workspace) = (is_true("optional"), is_true("workspace"));
                all.push(Dependency { name: name.to_owned(), kind, optional, from_workspace });
            }
        }
        all
    }
}

/// A line without its comment and outer blanks. A `#` in a string is none.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => in_string = !in_string,
            '#' if !in_string => return line[..at].trim(),
            _ => {}
        }
    }
    line.trim()
}

/// The strings of an array.
fn strings(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [package]
        name = "goose-worker" # the name
        version.workspace = true
        [features]
        default = []
        sqlite = [
            "dep:goose-sqlite", # both
            "goose-client/sqlite",
        ]
        [dependencies]
        goose-core.workspace = true
        goose-sqlite = { workspace = true, optional = true }
        tokio = { workspace = true, features = ["rt", "time"] }
        [target.'cfg(unix)'.dependencies]
        libc = "0.2"
        [dev-dependencies.proptest]
        workspace = true
    "#;

    #[test]
    fn features_and_dependencies_are_found_in_every_form() {
        let manifest = Manifest::parse(TEXT);
        assert_eq!(manifest.package(), Some("goose-worker"));
        assert_eq!(manifest.features()["sqlite"], ["dep:goose-sqlite", "goose-client/sqlite"]);
        let dependency = |name: &str, kind, optional, from_workspace| Dependency {
            name: name.to_owned(),
            kind,
            optional,
            from_workspace,
        };
        let mut found = manifest.dependencies();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(
            found,
            [
                dependency("goose-core", Kind::Normal, false, true),
                dependency("goose-sqlite", Kind::Normal, true, true),
                dependency("libc", Kind::Normal, false, false),
                dependency("proptest", Kind::Dev, false, true),
                dependency("tokio", Kind::Normal, false, true),
            ]
        );
    }
}
