//! What a failure means for the call that met it: was it executed, may it be sent again, what is to be done.
//!
//! The server's errors are read by the codes they *contain*: Redis 6.2 wraps an error met inside a script in words of
//! its own ("ERR Error running script (call to f_…): @user_script:5: -OOM command not allowed …").

use std::fmt;
use std::sync::Arc;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use goose_core::{Error, ErrorKind};

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not executed, and sending it again is no use.
    Refused,
    /// Not executed; it may be later.
    NotNow,
    /// Not executed, and this connection is the wrong one: make a new one.
    Reconnect,
    /// Not executed, because the server does not have the script any more.
    NoScript,
    /// A wait was ended by the server; it took nothing.
    Unblocked,
    /// Nobody knows whether it was executed.
    Lost,
}

/// A failure, cheap to clone because one may answer many callers.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) verdict: Verdict,
    pub(super) kind: ErrorKind,
    advice: &'static str,
    cause: Arc<str>,
}

/// One code or phrase of the server: what contains it, and what it means.
type Meaning = (&'static str, Verdict, ErrorKind, &'static str);

const RIGHTS: &str = "the server denies this user a right; grant what docs/brokers/redis.md lists";
const REPLICA: &str = "the server is a read-only replica; connect to the primary, or wait for the failover to end";
const CLUSTER_URL: &str = "the server is part of a cluster; use a redis-cluster:// url";
const NO_SENTINEL: &str =
    "the server is no sentinel; use a redis:// url for it, or give the port of a sentinel, 26379 as a rule";
const REPLACED: &str = "the connection was given up for another";
const CHECK: &str = "check that the server runs and that host and port are right";
const NO_TIME: &str = "no time was left";
const BUG: &str = "the server refused the call; this is a bug, please report it";

/// Codes: words that stand alone.
const CODES: &[Meaning] = &[
    ("NOSCRIPT", Verdict::NoScript, ErrorKind::Unavailable, "the server keeps forgetting the script"),
    ("UNBLOCKED", Verdict::Unblocked, ErrorKind::Unavailable, "the server ended the wait"),
    ("READONLY", Verdict::Reconnect, ErrorKind::Unavailable, REPLICA),
    ("MASTERDOWN", Verdict::Reconnect, ErrorKind::Unavailable, REPLICA),
    // Making a new connection tells whether the password was changed.
    ("NOAUTH", Verdict::Reconnect, ErrorKind::PermissionDenied, "the server asks for a password; give one"),
    ("LOADING", Verdict::NotNow, ErrorKind::Unavailable, "the server is still loading its data"),
    ("BUSY", Verdict::NotNow, ErrorKind::Unavailable, "the server is held up by a long script"),
    ("TRYAGAIN", Verdict::NotNow, ErrorKind::Unavailable, "the cluster is moving these keys"),
    ("CLUSTERDOWN", Verdict::NotNow, ErrorKind::Unavailable, "the cluster is down or failing over"),
    ("NOREPLICAS", Verdict::NotNow, ErrorKind::Unavailable, "too few replicas are in sync (min-replicas-to-write)"),
    ("OOM", Verdict::Refused, ErrorKind::Full, "the server's memory is full; free some or raise maxmemory"),
    (
        "MISCONF",
        Verdict::Refused,
        ErrorKind::Unavailable,
        "the server cannot save its data and refuses writes; check its disk",
    ),
    ("WRONGPASS", Verdict::Refused, ErrorKind::PermissionDenied, "the server refuses the user name or the password"),
    ("NOPERM", Verdict::Refused, ErrorKind::PermissionDenied, RIGHTS),
    ("WRONGTYPE", Verdict::Refused, ErrorKind::Corrupt, "a key holds another type; find it with TYPE and move it away"),
    ("MOVED", Verdict::Refused, ErrorKind::Misconfigured, CLUSTER_URL),
    ("ASK", Verdict::Refused, ErrorKind::Misconfigured, CLUSTER_URL),
    ("CROSSSLOT", Verdict::Refused, ErrorKind::Internal, BUG),
];

