//! The command line.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use goose_rmq::QueueType;

use crate::Result;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
How fast a broker is, through client and worker as users have them, beside a raw probe in the same run.

usage: goose-bench [--broker NAME] [options]

  --broker NAME    sqlite, redis, rmq (classic queues), rmq-quorum, or rmq-journal (classic queues with a
                   journal); sqlite by default
  --url URL        a server that is there already; by default one is started and ended with the run
  --jobs N         jobs per figure, 1000 or more; 200000 by default
  --rounds N       how often each figure is taken; the median counts; 3 by default
  --only TEXT      only scenarios whose name contains this
  --bare           the probe takes the bare steps of a job: no lease, no fence, no counters
  --alone          without the probe, for a profiler
  --cpu            also the processor time per job: of this process and of the server
  --scale          instead: what a million jobs, ten thousand workers and a million due jobs cost
  --ten-million    with --scale: a backlog of ten million
  --json           one object a line: broker, scenario, in_flight, value, unit, raw, ratio
  --help           this

GOOSE_REDIS_SERVER=COMMAND names the server to start instead of redis-server,
GOOSE_RABBITMQ_SERVER=COMMAND that instead of rabbitmq-server.";

/// The brokers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Sqlite,
    Redis,
    Rmq(QueueType, Journal),
}

/// Whether waiting jobs can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    No,
    Kept,
}

const NAMES: [(Which, &str); 5] = [
    (Which::Sqlite, "sqlite"),
    (Which::Redis, "redis"),
    (Which::Rmq(QueueType::Classic, Journal::No), "rmq"),
    (Which::Rmq(QueueType::Quorum, Journal::No), "rmq-quorum"),
    (Which::Rmq(QueueType::Classic, Journal::Kept), "rmq-journal"),
];

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(which, _)| which == self).map_or("?", |(_, name)| name))
    }
}

impl FromStr for Which {
    type Err = goose_core::BoxError;

    fn from_str(text: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(_, name)| *name == text).map(|(which, _)| *which);
        let names = NAMES.map(|(_, name)| name).join(", ");
        Ok(known.ok_or_else(|| format!("no broker {text:?}; there is {names}"))?)
    }
}

/// What to measure, and how to say it.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) broker: Which,
    pub(crate) url: Option<String>,
    pub(crate) json: bool,
    pub(crate) jobs: u32,
    pub(crate) rounds: NonZeroU32,
    pub(crate) only: Option<String>,
    pub(crate) bare: bool,
    pub(crate) alone: bool,
    pub(crate) cpu: bool,
    pub(crate) scale: bool,
    pub(crate) ten_million: bool,
}

impl Options {
    /// `None` when only help was asked for.
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            broker: Which::Sqlite,
            url: None,
            json: false,
            jobs: 200_000,
            rounds: NonZeroU32::MIN.saturating_add(2),
            only: None,
            bare: false,
            alone: false,
            cpu: false,
            scale: false,
            ten_million: false,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--help" | "-h" => return Ok(None),
                "--broker" => options.broker = value()?.parse()?,
                "--url" => options.url = Some(value()?),
                "--jobs" => options.jobs = number(&flag, &value()?)?,
                "--rounds" => options.rounds = number(&flag, &value()?)?,
                "--only" => options.only = Some(value()?),
                "--bare" => options.bare = true,
                "--alone" => options.alone = true,
                "--cpu" => options.cpu = true,
                "--scale" => options.scale = true,
                "--ten-million" => options.ten_million = true,
                "--json" => options.json = true,
                _ => return Err(format!("unknown flag {flag}; --help lists what there is").into()),
            }
        }
        if options.jobs < 1000 {
            return Err(format!("--jobs {} is too few to measure, give 1000 or more", options.jobs).into());
        }
        if options.url.is_some() && options.broker == Which::Sqlite {
            return Err("--url goes with a broker that has a server; sqlite needs none".into());
        }
        if options.scale && options.broker != Which::Redis {
            return Err(format!("--scale goes with --broker redis, not with {}", options.broker).into());
        }
        if options.scale && options.url.is_some() {
            return Err("--scale fills a server and empties it, so it starts its own; leave out --url".into());
        }
        if options.ten_million && !options.scale {
            return Err("--ten-million goes with --scale".into());
        }
        Ok(Some(options))
    }
}

fn number<T: FromStr>(flag: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("{flag} needs a number greater than zero, not {text:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::from_args(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read() {
        let options = parse("--broker redis --jobs 5000 --rounds 7 --json --cpu --only drain").unwrap().unwrap();
        assert_eq!((options.broker, options.jobs, options.rounds.get()), (Which::Redis, 5000, 7));
        assert!(options.json && options.cpu && !options.scale);
        assert_eq!(options.only.as_deref(), Some("drain"));
        assert!(parse("--broker rmq --help").unwrap().is_none());
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (line, message) in [
            ("--broker rabbit", "no broker \"rabbit\"; there is sqlite, redis, rmq, rmq-quorum, rmq-journal"),
            ("--jobs", "--jobs needs a value"),
            ("--jobs 0x", "--jobs needs a number greater than zero, not \"0x\""),
            ("--jobs 10", "--jobs 10 is too few to measure, give 1000 or more"),
            ("--rounds 0", "--rounds needs a number greater than zero, not \"0\""),
            ("--scale", "--scale goes with --broker redis, not with sqlite"),
            (
                "--broker redis --scale --url redis://x",
                "--scale fills a server and empties it, so it starts its own; leave out --url",
            ),
            ("--ten-million", "--ten-million goes with --scale"),
            ("--url redis://x", "--url goes with a broker that has a server; sqlite needs none"),
            ("--fast", "unknown flag --fast; --help lists what there is"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), message);
        }
    }
}
