//! All commands and flags, declared once: what is parsed here is what `cargo xtask` prints as help.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use crate::{Failure, Result};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help(String),
    /// Arguments for the example program, unchanged.
    Quickstart(Vec<OsString>),
    Test,
    Ci,
    Tidy,
    /// Arguments for the program that starts servers, unchanged.
    Services(Vec<OsString>),
    /// Arguments for the benchmark, unchanged.
    Bench(Vec<OsString>),
    /// Arguments for the chaos driver, unchanged.
    Chaos(Vec<OsString>),
    Capabilities {
        check: bool,
    },
}

struct Command {
    name: &'static str,
    /// The positional arguments, as shown.
    takes: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    /// Who decides about flags that are not listed here.
    others: Others,
    build: fn(Given) -> Task,
}

#[derive(PartialEq, Eq)]
enum Others {
    /// There are none.
    Refused,
    /// The program that gets them.
    PassedOn,
}

struct Flag {
    name: &'static str,
    /// What its value is, for flags that have one.
    value: Option<&'static str>,
    about: &'static str,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "quickstart",
        takes: "[DIR]",
        about: "Count the words of every file in DIR (default: this repository) with jobs in two processes",
        flags: &[
            Flag { name: "--crash", value: None, about: "kill the worker half-way and let a second one take over" },
            Flag { name: "--db", value: Some("PATH"), about: "keep the jobs in this file (default: a temporary one)" },
            Flag { name: "--broker", value: Some("NAME"), about: "sqlite, the default, redis or rmq" },
            Flag {
                name: "--url",
                value: Some("URL"),
                about: "keep the jobs on this server, in keys or queues that begin with goose-quickstart; implies the broker (default: a server for this run)",
            },
        ],
        others: Others::Refused,
        build: |given| Task::Quickstart(given.all),
    },
    Command {
        name: "test",
        takes: "",
        about: "Run every test there is, of every crate and feature set",
        flags: &[],
        others: Others::Refused,
        build: |_| Task::Test,
    },
    Command {
        name: "ci",
        takes: "",
        about: "Format, tidy, lints, documentation, tests, capabilities: all that must hold before a change goes in",
        flags: &[],
        others: Others::Refused,
        build: |_| Task::Ci,
    },
    Command {
        name: "tidy",
        takes: "",
        about: "Check the house rules that no compiler checks",
        flags: &[],
        others: Others::Refused,
        build: |_| Task::Tidy,
    },
    Command {
        name: "services",
        takes: "",
        about: "Start servers for hand use and say where they are: without a flag all kinds of Redis, and a RabbitMQ",
        flags: &[
            Flag { name: "--broker", value: Some("NAME"), about: "only those of redis, or of rmq" },
            Flag { name: "--standalone", value: None, about: "one durable server" },
            Flag { name: "--cluster", value: None, about: "three primaries with replicas; of RabbitMQ three nodes" },
            Flag { name: "--sentinel", value: None, about: "a primary and a replica, watched by three Sentinels" },
        ],
        others: Others::Refused,
        build: |given| Task::Services(given.all),
    },
    Command {
        name: "bench",
        takes: "",
        about: "Measure how fast a broker is, through client and worker as users have them",
        flags: &[
            Flag {
                name: "--broker",
                value: Some("NAME"),
                about: "sqlite, the default, redis, rmq, rmq-quorum or rmq-journal",
            },
            Flag { name: "--url", value: Some("URL"), about: "a server to use (default: one for this run)" },
            Flag { name: "--jobs", value: Some("N"), about: "how many jobs in each scenario" },
            Flag { name: "--json", value: None, about: "one object a line instead of a table" },
            Flag { name: "--scale", value: None, about: "how much a job costs while very many others wait" },
            Flag { name: "--ten-million", value: None, about: "with --scale: up to ten million, instead of one" },
        ],
        others: Others::PassedOn,
        build: |given| Task::Bench(given.all),
    },
    Command {
        name: "chaos",
        takes: "",
        about: "Run many jobs under injected faults and prove that none is lost",
        flags: &[
            Flag {
                name: "--broker",
                value: Some("NAME"),
                about: "the broker to torment: sqlite, the default, redis or rmq",
            },
            Flag {
                name: "--topology",
                value: Some("NAME"),
                about: "what the servers are: standalone, the default, cluster, or sentinel of Redis",
            },
            Flag {
                name: "--queue-type",
                value: Some("NAME"),
                about: "what queues RabbitMQ has: classic, the default, or quorum",
            },
            Flag { name: "--long", value: None, about: "then the fault scenarios of Redis, in their long form" },
            Flag { name: "--jobs", value: Some("N"), about: "how many jobs to enqueue (default: 20000)" },
            Flag { name: "--seed", value: Some("N"), about: "what decides which faults come when (default: 1)" },
            Flag { name: "--faults", value: Some("N"), about: "how many faults (default: 6)" },
            Flag { name: "--workers", value: Some("N"), about: "how many worker processes (default: 2)" },
            Flag { name: "--concurrency", value: Some("N"), about: "jobs at once in each (default: 25)" },
            Flag { name: "--lease-ms", value: Some("N"), about: "the lease of the workers (default: 2000)" },
            Flag { name: "--deadline-s", value: Some("N"), about: "the limit for the whole run (default: 240)" },
        ],
        others: Others::Refused,
        build: |given| Task::Chaos(given.all),
    },
    Command {
        name: "capabilities",
        takes: "",
        about: "Write CAPABILITIES.md from the code of the brokers",
        flags: &[Flag { name: "--check", value: None, about: "write nothing, fail if the file is out of date" }],
        others: Others::Refused,
        build: |given| Task::Capabilities { check: given.has("--check") },
    },
];

