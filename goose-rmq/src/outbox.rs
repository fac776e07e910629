//! Sending messages: most by the publisher, those that may be too large for the server alone.
//!
//! A server refuses a message above its `max_message_size` (128 MiB by default before 4.0, 16 MiB since) by closing the
//! channel, and with it goes the word on everything else that was on its way there. So a large message has a channel for
//! itself: the refusal is about that message and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind, Result};

use crate::amqp::{Confirmation, Outgoing};
use crate::broker::Inner;
use crate::error::closed;
use crate::hooks::{FailedJob, tell};
use crate::message::CopyId;
use crate::options::QueueType;
use crate::publisher::PublishError;
use crate::stream;

/// From this size on a message goes alone. The client refuses jobs of more than 1 MiB unless it is told otherwise, so this
/// is rare; and it is far below what servers refuse unless they are told otherwise.
const LARGE: usize = (1 << 20) + (64 << 10);

/// Between two attempts of a message that a quorum queue refuses.
const PAUSE: Duration = Duration::from_millis(500);

/// Publishes in order, those that may be too large for the server each by itself.
///
/// Where there is a journal they are in there too, and those that are refused are taken out again.
pub(crate) async fn publish_all(inner: &Arc<Inner>, mut messages: Vec<Outgoing>) -> Vec<Result<()>> {
    if !inner.topology.names.is_journaled() {
        return publish_in_order(inner, messages).await;
    }
    inner.topology.names.stamp(&mut messages);
    let copies: Vec<Option<CopyId>> = messages.iter().map(CopyId::of).collect();
    let bytes = messages.iter().map(|message| stream::size(message.body.len())).sum();
    inner.journal.notes().count_bytes(bytes);
    let answers = publish_in_order(inner, messages).await;
    for (answer, copy) in answers.iter().zip(copies) {
        if let (Err(error), Some(copy)) = (answer, copy)
            && error.kind() != ErrorKind::OutcomeUnknown
        {
            inner.journal.notes().ended(copy);
        }
    }
    answers
}

async fn publish_in_order(inner: &Arc<Inner>, messages: Vec<Outgoing>) -> Vec<Result<()>> {
    let mut answers = Vec::with_capacity(messages.len());
    let mut together = Vec::new();
    for message in messages {
        if message.body.len() >= LARGE {
            answers.extend(publish_together(inner, std::mem::take(&mut together)).await);
            answers.push(publish_large(inner, message).await);
        } else {
            together.push(message);
        }
    }
    answers.extend(publish_together(inner, together).await);
    answers
}

async fn publish_together(inner: &Inner, messages: Vec<Outgoing>) -> Vec<Result<()>> {
    if messages.is_empty() {
        return Vec::new();
    }
    let answers = inner.publisher.publish_all(messages).await;
    answers.into_iter().map(|answer| answer.map_err(Error::from)).collect()
}

/// Publishes on a channel of its own.
async fn publish_large(inner: &Arc<Inner>, message: Outgoing) -> Result<()> {
    let (size, this) = (message.body.len(), Arc::clone(inner));
    let task = async move {
        let answer = publish_alone(&this, &message).await;
        if let Err(error) = &answer {
            let failed = FailedJob::of(&message, error.reason());
            failed.into_iter().for_each(|job| tell(&this.options.hooks.failed, || vec![job]));
        }
        answer
    };
    let answer = inner.runtime.spawn(task).await.unwrap_or_else(|_| Err(PublishError::Unknown(closed())));
    answer.map_err(Error::from).map_err(|error| match limit_in(&format!("{error:#}")) {
        Some(limit) => too_large(size, limit).with_source(error),
        None => error,
    })
}

async fn publish_alone(inner: &Inner, message: &Outgoing) -> Result<(), PublishError> {
    let options = &inner.options;
    let link = &inner.links.publish;
    let mut blocked = link.blocked();
    let unblocked = tokio::time::timeout(options.blocked_timeout, blocked.wait_for(Option::is_none)).await.is_ok();
    if !unblocked {
        let why = blocked.borrow().clone().unwrap_or_default();
        return Err(PublishError::Blocked(why));
    }
    // A refusal of a quorum queue is not believed at once, see `publisher/refused.rs`.
    let refused_until = Instant::now() + options.blocked_timeout;
    // Once more if it came back: its queue was deleted behind our back.
    let mut returns = 0;
    while returns < 2 {
        let channel = link.channel().await.map_err(PublishError::NotSent)?;
        channel.confirm().await.map_err(PublishError::NotSent)?;
        let word = tokio::time::timeout(options.confirm_timeout, channel.publish(message)).await;
        let returned = match word {
            Err(_) => return Err(PublishError::TimedOut),
            Ok(Err(error)) => return Err(ended(error)),
            Ok(Ok(Confirmation::Nacked { .. })) => {
                let _ = channel.close().await;
                if options.queue_type == QueueType::Classic || Instant::now() >= refused_until {
                    return Err(PublishError::Nacked);
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(Ok(Confirmation::Acked { returned })) => returned,
        };
        let _ = channel.close().await;
        if returned.is_none() {
            return Ok(());
        }
        returns += 1;
        inner.topology.restore(message).await.map_err(PublishError::NotSent)?;
    }
    Err(PublishError::Unroutable)
}

/// What the end of a channel means for the only message on it.
fn ended(error: Error) -> PublishError {
    match error.kind() {
        ErrorKind::Unavailable => PublishError::NotSent(error),
        ErrorKind::OutcomeUnknown => PublishError::Unknown(error),
        _ => PublishError::Refused(error),
    }
}

/// The limit that a refusal names: `message size 20000000 is larger than configured max size 16777216`.
fn limit_in(refusal: &str) -> Option<u64> {
    let (_, rest) = refusal.split_once("larger than configured max size ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn too_large(size: usize, limit: u64) -> Error {
    let message = format!(
        "the job has {size} bytes and the server takes messages of {limit} bytes at most; make it smaller, for instance \
         by storing the bulk elsewhere, or raise max_message_size in rabbitmq.conf"
    );
    Error::new(ErrorKind::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_what_the_server_says() {
        let text =
            "PRECONDITION_FAILED - message size 20971520 is larger than configured max size 16777216, class-id=60";
        assert_eq!(limit_in(text), Some(16_777_216));
        assert_eq!(limit_in("PRECONDITION_FAILED - unknown delivery tag 1"), None);
        let error = too_large(20_971_520, 16_777_216);
        assert!(
            error.to_string().starts_with("the job has 20971520 bytes and the server takes messages of 16777216 bytes")
        );
    }
}