/// Phrases, for errors that carry no code of their own.
const PHRASES: &[Meaning] = &[
    ("ACL failure in script", Verdict::Refused, ErrorKind::PermissionDenied, RIGHTS),
    ("user executing the script can't", Verdict::Refused, ErrorKind::PermissionDenied, RIGHTS),
    // Redis 6 has the other quotes.
    ("unknown command 'SENTINEL'", Verdict::Refused, ErrorKind::Misconfigured, NO_SENTINEL),
    ("unknown command `SENTINEL`", Verdict::Refused, ErrorKind::Misconfigured, NO_SENTINEL),
    (
        "unknown command",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the server lacks a command; use Redis 6.2 or later, or Valkey with its Lua module",
    ),
    (
        "DB index",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the server has no database of this number; choose a smaller one or raise `databases`",
    ),
    (
        "cluster support disabled",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the server is not part of a cluster; use a redis:// url",
    ),
    (
        "No such master",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the sentinels do not know this service; check sentinelServiceName",
    ),
    (
        "Missing primary address",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the sentinels do not know this service; check sentinelServiceName",
    ),
    (
        "invalid bulk length",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the server does not take values of this length; raise its proto-max-bulk-len",
    ),
    ("max number of clients", Verdict::NotNow, ErrorKind::Unavailable, "the server has too many clients"),
    ("Script killed", Verdict::NotNow, ErrorKind::Unavailable, "somebody killed the script"),
    (
        "ertificate",
        Verdict::Refused,
        ErrorKind::Misconfigured,
        "the server's certificate is not trusted; check the host name, and that its authority is among the root certificates of the system or of the options",
    ),
];

impl Fault {
    fn new(verdict: Verdict, kind: ErrorKind, advice: &'static str, cause: &str) -> Self {
        Self { verdict, kind, advice, cause: in_words(cause).into() }
    }

    /// The server answered with an error: nothing was executed, for scripts write nothing before they checked all.
    pub(super) fn answered(text: &str) -> Self {
        match meaning(text) {
            Some((_, verdict, kind, advice)) => Self::new(*verdict, *kind, advice, text),
            None => Self::new(Verdict::Refused, ErrorKind::Internal, BUG, text),
        }
    }

    /// A call failed before an answer came.
    pub(super) fn unanswered(error: &FredError) -> Self {
        let unsent = |advice| Self::new(Verdict::NotNow, ErrorKind::Unavailable, advice, error.details());
        match (error.kind(), error.details()) {
            // With `max_redirections` at zero this is what MOVED and ASK become, after the table of slots was read again.
            (FredKind::Routing, "Too many redirections.") => unsent("the cluster is moving these keys"),
            // What was still queued when the connection broke; what had been written fails in other ways.
            (FredKind::Canceled, "Canceled.") | (FredKind::Backpressure, _) => unsent("the connection broke"),
            (FredKind::Unknown, "Failed to route command." | "Failed to send command to router.") => {
                unsent("the connection broke")
            }
            (FredKind::Timeout, details) => {
                Self::new(Verdict::Lost, ErrorKind::OutcomeUnknown, "no answer in time", details)
            }
            // Among these is CLUSTERDOWN: fred answers every call in flight with it, also those that were executed.
            (_, details) => {
                Self::new(Verdict::Lost, ErrorKind::OutcomeUnknown, "the connection broke before the answer", details)
            }
        }
    }

    /// A connection could not be made.
    pub(super) fn unconnected(error: &FredError) -> Self {
        let details = error.details();
        if let Some((_, _, kind, advice)) = meaning(details) {
            return Self::new(Verdict::NotNow, *kind, advice, details);
        }
        let (kind, advice) = match error.kind() {
            FredKind::Timeout => (ErrorKind::Unavailable, "the server does not answer"),
            FredKind::Sentinel => (ErrorKind::Unavailable, "no primary is to be had from the sentinels"),
            FredKind::Protocol if details.contains("cluster state") => {
                (ErrorKind::Unavailable, "the cluster is down or failing over")
            }
            // The client crate takes the end of a connection that is being made for an empty answer.
            FredKind::Parse if details == "Could not convert to string." => {
                (ErrorKind::Unavailable, "the connection broke while it was made")
            }
            FredKind::Protocol | FredKind::Parse => (
                ErrorKind::Misconfigured,
                "whoever listens there does not speak the redis protocol; check host and port",
            ),
            FredKind::Config | FredKind::Url => (ErrorKind::Misconfigured, "the settings do not fit the server"),
            _ => (ErrorKind::Unavailable, CHECK),
        };
        Self::new(Verdict::NotNow, kind, advice, details)
    }

