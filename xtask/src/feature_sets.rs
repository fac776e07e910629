//! Which feature sets of a crate are worth building: none, the default, each alone, all; no set twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::cargo::{Cargo, root};
use crate::manifest::Manifest;
use crate::{Failure, Result};

/// One crate with one set of features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeatureSet {
    pub(crate) package: String,
    /// The features to name, on top of none.
    pub(crate) features: Vec<String>,
    /// Whether it is what `--all-features` means.
    pub(crate) is_all: bool,
    /// The beginnings of the names of unit tests that need not be run with each set; see [`Self::tests`].
    once: Vec<String>,
}

impl FeatureSet {
    /// The arguments that make cargo use this set.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--package".to_owned(), self.package.clone(), "--no-default-features".to_owned()];
        if !self.features.is_empty() {
            arguments.extend(["--features".to_owned(), self.features.join(",")]);
        }
        arguments
    }

    /// What is worth testing with this set beside the whole, where every feature is on: whatever a missing feature can change.
    ///
    /// - Unit tests and those of programs and examples, because code can look different without a feature;
    /// - documentation, because its examples may need a feature that they do not ask for;
    /// - not the tests in `tests/`: they see the crate from outside, where features only ever add
    ///   (`cargo xtask tidy` holds them to that);
    /// - not the unit tests that the crate's manifest names under `once`: real servers, a minute each time, and nothing in
    ///   them that a feature changes.
    ///
    /// All of them are compiled with every feature, by the lints.
    pub(crate) fn tests(&self) -> [Cargo; 2] {
        let mut unit = self.cargo("test").args(["--no-fail-fast", "--lib", "--bins", "--examples", "--"]);
        for name in &self.once {
            unit = unit.args(["--skip", name.as_str()]);
        }
        [unit, self.cargo("test").args(["--no-fail-fast", "--doc"])]
    }

    /// The same call of cargo for this set.
    pub(crate) fn cargo(&self, subcommand: &str) -> Cargo {
        Cargo::new([subcommand]).args(self.arguments())
    }
}

/// The sets of every member of the workspace.
pub(crate) fn of_workspace() -> Result<Vec<FeatureSet>> {
    let mut sets = Vec::new();
    for member in read("Cargo.toml")?.members() {
        sets.extend(of_crate(&read(&format!("{member}/Cargo.toml"))?));
    }
    Ok(sets)
}

fn read(path: &str) -> Result<Manifest> {
    let text = fs::read_to_string(root().join(path));
    text.map(|text| Manifest::parse(&text)).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))
}

fn of_crate(manifest: &Manifest) -> Vec<FeatureSet> {
    let features = manifest.features();
    let names: Vec<String> = features.keys().filter(|name| *name != "default").cloned().collect();
    let default = features.get("default").cloned().unwrap_or_default();
    let mut candidates = vec![Vec::new(), default];
    candidates.extend(names.iter().map(|name| vec![name.clone()]));
    candidates.push(names.clone());

    let everything = closure(&names, &features);
    let mut seen = BTreeSet::new();
    let package = manifest.package().unwrap_or_default();
    let once = manifest.strings("package.metadata.goose", "once");
    candidates
        .into_iter()
        .filter_map(|named| {
            let on = closure(&named, &features);
            let is_all = on == everything;
            seen.insert(on).then(|| FeatureSet {
                package: package.to_owned(),
                features: named,
                is_all,
                once: once.clone(),
            })
        })
        .collect()
}

/// All features of the crate that are on when these are named.
fn closure(named: &[String], features: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut on = BTreeSet::new();
    let mut open: Vec<&String> = named.iter().collect();
    while let Some(name) = open.pop() {
        if let Some(implied) = features.get(name)
            && on.insert(name.clone())
        {
            open.extend(implied);
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(features: &str) -> Vec<(Vec<String>, bool)> {
        let manifest = Manifest::parse(&format!("[package]\nname = \"x\"\n[features]\n{features}"));
        of_crate(&manifest).into_iter().map(|set| (set.features, set.is_all)).collect()
    }

    #[test]
    fn no_set_is_built_twice() {
        assert_eq!(sets(""), [(vec![], true)]);
        assert_eq!(sets("default = []\ncodec = []"), [(vec![], false), (vec!["codec".to_owned()], true)]);
        assert_eq!(sets("default = [\"memory\"]\nmemory = []"), [(vec![], false), (vec!["memory".to_owned()], true)]);
    }

    #[test]
    fn each_alone_and_all_together() {
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let expected =
            [(vec![], false), (vec![a.clone()], false), (vec![b.clone()], false), (vec![a.clone(), b.clone()], true)];
        assert_eq!(sets("a = []\nb = []"), expected);
        assert_eq!(sets("a = []\nb = [\"a\"]"), [(vec![], false), (vec![a], false), (vec![b], true)]);
    }

    #[test]
    fn a_set_beside_the_whole_leaves_out_what_features_do_not_change() {
        let manifest = "[package]\nname = \"x\"\n[features]\na = []\n\
            [package.metadata.goose]\n# why\nonce = [\"link::tests::\", \"slow\"]";
        let calls = of_crate(&Manifest::parse(manifest))[0].tests().map(|call| call.shown());
        let expected = [
            "cargo test --package x --no-default-features --no-fail-fast --lib --bins --examples -- \
             --skip link::tests:: --skip slow",
            "cargo test --package x --no-default-features --no-fail-fast --doc",
        ];
        assert_eq!(calls, expected);
    }

    #[test]
    fn every_member_has_a_full_set() {
        let sets = of_workspace().unwrap();
        for package in ["goose-core", "goose-worker", "xtask"] {
            assert!(sets.iter().any(|set| set.package == package && set.is_all), "{package}: {sets:?}");
        }
    }
}
