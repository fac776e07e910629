//! What the library's and the server's errors mean for a caller.

use std::io;

use goose_core::{Error, ErrorKind};
use lapin::ErrorKind as Lapin;
use lapin::protocol::AMQPErrorKind;

/// Reply codes of AMQP 0.9.1 that mean something special to us.
const CONTENT_TOO_LARGE: u16 = 311;
const INVALID_PATH: u16 = 402;
const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

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

/// An error of something that was asked of an open connection or channel.
pub(super) fn classify(error: lapin::Error, doing: &str) -> Error {
    let (kind, words) = match (code(&error), error.kind()) {
        (Some(CONTENT_TOO_LARGE), _) => (ErrorKind::TooLarge, "the message is larger than the server allows"),
        (Some(ACCESS_REFUSED), _) => (ErrorKind::PermissionDenied, "the server refuses this user that right"),
        (Some(NOT_FOUND), _) => (ErrorKind::Unavailable, "it is not there on the server any more"),
        (Some(RESOURCE_LOCKED), _) => (ErrorKind::Unavailable, "another connection has it for itself"),
        (Some(PRECONDITION_FAILED), Lapin::ProtocolError(error)) => {
            let is_too_large = error.get_message().as_str().contains("larger than");
            let is_timeout = error.get_message().as_str().contains("timed out");
            match (is_too_large, is_timeout) {
                (true, _) => (ErrorKind::TooLarge, "the message is larger than the server allows"),
                (_, true) => (ErrorKind::Unavailable, "the server has waited too long for an acknowledgement"),
                _ => (ErrorKind::Misconfigured, "it exists with other arguments"),
            }
        }
        (Some(NOT_ALLOWED), _) => (ErrorKind::PermissionDenied, "the server does not allow that"),
        (Some(INVALID_PATH), _) => (ErrorKind::Misconfigured, "the server knows no such virtual host"),
        _ => (ErrorKind::Unavailable, "the connection to the server is broken"),
    };
    Error::new(kind, format!("cannot {doing}: {words}")).with_source(error)
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

/// An error of making a connection to `place`, which is host and port.
pub(super) fn connecting(error: lapin::Error, place: &str) -> Error {
    let message = error.to_string();
    let io = match error.kind() {
        Lapin::IOError(io) | Lapin::RuntimeShutdownError(io) => Some(io.kind()),
        _ => None,
    };
    let (kind, words) = match (code(&error), error.kind(), io) {
        (Some(ACCESS_REFUSED), ..) => {
            (ErrorKind::PermissionDenied, "it refuses the user name or the password, check the URL")
        }
        (Some(INVALID_PATH | NOT_ALLOWED), ..) => (
            ErrorKind::PermissionDenied,
            "it has no such virtual host, or this user may not use it; check the path of the URL (the default is /%2f)",
        ),
        (_, Lapin::InvalidProtocolVersion(_), _) => {
            (ErrorKind::Misconfigured, "it does not speak AMQP 0.9.1, this broker needs RabbitMQ 3.10 or later")
        }
        (_, Lapin::ParsingError(_), _) => {
            (ErrorKind::Misconfigured, "it is no RabbitMQ server, or it expects TLS (amqps://); check host and port")
        }
        (.., Some(io::ErrorKind::ConnectionRefused)) => {
            (ErrorKind::Unavailable, "nobody listens there; is RabbitMQ running?")
        }
        (.., Some(io::ErrorKind::InvalidData)) if message.contains("ertificate") => {
            (ErrorKind::Misconfigured, "its certificate is not trusted; see RmqOptions::root_certificates")
        }
        (.., Some(io::ErrorKind::InvalidData)) => {
            (ErrorKind::Misconfigured, "it does not speak TLS there, or is no RabbitMQ server; check scheme and port")
        }
        (
            ..,
            Some(io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
        ) => (
            ErrorKind::Unavailable,
            "it closed the connection at once; is it a RabbitMQ server, and does it expect TLS (amqps://) there?",
        ),
        _ if message.contains("lookup") => (ErrorKind::Unavailable, "its name cannot be found"),
        _ => (ErrorKind::Unavailable, "the connection failed"),
    };
    Error::new(kind, format!("cannot connect to {place}: {words}")).with_source(error)
}