/// What was given to a command, after it was found to fit the declaration.
struct Given {
    all: Vec<OsString>,
}

impl Given {
    fn has(&self, flag: &str) -> bool {
        self.all.iter().any(|given| given == flag)
    }
}

/// The value of a flag among the arguments of a command.
pub(crate) fn value_of<'a>(flag: &str, arguments: &'a [OsString]) -> Option<&'a OsStr> {
    let at = arguments.iter().position(|argument| argument == flag)?;
    arguments.get(at + 1).map(OsString::as_os_str)
}

/// Reads the arguments that follow `cargo xtask`.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Task> {
    let mut arguments = arguments.into_iter();
    let Some(name) = arguments.next().filter(|name| name != "help" && !is_help(name)) else {
        return Ok(Task::Help(overview()));
    };
    let Some(command) = COMMANDS.iter().find(|command| name == command.name) else {
        return Err(Failure::usage(format!("there is no command {name:?}\n\n{}", overview())));
    };
    let all: Vec<OsString> = arguments.collect();
    if all.iter().any(|argument| is_help(argument)) {
        return Ok(Task::Help(details(command)));
    }
    command.check(&all)?;
    Ok((command.build)(Given { all }))
}

fn is_help(argument: &OsStr) -> bool {
    argument == "--help" || argument == "-h"
}

impl Command {
    /// Whether the arguments fit the declaration: known flags, values where they belong, no surplus.
    fn check(&self, arguments: &[OsString]) -> Result<()> {
        let wrong = |what: String| Err(Failure::usage(format!("{what}\n\n{}", details(self))));
        let mut positional = usize::from(!self.takes.is_empty());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let flag = self.flags.iter().find(|flag| argument == flag.name);
            if self.others == Others::PassedOn && flag.is_none() {
                // Whatever follows it may be its value.
                return Ok(());
            }
            if !argument.as_encoded_bytes().starts_with(b"-") {
                if positional == 0 {
                    return wrong(format!("{} takes no further argument {argument:?}", self.name));
                }
                positional -= 1;
                continue;
            }
            let Some(flag) = flag else {
                return wrong(format!("{} has no flag {argument:?}", self.name));
            };
            if let Some(value) = flag.value
                && arguments.next().is_none()
            {
                return wrong(format!("{} needs a value: {} {value}", flag.name, flag.name));
            }
        }
        Ok(())
    }
}

/// The help for all commands.
fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND\n\n");
    for command in COMMANDS {
        let head = format!("{} {}", command.name, command.takes);
        _ = writeln!(text, "  {head:<20} {}", command.about);
    }
    text.push_str("\ncargo xtask COMMAND --help shows the flags of a command.\n");
    text
}

/// The help for one command.
fn details(command: &Command) -> String {
    let mut text = format!("{}\n\nUsage: cargo xtask {}", command.about, command.name);
    for flag in command.flags {
        _ = write!(text, " [{}]", flag.shown());
    }
    text = format!("{text} {}", command.takes).trim_end().to_owned();
    text.push('\n');
    if !command.flags.is_empty() {
        text.push('\n');
    }
    for flag in command.flags {
        _ = writeln!(text, "  {:<20} {}", flag.shown(), flag.about);
    }
    text
}

impl Flag {
    fn shown(&self) -> String {
        self.value.map_or_else(|| self.name.to_owned(), |value| format!("{} {value}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Task> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn no_command_and_help_list_every_command() {
        for line in ["", "help", "--help", "-h"] {
            let Task::Help(text) = parse_words(line).unwrap() else { panic!("{line:?} is not help") };
            for command in COMMANDS {
                assert!(text.contains(command.about), "{} is missing", command.name);
            }
        }
    }

    #[test]
    fn each_command_explains_each_flag() {
        for command in COMMANDS {
            let Task::Help(text) = parse_words(&format!("{} --help", command.name)).unwrap() else { panic!() };
            assert!(command.flags.iter().all(|flag| text.contains(flag.about)), "{text}");
        }
    }

    #[test]
    fn arguments_reach_their_command() {
        assert_eq!(parse_words("capabilities").unwrap(), Task::Capabilities { check: false });
        assert_eq!(parse_words("capabilities --check").unwrap(), Task::Capabilities { check: true });
        let given = ["--scale", "--new", "7", "--jobs", "9"].map(OsString::from).to_vec();
        assert_eq!(value_of("--jobs", &given), Some(OsStr::new("9")));
        assert_eq!((value_of("--url", &given), value_of("9", &given)), (None, None));
        assert_eq!(parse_words("bench --scale --new 7 --jobs 9").unwrap(), Task::Bench(given));
        let given = ["--crash", "src", "--db", "x.db"].map(OsString::from).to_vec();
        assert_eq!(parse_words("quickstart --crash src --db x.db").unwrap(), Task::Quickstart(given));
    }

    #[test]
    fn misuse_is_told_and_is_not_a_failure_of_the_task() {
        for (line, message) in [
            ("quick", "there is no command \"quick\""),
            ("tidy now", "tidy takes no further argument \"now\""),
            ("quickstart a b", "quickstart takes no further argument \"b\""),
            ("quickstart --db", "--db needs a value: --db PATH"),
            ("bench --url", "--url needs a value: --url URL"),
            ("ci --fast", "ci has no flag \"--fast\""),
        ] {
            let failure = parse_words(line).unwrap_err();
            assert!(failure.to_string().starts_with(message), "{failure}");
            assert_eq!(format!("{:?}", failure.exit_code()), format!("{:?}", std::process::ExitCode::from(2)));
        }
    }
}