    /// There is no connection, and nothing was sent.
    pub(super) fn unavailable(advice: &'static str) -> Self {
        Self::new(Verdict::NotNow, ErrorKind::Unavailable, advice, "")
    }

    /// The connection was given up for another by a decision of ours.
    pub(super) fn replaced() -> Self {
        Self::unavailable(REPLACED)
    }

    /// The same, and why.
    pub(super) fn replaced_because(reason: &str) -> Self {
        Self::new(Verdict::NotNow, ErrorKind::Unavailable, REPLACED, reason)
    }

    /// A connection that was good has broken: there is nothing to be checked in the settings.
    pub(super) fn broken(error: &FredError) -> Self {
        let fault = Self::unconnected(error);
        if fault.advice == CHECK { Self { advice: "the connection broke", ..fault } } else { fault }
    }

    /// The time was up before anything was sent.
    pub(super) fn out_of_time() -> Self {
        Self::unavailable(NO_TIME)
    }

    /// Whether it says nothing of the server: what went wrong before tells more.
    pub(super) fn is_of_our_making(&self) -> bool {
        self.advice == REPLACED || self.advice == NO_TIME
    }

    pub(super) fn closed() -> Self {
        Self::new(Verdict::Refused, ErrorKind::Closed, "the broker is closed", "")
    }

    /// Whether waiting does not help: somebody has to change something.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.kind, ErrorKind::PermissionDenied | ErrorKind::Misconfigured | ErrorKind::Closed)
    }

    /// The same failure, as that of a call of which an earlier sending may have been executed.
    pub(super) fn after_loss(mut self) -> Self {
        if self.kind != ErrorKind::OutcomeUnknown {
            self.kind = ErrorKind::OutcomeUnknown;
            self.advice = "it was sent, and the answer was lost";
        }
        self
    }

    /// The same failure, of something that has no outcome to lose.
    pub(super) fn without_outcome(mut self) -> Self {
        if self.kind == ErrorKind::OutcomeUnknown {
            self.kind = ErrorKind::Unavailable;
        }
        self
    }

    /// The same failure, of something that may be done again whatever became of it.
    pub(super) fn harmless(mut self) -> Self {
        self.verdict = Verdict::NotNow;
        self.without_outcome()
    }

    /// The error of whoever was `doing` ("cannot …") this.
    pub(super) fn into_error(self, doing: impl fmt::Display) -> Error {
        let error = Error::new(self.kind, format!("{doing}: {}", self.advice));
        if self.cause.is_empty() { error } else { error.with_source(self.cause.to_string()) }
    }

    /// One line for a log.
    pub(super) fn summary(&self) -> String {
        if self.cause.is_empty() { self.advice.to_owned() } else { format!("{}: {}", self.advice, self.cause) }
    }
}

/// The client crate tells the errors of the system as a program would write them: `Os { code: 111, kind: … }`, or
/// `Custom { kind: …, error: "…" }`.
fn in_words(cause: &str) -> String {
    let custom = cause.strip_prefix("Custom { ").and_then(|rest| rest.split_once("error: \""));
    if let Some(words) = custom.and_then(|(_, rest)| rest.strip_suffix("\" }")) {
        return words.replace("\\\"", "\"");
    }
    let code = cause.strip_prefix("Os { code: ").and_then(|rest| rest.split(',').next()?.parse().ok());
    code.map_or_else(|| cause.to_owned(), |code| std::io::Error::from_raw_os_error(code).to_string())
}

