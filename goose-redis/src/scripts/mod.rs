//! The scripts: one file each, whose header says what keys and values it takes and what it returns.
//!
//! Rules they all keep: types are checked and everything is read before the first write, since a script is not
//! rolled back; the first write decides what happens on a full server (refused for enqueues, allowed for everything a
//! worker does); no call unpacks more than a thousand values; envelopes are opaque; every key comes in `KEYS`.

use crate::connection::{Repeat, Script};

/// The most jobs of one script call.
pub(crate) const CHUNK: usize = 300;

pub(crate) static ENQUEUE: Script = Script::new("enqueue", include_str!("enqueue.lua"), Repeat::Never);
/// A fetch whose answer was lost has claimed jobs all the same; the session looks for them, see `reconcile`.
pub(crate) static FETCH: Script = Script::new("fetch", include_str!("fetch.lua"), Repeat::Never);
pub(crate) static SETTLE: Script = Script::new("settle", include_str!("settle.lua"), Repeat::Never);
pub(crate) static SERVE: Script = Script::new("serve", include_str!("serve.lua"), Repeat::Always);
pub(crate) static OPEN: Script = Script::new("open", include_str!("open.lua"), Repeat::Always);
pub(crate) static BEAT: Script = Script::new("beat", include_str!("beat.lua"), Repeat::Always);
pub(crate) static RECOVER: Script = Script::new("recover", include_str!("recover.lua"), Repeat::Always);
pub(crate) static STOP: Script = Script::new("stop", include_str!("stop.lua"), Repeat::Always);
pub(crate) static ONE_READY: Script = Script::new("one_ready", include_str!("one_ready.lua"), Repeat::Never);
/// Twice is once: the earlier entry of the same search goes with the first claim as well.
pub(crate) static SEEK: Script = Script::new("seek", include_str!("seek.lua"), Repeat::Always);
pub(crate) static HOLDERS: Script = Script::new("holders", include_str!("holders.lua"), Repeat::Always);
pub(crate) static ONE_SCHEDULED: Script =
    Script::new("one_scheduled", include_str!("one_scheduled.lua"), Repeat::Never);
pub(crate) static ONE_DEAD: Script = Script::new("one_dead", include_str!("one_dead.lua"), Repeat::Never);
pub(crate) static READY_PAGE: Script = Script::new("ready_page", include_str!("ready_page.lua"), Repeat::Always);
pub(crate) static TIMED_PAGE: Script = Script::new("timed_page", include_str!("timed_page.lua"), Repeat::Always);
pub(crate) static PURGE: Script = Script::new("purge", include_str!("purge.lua"), Repeat::Never);
/// Not twice: the answer says whether it changed anything.
pub(crate) static PAUSE: Script = Script::new("pause", include_str!("pause.lua"), Repeat::Never);
pub(crate) static COUNTS: Script = Script::new("counts", include_str!("counts.lua"), Repeat::Always);
pub(crate) static QUEUES: Script = Script::new("queues", include_str!("queues.lua"), Repeat::Always);
pub(crate) static CONSISTENCY: Script = Script::new("consistency", include_str!("consistency.lua"), Repeat::Always);
pub(crate) static LATE: Script = Script::new("late", include_str!("late.lua"), Repeat::Always);

/// All of them, loaded when a connection is made.
pub(crate) static ALL: &[&Script] = &[
    &ENQUEUE,
    &FETCH,
    &SETTLE,
    &SERVE,
    &OPEN,
    &BEAT,
    &RECOVER,
    &STOP,
    &ONE_READY,
    &SEEK,
    &HOLDERS,
    &ONE_SCHEDULED,
    &ONE_DEAD,
    &READY_PAGE,
    &TIMED_PAGE,
    &PURGE,
    &PAUSE,
    &COUNTS,
    &QUEUES,
    &LATE,
    &CONSISTENCY,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a script calls, by its name in small letters.
    fn commands(source: &str) -> impl Iterator<Item = String> + '_ {
        // With `call(`, `redis.call(` and `redis.pcall(`.
        let parts = source.split("call(").skip(1);
        parts
            .map(|part| part.strip_prefix('\'').and_then(|rest| rest.split('\'').next()).unwrap_or(part).to_lowercase())
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// A user who was given what the page lists must not meet a script that needs more, however seldom it runs.
    #[test]
    fn every_command_of_every_script_is_among_the_documented_rights() {
        let page = read("docs/brokers/redis.md");
        let rights = page.split("```text\nACL SETUSER").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let on_the_page: BTreeSet<&str> = rights.split_whitespace().filter_map(|word| word.strip_prefix('+')).collect();
        let scenario = read("tests/tests/faults_redis/rights.rs");
        let list = scenario.split("RIGHTS: &str = \"").nth(1).and_then(|rest| rest.split("\";").next()).unwrap();
        let in_the_scenario: BTreeSet<&str> =
            list.split_whitespace().filter_map(|word| word.strip_prefix('+')).collect();
        assert_eq!(on_the_page, in_the_scenario);
        for script in ALL {
            for command in commands(script.source) {
                assert!(on_the_page.contains(command.as_str()), "`{}` calls {command}", script.name);
            }
        }
        assert_eq!(commands("local call = redis.call call('HSET', K) redis.pcall('LPOP', K)").count(), 2);
    }

    /// What is not in this list is never loaded, and its first call pays for that.
    #[test]
    fn all_scripts_are_loaded_when_a_connection_is_made() {
        let files = std::fs::read_dir(format!("{}/src/scripts", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let names = files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".lua")?.to_owned()));
        let names: BTreeSet<String> = names.collect();
        assert_eq!(names, ALL.iter().map(|script| script.name.to_owned()).collect());
    }
}
