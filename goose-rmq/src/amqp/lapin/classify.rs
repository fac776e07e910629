//! What the library's and the server's errors mean for a caller.

use std::io;
use std::time::Duration;

use goose_core::{Error, ErrorKind};
use lapin::ErrorKind as Lapin;
use lapin::protocol::AMQPErrorKind;

/// Reply codes of AMQP 0.9.1 that mean something special to us.
const CONTENT_TOO_LARGE: u16 = 311;
const CONNECTION_FORCED: u16 = 320;
const INVALID_PATH: u16 = 402;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const NOT_IMPLEMENTED: u16 = 540;

type Meaning = (ErrorKind, &'static str);

const TOO_LARGE: Meaning = (ErrorKind::TooLarge, "the message is larger than the server allows (max_message_size)");

/// The reply code of an error that came from the server.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        Lapin::ProtocolError(error) => Some(match error.kind() {
            AMQPErrorKind::Soft(soft) => soft.get_id(),
            AMQPErrorKind::Hard(hard) => hard.get_id(),
        }),
        _ => None,
    }
}

/// Whether there is no such thing.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    code(error) == Some(NOT_FOUND) && !is_down(error)
}

/// The server's word on a queue that is known and does not run has the code of one that is not known.
fn is_down(error: &lapin::Error) -> bool {
    match error.kind() {
        Lapin::ProtocolError(error) => error.get_message().as_str().contains("down or inaccessible"),
        _ => false,
    }
}

/// An error of something that was asked of an open connection or channel.
pub(super) fn classify(error: lapin::Error, doing: &str) -> Error {
    let (kind, words) = match (code(&error), error.kind()) {
        (Some(CONTENT_TOO_LARGE), _) => TOO_LARGE,
        (Some(ACCESS_REFUSED), _) => (
            ErrorKind::PermissionDenied,
            "the server refuses this user that right; grant what docs/brokers/rabbitmq.md lists",
        ),
        _ if is_down(&error) => (ErrorKind::Unavailable, "the server that has it is down, or has lost it in a crash"),
        (Some(NOT_FOUND), _) => (ErrorKind::Unavailable, "it is not there on the server any more"),
        (Some(RESOURCE_LOCKED), _) => (ErrorKind::Unavailable, "another connection has it for itself"),
        (Some(PRECONDITION_FAILED), Lapin::ProtocolError(error)) => precondition(error.get_message().as_str()),
        (Some(NOT_ALLOWED), _) => (ErrorKind::PermissionDenied, "the server does not allow that"),
        (Some(INVALID_PATH), _) => (ErrorKind::Misconfigured, "the server knows no such virtual host"),
        (Some(NOT_IMPLEMENTED), _) => {
            (ErrorKind::Misconfigured, "the server does not know how; this broker needs RabbitMQ 3.10 or later")
        }
        (Some(CONNECTION_FORCED), _) => {
            (ErrorKind::Unavailable, "the server has closed the connection: it shuts down, or an operator wants it so")
        }
        (_, Lapin::MissingHeartbeatError) => (ErrorKind::Unavailable, "the server has said nothing for two heartbeats"),
        (_, Lapin::ChannelsLimitReached) => (
            ErrorKind::Full,
            "a connection has no more channels; open fewer sessions, or raise channel_max in rabbitmq.conf",
        ),
        (_, Lapin::RuntimeShutdownError(_)) => (ErrorKind::Closed, "the broker is closed"),
        _ => (ErrorKind::Unavailable, "the connection to the server is broken"),
    };
    Error::new(kind, format!("cannot {doing}: {words}")).with_source(error)
}

/// The server has one code for all that does not fit.
fn precondition(text: &str) -> Meaning {
    let says = |words| text.contains(words);
    if says("larger than") {
        TOO_LARGE
    } else if says("timed out") {
        let words = "the server has waited too long for an acknowledgement (consumer_timeout)";
        (ErrorKind::Unavailable, words)
    } else if says("unknown delivery tag") {
        (ErrorKind::Internal, "it was acknowledged before; this is a bug, please report it")
    } else if says("inequivalent arg") {
        (ErrorKind::Misconfigured, "it exists with other arguments")
    } else if says("invalid arg") {
        (ErrorKind::Misconfigured, "the server does not take its arguments; this broker needs RabbitMQ 3.10 or later")
    } else {
        (ErrorKind::Misconfigured, "the server refuses it")
    }
}

