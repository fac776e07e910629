//! Rule: the crates of Goose depend on each other in one direction only.

use super::repository::Member;
use super::{Offence, Repository, Rule};
use crate::manifest::{Dependency, Kind};

pub(super) const RULE: Rule = Rule {
    name: "crate graph",
    reason: "who enqueues must not build a worker, who uses one broker must not build another, and tests stay out of what users ship",
    check: |repository| Ok(check(repository)),
};

/// Brokers know the core and nothing else of the family.
const BROKERS: [&str; 3] = ["goose-sqlite", "goose-redis", "goose-rmq"];

/// What users depend on, each with what it may depend on. Brokers are allowed on top where the last column says so.
const LAYERS: [(&str, &[&str], Brokers); 8] = [
    ("goose-core", &[], Brokers::Never),
    ("goose-sqlite", &["goose-core"], Brokers::Never),
    ("goose-redis", &["goose-core"], Brokers::Never),
    ("goose-rmq", &["goose-core"], Brokers::Never),
    ("goose-client", &["goose-core"], Brokers::Optional),
    ("goose-worker", &["goose-core", "goose-client"], Brokers::Optional),
    ("goose-api", &["goose-core"], Brokers::Never),
    ("goose-metrics", &["goose-core"], Brokers::Never),
];

/// Crates for tests, which may see the layers but which no layer may see.
const FOR_TESTS: [&str; 5] = ["goose-testkit", "goose-tests", "goose-services", "goose-bench", "xtask"];

/// Those that nobody but us ever builds: they may depend on everything.
const NEVER_PUBLISHED: [&str; 3] = ["goose-tests", "goose-services", "goose-bench"];

/// Third-party crates that have no business in what users build.
const THIRD_PARTY_FOR_TESTS: [&str; 8] =
    ["indicatif", "insta", "libtest-mimic", "proptest", "sha2", "tempfile", "tracing-subscriber", "trybuild"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Brokers {
    Never,
    /// Behind a feature, so that nobody builds a broker that is not used.
    Optional,
}

fn check(repository: &Repository) -> Vec<Offence> {
    let members = repository.members();
    let names: Vec<&str> = members.iter().map(Member::name).collect();
    let mut offences = Vec::new();
    for member in &members {
        let dependencies = member.manifest.dependencies();
        let problems = dependencies.iter().filter_map(|dependency| problem(member.name(), dependency, &names));
        offences.extend(problems.map(|message| Offence::new(&member.path, 0, message)));
    }
    offences
}

/// What is wrong with a dependency, if anything.
fn problem(from: &str, dependency: &Dependency, members: &[&str]) -> Option<String> {
    let to = dependency.name.as_str();
    let is_ours = members.contains(&to) || to.starts_with("goose-");
    if from == "xtask" {
        return Some(format!(
            "xtask depends on {to}; whoever runs the first command waits for it, so it depends on nothing"
        ));
    }
    if NEVER_PUBLISHED.contains(&from) || dependency.kind != Kind::Normal {
        return None;
    }
    if FOR_TESTS.contains(&to) || (THIRD_PARTY_FOR_TESTS.contains(&to) && !FOR_TESTS.contains(&from)) {
        return Some(format!("{to} is for tests and stands in [dependencies]"));
    }
    if !is_ours {
        return None;
    }
    if from == "goose-testkit" {
        let needed = !BROKERS.contains(&to) || dependency.optional;
        return (!needed).then(|| format!("goose-testkit depends on the broker {to} without a feature"));
    }
    let Some((_, allowed, brokers)) = LAYERS.iter().find(|(name, ..)| *name == from) else {
        return Some(format!("{from} has no place in the crate graph; add it to LAYERS with a reason"));
    };
    match (BROKERS.contains(&to), brokers) {
        (true, Brokers::Optional) if dependency.optional => None,
        (true, Brokers::Optional) => Some(format!("{from} depends on the broker {to} without a feature")),
        (true, Brokers::Never) => Some(format!("{from} depends on the broker {to}")),
        (false, _) if allowed.contains(&to) => None,
        (false, _) => Some(format!("{from} must not depend on {to}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offences(package: &str, dependencies: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{package}\"\n{dependencies}");
        let repository =
            Repository::sample(&[("Cargo.toml", "[workspace]\nmembers = [\"x\"]"), ("x/Cargo.toml", &manifest)]);
        check(&repository).into_iter().map(|offence| offence.message).collect()
    }

    #[test]
    fn the_allowed_graph_passes() {
        let worker = "[dependencies]\ngoose-core.workspace = true\ngoose-client.workspace = true\n\
            goose-sqlite = { workspace = true, optional = true }\n[dev-dependencies]\ngoose-testkit.workspace = true";
        assert_eq!(offences("goose-worker", worker), [""; 0]);
        for package in NEVER_PUBLISHED {
            assert_eq!(offences(package, "[dependencies]\ngoose-redis.workspace = true\ntempfile = \"3\""), [""; 0]);
        }
    }

    #[test]
    fn each_forbidden_arrow_is_found() {
        for (package, dependency, message) in [
            ("goose-core", "goose-client.workspace = true", "goose-core must not depend on goose-client"),
            ("goose-redis", "goose-sqlite.workspace = true", "goose-redis depends on the broker goose-sqlite"),
            ("goose-client", "goose-worker.workspace = true", "goose-client must not depend on goose-worker"),
            (
                "goose-client",
                "goose-sqlite.workspace = true",
                "goose-client depends on the broker goose-sqlite without a feature",
            ),
            (
                "goose-worker",
                "goose-testkit.workspace = true",
                "goose-testkit is for tests and stands in [dependencies]",
            ),
            ("goose-sqlite", "tempfile.workspace = true", "tempfile is for tests and stands in [dependencies]"),
            (
                "goose-redis",
                "goose-services.workspace = true",
                "goose-services is for tests and stands in [dependencies]",
            ),
            ("goose-worker", "goose-bench.workspace = true", "goose-bench is for tests and stands in [dependencies]"),
            (
                "goose-console",
                "goose-core.workspace = true",
                "goose-console has no place in the crate graph; add it to LAYERS with a reason",
            ),
        ] {
            assert_eq!(offences(package, &format!("[dependencies]\n{dependency}")), [message]);
        }
        assert!(offences("xtask", "[dependencies]\nserde = \"1\"")[0].starts_with("xtask depends on serde"));
    }
}