fn meaning(text: &str) -> Option<&'static Meaning> {
    let code = |word: &str| {
        let word = word.trim_start_matches('-').trim_end_matches(':');
        CODES.iter().find(|(code, ..)| *code == word)
    };
    text.split_whitespace().find_map(code).or_else(|| PHRASES.iter().find(|(phrase, ..)| text.contains(phrase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_scripts_are_read_in_the_form_of_each_server_version() {
        // The first of each pair as 7.0 says it, the second as 6.2 wraps it.
        for (text, verdict, kind) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'. script: 5a, on @user_script:3.",
                Verdict::Refused,
                ErrorKind::Full,
            ),
            (
                "ERR Error running script (call to f_5a): @user_script:3: @user_script: 3: -OOM command not allowed when used memory > 'maxmemory'.",
                Verdict::Refused,
                ErrorKind::Full,
            ),
            (
                "READONLY You can't write against a read only replica. script: 5a, on @user_script:3.",
                Verdict::Reconnect,
                ErrorKind::Unavailable,
            ),
            (
                "ERR Error running script (call to f_5a): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
                Verdict::Reconnect,
                ErrorKind::Unavailable,
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value script: 5a, on @user_script:1.",
                Verdict::Refused,
                ErrorKind::Corrupt,
            ),
            (
                "ERR Error running script (call to f_5a): @user_script:1: WRONGTYPE Operation against a key holding the wrong kind of value",
                Verdict::Refused,
                ErrorKind::Corrupt,
            ),
            ("NOSCRIPT No matching script. Please use EVAL.", Verdict::NoScript, ErrorKind::Unavailable),
            ("LOADING Redis is loading the dataset in memory", Verdict::NotNow, ErrorKind::Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Verdict::NotNow, ErrorKind::Unavailable),
            (
                "NOPERM this user has no permissions to run the 'evalsha' command",
                Verdict::Refused,
                ErrorKind::PermissionDenied,
            ),
            (
                "ERR ACL failure in script: User bob has no permissions to run the 'hset' command",
                Verdict::Refused,
                ErrorKind::PermissionDenied,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: 5a, on @user_script:3.",
                Verdict::Refused,
                ErrorKind::PermissionDenied,
            ),
            ("ERR unknown command 'EVALSHA', with args beginning with: ", Verdict::Refused, ErrorKind::Misconfigured),
            ("UNBLOCKED force unblock from blocking operation", Verdict::Unblocked, ErrorKind::Unavailable),
            ("ERR something nobody has seen before", Verdict::Refused, ErrorKind::Internal),
        ] {
            let fault = Fault::answered(text);
            assert_eq!((fault.verdict, fault.kind), (verdict, kind), "{text}");
        }
    }

    #[test]
    fn what_was_never_written_is_told_apart_from_what_may_have_been_executed() {
        let unsent = [
            FredError::new(FredKind::Canceled, "Canceled."),
            FredError::new(FredKind::Routing, "Too many redirections."),
            FredError::new(FredKind::Unknown, "Failed to route command."),
        ];
        assert!(unsent.iter().all(|error| Fault::unanswered(error).verdict == Verdict::NotNow));
        let lost = [
            FredError::new(FredKind::IO, "Connection closed."),
            FredError::new(FredKind::Timeout, "Request timed out."),
            FredError::new(FredKind::Unknown, "channel closed"),
            FredError::new(FredKind::Unknown, "Too many failed write attempts."),
            FredError::new(FredKind::Cluster, "CLUSTERDOWN The cluster is down"),
        ];
        assert!(lost.iter().all(|error| Fault::unanswered(error).verdict == Verdict::Lost));
    }

    #[test]
    fn a_connection_that_broke_or_was_given_up_says_why_and_nothing_of_settings() {
        let broken = Fault::broken(&FredError::new(FredKind::IO, "Connection closed."));
        assert_eq!(broken.summary(), "the connection broke: Connection closed.");
        let given_up = Fault::replaced_because("no answer in time");
        assert!(given_up.is_of_our_making() && given_up.summary().ends_with("for another: no answer in time"));
    }

    #[test]
    fn errors_of_the_system_are_told_as_people_know_them() {
        let io = std::io::Error::from_raw_os_error(111);
        let fault = Fault::unconnected(&FredError::from(io));
        assert!(fault.summary().ends_with(": Connection refused (os error 111)"), "{}", fault.summary());
        assert_eq!(in_words("Os { what"), "Os { what");
        let unknown_host = std::io::Error::other("failed to lookup address information: Name or service not known");
        let fault = Fault::unconnected(&FredError::from(unknown_host));
        assert!(
            fault.summary().ends_with(": failed to lookup address information: Name or service not known"),
            "{fault:?}"
        );
        assert_eq!(in_words("Custom { kind: Other, error: oops }"), "Custom { kind: Other, error: oops }");
    }

    #[test]
    fn an_error_says_what_to_do_and_keeps_the_servers_words_as_its_source() {
        let error = Fault::answered("OOM command not allowed").into_error("cannot run the script `enqueue`");
        assert_eq!(
            format!("{error:#}"),
            "cannot run the script `enqueue`: the server's memory is full; free some or raise maxmemory: OOM command not allowed"
        );
    }
}