/// An error of publishing before the frames were written.
pub(super) fn unsent(error: lapin::Error) -> Error {
    match error.kind() {
        // Asked before anything is queued.
        Lapin::InvalidChannelState(..) => {
            Error::new(ErrorKind::Unavailable, "the channel was closed; nothing was sent").with_source(error)
        }
        // Over TLS a part of what one call had to write may have gone out when it fails.
        _ => unconfirmed(error),
    }
}

/// An error of publishing after the frames were written, perhaps.
pub(super) fn unconfirmed(error: lapin::Error) -> Error {
    match code(&error) {
        Some(NOT_FOUND) => Error::new(ErrorKind::Misconfigured, "the exchange is not there").with_source(error),
        Some(CONTENT_TOO_LARGE | ACCESS_REFUSED | PRECONDITION_FAILED | NOT_ALLOWED) => classify(error, "publish"),
        _ => Error::new(ErrorKind::OutcomeUnknown, "the channel ended before the server's word").with_source(error),
    }
}

/// A server that has not answered in time. `place` is host and port.
pub(super) fn silent(place: &str, limit: Duration) -> Error {
    let message = format!(
        "cannot connect to {place}: whoever listens there does not answer within {limit:?}; is it a RabbitMQ server, and is \
         it well?"
    );
    Error::new(ErrorKind::Unavailable, message)
}

/// An error of making a connection to `place`.
pub(super) fn connecting(error: lapin::Error, place: &str) -> Error {
    let (kind, words) = match (code(&error), error.kind()) {
        (Some(ACCESS_REFUSED), _) => {
            (ErrorKind::PermissionDenied, "it refuses the user name or the password; check both")
        }
        (Some(INVALID_PATH | NOT_ALLOWED), _) => (
            ErrorKind::PermissionDenied,
            "it has no such virtual host, it is full, or this user may not use it; check the path of the URL (the \
             default is /%2f)",
        ),
        (Some(CONNECTION_FORCED), _) => (ErrorKind::Unavailable, "it starts or shuts down at the moment"),
        (_, Lapin::InvalidProtocolVersion(_)) => {
            (ErrorKind::Misconfigured, "it does not speak AMQP 0.9.1; this broker needs RabbitMQ 3.10 or later")
        }
        (_, Lapin::ParsingError(_)) => (
            ErrorKind::Misconfigured,
            "it is no RabbitMQ server, or expects TLS there (amqps://); check scheme, host and port",
        ),
        (_, Lapin::AuthProviderError(_)) => {
            (ErrorKind::Misconfigured, "it wants to authenticate in a way that is not supported; check auth_mechanism")
        }
        (_, Lapin::RuntimeShutdownError(_)) => (ErrorKind::Closed, "the broker is closed"),
        (_, Lapin::IOError(io)) => input_output(io),
        _ => (ErrorKind::Unavailable, "the connection failed"),
    };
    Error::new(kind, format!("cannot connect to {place}: {words}")).with_source(error)
}

fn input_output(error: &io::Error) -> Meaning {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::Unavailable, "its name cannot be found; check the host"),
        io::ErrorKind::ConnectionRefused => {
            (ErrorKind::Unavailable, "nobody listens there; check that RabbitMQ runs and that host and port are right")
        }
        io::ErrorKind::TimedOut => (ErrorKind::Unavailable, "the host does not answer"),
        // From the TLS of the library.
        _ if text.contains("ertificate") => (
            ErrorKind::Misconfigured,
            "its certificate is not trusted; check the host name, and that its authority is among the root certificates \
             of the system or of the options",
        ),
        io::ErrorKind::InvalidData => {
            (ErrorKind::Misconfigured, "it does not speak TLS there; use amqp://, or the port for TLS")
        }
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => (
            ErrorKind::Unavailable,
            "it closed the connection at once; it starts or shuts down, is no RabbitMQ server, or expects TLS there \
             (amqps://)",
        ),
        _ => (ErrorKind::Unavailable, "the connection failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_apart() {
        let kinds = [
            ("message size 9 is larger than configured max size 8", ErrorKind::TooLarge),
            ("delivery acknowledgement on channel 1 timed out. Timeout value used: 60000 ms", ErrorKind::Unavailable),
            ("unknown delivery tag 7", ErrorKind::Internal),
            ("inequivalent arg 'x-queue-type' for queue 'a'", ErrorKind::Misconfigured),
            ("invalid arg 'x-consumer-timeout' for queue 'a'", ErrorKind::Misconfigured),
            ("something else", ErrorKind::Misconfigured),
        ];
        for (text, kind) in kinds {
            assert_eq!(precondition(text).0, kind, "{text}");
        }
    }
}
