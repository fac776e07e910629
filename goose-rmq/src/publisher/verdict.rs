//! What the end of a channel means for one of the messages that were under way on it.
//!
//! A server that does not like one message closes the channel, and with it goes the word on all others. What it says
//! tells which message it was: by the name of the exchange, or by its size.

use goose_core::{Error, ErrorKind};

use crate::amqp::Outgoing;

/// What became of a message whose channel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It never went out.
    NotSent,
    /// The server closed the channel because of it, or of one like it.
    Refused,
    /// Its exchange is not there.
    Lost,
    /// It may be stored.
    Unknown,
}

/// Judges by the error that [`Channel::publish`](crate::amqp::Channel::publish) answered.
pub(super) fn fate(error: &Error, message: &Outgoing) -> Fate {
    match error.kind() {
        ErrorKind::Unavailable => Fate::NotSent,
        ErrorKind::InvalidInput => Fate::Refused,
        ErrorKind::PermissionDenied if is_named(error, "access to exchange '", message) => Fate::Refused,
        ErrorKind::Misconfigured if is_named(error, "no exchange '", message) => Fate::Lost,
        ErrorKind::TooLarge if limit(error).is_none_or(|limit| message.body.len() > limit) => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// Whether the server names the message's exchange behind these words.
fn is_named(error: &Error, words: &str, message: &Outgoing) -> bool {
    let text = format!("{error:#}");
    let name = text.split_once(words).and_then(|(_, rest)| rest.split_once('\'')).map(|(name, _)| name);
    let exchange = if message.exchange.is_empty() { "amq.default" } else { &message.exchange };
    name == Some(exchange)
}

/// `message size 20000000 is larger than configured max size 16777216`
fn limit(error: &Error) -> Option<usize> {
    let text = format!("{error:#}");
    let (_, rest) = text.split_once("max size ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(exchange: &str, size: usize) -> Outgoing {
        Outgoing {
            exchange: exchange.into(),
            routing_key: String::new(),
            message_id: String::new(),
            priority: 0,
            headers: Default::default(),
            body: vec![0; size].into(),
        }
    }

    fn judged(kind: ErrorKind, text: &'static str, message: &Outgoing) -> Fate {
        fate(&Error::new(kind, "cannot publish").with_source(text), message)
    }

    #[test]
    fn only_those_the_server_means_are_refused() {
        let (here, there, default) = (message("here", 10), message("there", 30), message("", 10));
        let denied = |text, message| judged(ErrorKind::PermissionDenied, text, message);
        let text = "ACCESS_REFUSED - access to exchange 'here' in vhost '/' refused for user 'x'";
        assert_eq!([&here, &there, &default].map(|m| denied(text, m)), [Fate::Refused, Fate::Unknown, Fate::Unknown]);
        let text = "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'x'";
        assert_eq!([&here, &there, &default].map(|m| denied(text, m)), [Fate::Unknown, Fate::Unknown, Fate::Refused]);
        let missing =
            |message| judged(ErrorKind::Misconfigured, "NOT_FOUND - no exchange 'there' in vhost '/'", message);
        assert_eq!([&here, &there, &default].map(missing), [Fate::Unknown, Fate::Lost, Fate::Unknown]);
        let large = "PRECONDITION_FAILED - message size 30 is larger than configured max size 16, class-id=60";
        let large = |message| judged(ErrorKind::TooLarge, large, message);
        assert_eq!([&here, &there, &default].map(large), [Fate::Unknown, Fate::Refused, Fate::Unknown]);
        assert_eq!(judged(ErrorKind::Unavailable, "gone", &here), Fate::NotSent);
        assert_eq!(judged(ErrorKind::OutcomeUnknown, "gone", &here), Fate::Unknown);
    }
}
