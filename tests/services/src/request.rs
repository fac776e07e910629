//! What the program `services` is asked to do.

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    Redis,
    Rmq,
}

/// How many servers, and how they work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standalone,
    Cluster,
    Sentinel,
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Servers for hand use.
    Serve(Vec<(Broker, Kind)>),
    /// A server for as long as a command runs.
    Run(Broker, Vec<String>),
}

const ALL_KINDS: &[(&str, Kind)] =
    &[("--standalone", Kind::Standalone), ("--cluster", Kind::Cluster), ("--sentinel", Kind::Sentinel)];

const NO_NAME: &str = "--broker needs a name: redis or rmq";

impl Broker {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "redis" => Ok(Self::Redis),
            "rmq" => Ok(Self::Rmq),
            _ => Err(format!("there is no broker {name:?} that has servers; there are redis and rmq")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Rmq => "rmq",
        }
    }

    /// The kinds of it that there are.
    fn kinds(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::Redis => ALL_KINDS,
            Self::Rmq => &ALL_KINDS[..2],
        }
    }

    fn kind(self, flag: &str) -> Result<Kind, String> {
        let kinds = self.kinds();
        let found = kinds.iter().find(|(name, _)| *name == flag);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
            format!("there is no flag {flag} for {}; there are --broker, then {}", self.name(), names.join(", "))
        })
    }
}

impl Request {
    /// The kinds that are named, or all of a broker. Without a broker it is Redis; without anything it is all of Redis and
    /// one RabbitMQ.
    pub(crate) fn read(arguments: &[String]) -> Result<Self, String> {
        if let [first, rest @ ..] = arguments
            && first == "run"
        {
            return Self::read_run(rest);
        }
        let mut rest = arguments.to_vec();
        let mut broker = Broker::Redis;
        if let Some(at) = rest.iter().position(|flag| flag == "--broker") {
            rest.remove(at);
            if at == rest.len() {
                return Err(NO_NAME.to_owned());
            }
            broker = Broker::named(&rest.remove(at))?;
        }
        let mut kinds = rest.iter().map(|flag| broker.kind(flag)).collect::<Result<Vec<_>, _>>()?;
        if kinds.is_empty() {
            kinds = broker.kinds().iter().map(|(_, kind)| *kind).collect();
        }
        let mut wanted: Vec<_> = kinds.into_iter().map(|kind| (broker, kind)).collect();
        if arguments.is_empty() {
            wanted.push((Broker::Rmq, Kind::Standalone));
        }
        Ok(Self::Serve(wanted))
    }

    /// What follows `run`. The flags of the command are none for us.
    fn read_run(arguments: &[String]) -> Result<Self, String> {
        let (broker, command) = match arguments {
            [flag] if flag == "--broker" => return Err(NO_NAME.to_owned()),
            [flag, name, command @ ..] if flag == "--broker" => (Broker::named(name)?, command),
            _ => (Broker::Redis, arguments),
        };
        match command {
            [] => Err("run needs a command".to_owned()),
            _ => Ok(Self::Run(broker, command.to_vec())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
mod tests {
    use super::*;
    use Broker::{Redis, Rmq};
    use Kind::{Cluster, Sentinel, Standalone};

    fn read(line: &str) -> Result<Request, String> {
        Request::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_are_those_that_are_named_or_all_of_a_broker() {
        for (line, expected) in [
            ("", vec![(Redis, Standalone), (Redis, Cluster), (Redis, Sentinel), (Rmq, Standalone)]),
            ("--cluster", vec![(Redis, Cluster)]),
            ("--broker redis", vec![(Redis, Standalone), (Redis, Cluster), (Redis, Sentinel)]),
            ("--broker rmq", vec![(Rmq, Standalone), (Rmq, Cluster)]),
            ("--cluster --broker rmq", vec![(Rmq, Cluster)]),
        ] {
            assert_eq!(read(line), Ok(Request::Serve(expected)), "{line}");
        }
    }

    #[test]
    fn a_command_runs_with_a_server_of_a_broker() {
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(read("run ls --broker"), Ok(Request::Run(Redis, command(&["ls", "--broker"]))));
        assert_eq!(read("run --broker rmq ls"), Ok(Request::Run(Rmq, command(&["ls"]))));
    }

    #[test]
    fn misuse_is_told() {
        for (line, message) in [
            ("--broker", "--broker needs a name: redis or rmq"),
            ("--broker sqlite", "there is no broker \"sqlite\" that has servers; there are redis and rmq"),
            (
                "--broker rmq --sentinel",
                "there is no flag --sentinel for rmq; there are --broker, then --standalone, --cluster",
            ),
            ("run", "run needs a command"),
            ("run --broker rmq", "run needs a command"),
        ] {
            assert_eq!(read(line), Err(message.to_owned()), "{line}");
        }
    }
}
