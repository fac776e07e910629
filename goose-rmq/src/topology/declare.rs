//! The acts of declaring, each on a channel that is thrown away: a refusal ends it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use goose_core::{BoxFuture, Error, ErrorKind, QueueName, Result};

use super::arguments::{self, Arguments};
use super::names::{self, Names};
use crate::amqp::{Channel, ExchangeKind, Lifetime, Table};
use crate::delay::LEVELS;
use crate::options::QueueType;

/// What everything else rests on: the exchange of what is due, and the place for what cannot be routed.
pub(super) async fn base(channel: &dyn Channel, names: &Names, arguments: &Arguments) -> Result<()> {
    let (unroutable, due) = (names.unroutable(), names.due());
    let (of_queue, of_due, none) = (arguments.unroutable(), arguments::of_exchange(names), Table::new());
    in_order([
        channel.declare_exchange(&unroutable, ExchangeKind::Fanout, &none),
        declared(channel, &unroutable, &of_queue),
        channel.bind_queue(&unroutable, &unroutable, ""),
        channel.declare_exchange(&due, ExchangeKind::Topic, &of_due),
    ])
    .await
}

/// The exchange through which quorum queues give messages up, bound to the stream of the dead, which has to be there.
pub(super) async fn dead_letters(channel: &dyn Channel, names: &Names) -> Result<()> {
    let (exchange, dead, none) = (names.dead_letters(), names.dead(), Table::new());
    in_order([
        channel.declare_exchange(&exchange, ExchangeKind::Fanout, &none),
        channel.bind_queue(&dead, &exchange, ""),
    ])
    .await
}

/// The cascade: 32 levels, each an exchange and a queue.
pub(super) async fn cascade(channel: &dyn Channel, names: &Names, arguments: &Arguments) -> Result<()> {
    struct Level {
        name: String,
        next: String,
        arguments: Table,
        held: String,
        passed: String,
    }
    let of_exchange = arguments::of_exchange(names);
    let levels: Vec<Level> = (0..LEVELS)
        .map(|level| Level {
            name: names.level(level),
            next: level.checked_sub(1).map_or_else(|| names.due(), |next| names.level(next)),
            arguments: arguments.level(names, level),
            held: names::pattern_of_level(level, '1'),
            passed: names::pattern_of_level(level, '0'),
        })
        .collect();
    // From the bottom: what a level sends on finds its way as soon as the level takes anything in.
    let acts = levels.iter().flat_map(|level| {
        [
            channel.declare_exchange(&level.name, ExchangeKind::Topic, &of_exchange),
            declared(channel, &level.name, &level.arguments),
            channel.bind_queue(&level.name, &level.name, &level.held),
            channel.bind_exchange(&level.next, &level.name, &level.passed),
        ]
    });
    in_order(acts).await
}

/// The exchange of the journal, bound to the stream, which has to be there. What is bound to it later gets the same messages: both are
/// stored, or neither is confirmed.
pub(super) async fn journal(channel: &dyn Channel, names: &Names) -> Result<()> {
    let (journal, of_exchange) = (names.journal(), arguments::of_exchange(names));
    in_order([
        channel.declare_exchange(journal, ExchangeKind::Topic, &of_exchange),
        channel.bind_queue(journal, journal, "#"),
    ])
    .await
}

/// The way from the exchange of the journal into the cascade.
pub(super) async fn journal_to_cascade(channel: &dyn Channel, names: &Names) -> Result<()> {
    let levels: Vec<(String, String)> =
        (0..LEVELS).map(|level| (names.level(level), names::pattern_of_highest_level(level))).collect();
    in_order(levels.iter().map(|(level, pattern)| channel.bind_exchange(level, names.journal(), pattern))).await
}

/// A ready queue that is not there yet, or is there with the same arguments.
pub(super) async fn ready(channel: &dyn Channel, names: &Names, queue: &QueueName, arguments: &Table) -> Result<()> {
    let ready = names.ready(queue);
    let keys = Keys::of(names, queue);
    in_order([declared(channel, &ready, arguments)].into_iter().chain(keys.bind(channel, &ready))).await
}

/// A ready queue that is there with whatever arguments.
pub(super) async fn bind_ready(channel: &dyn Channel, names: &Names, queue: &QueueName) -> Result<()> {
    let ready = names.ready(queue);
    in_order(Keys::of(names, queue).bind(channel, &ready)).await
}

/// How messages come to a ready queue: exchanges, each with the key for it.
struct Keys(Vec<(String, String)>);

impl Keys {
    fn of(names: &Names, queue: &QueueName) -> Self {
        let due = (names.due(), names::pattern_of_queue(queue));
        let journal = || (names.journal().to_owned(), names::key_of_queue(queue));
        Self([due].into_iter().chain(names.is_journaled().then(journal)).collect())
    }

    fn bind<'a>(&'a self, channel: &'a dyn Channel, ready: &'a str) -> impl Iterator<Item = BoxFuture<'a, Result<()>>> {
        self.0.iter().map(move |(exchange, key)| channel.bind_queue(ready, exchange, key))
    }
}

/// What to make of a refusal: `Ok` if the ready queue can be used as it is.
pub(super) fn judge(refusal: Error, ready: &str, queue_type: QueueType) -> Result<()> {
    let Some(argument) = differing_argument(&format!("{refusal:#}")).map(str::to_owned) else { return Err(refusal) };
    if argument == TYPE {
        return Err(another_type(refusal, queue_type));
    }
    let error = format!("{refusal:#}");
    tracing::warn!(ready, argument, error, "a queue was declared with another argument before and is used as it is");
    Ok(())
}

/// The error for what an installation with the other type of queues has declared.
pub(super) fn another_type(refusal: Error, queue_type: QueueType) -> Error {
    if differing_argument(&format!("{refusal:#}")) != Some(TYPE) {
        return refusal;
    }
    let (wanted, other) = match queue_type {
        QueueType::Classic => ("classic", "QueueType::Quorum"),
        QueueType::Quorum => ("quorum", "QueueType::Classic"),
    };
    let message = format!(
        "a queue of this prefix is there already and is not a {wanted} queue; open the broker with {other}, or with \
         another prefix, or drain and delete the queue"
    );
    Error::new(ErrorKind::Misconfigured, message).with_source(refusal)
}

const TYPE: &str = "x-queue-type";

/// The argument that the server names when it refuses: `inequivalent arg 'x-max-priority' for queue …`.
fn differing_argument(refusal: &str) -> Option<&str> {
    let (_, rest) = refusal.split_once("inequivalent arg '")?;
    rest.split_once('\'').map(|(argument, _)| argument)
}

/// Whether the server does not take the argument at all, for this type of queue.
pub(super) fn refuses_argument(refusal: &Error, argument: &str) -> bool {
    let text = format!("{refusal:#}");
    text.contains("invalid arg") && text.contains(argument)
}

fn declared<'a>(channel: &'a dyn Channel, name: &'a str, arguments: &'a Table) -> BoxFuture<'a, Result<()>> {
    let declare = channel.declare_queue(name, Lifetime::Durable, arguments);
    Box::pin(async move { declare.await.map(|_| ()) })
}

/// Sends all requests before the first answer is there. The first refusal is the answer: the others are its consequence.
async fn in_order<'a>(acts: impl IntoIterator<Item = BoxFuture<'a, Result<()>>>) -> Result<()> {
    let mut acts: Vec<_> = acts.into_iter().map(Some).collect();
    let mut outcome = Ok(());
    // The frames go out in the order of the first polls.
    poll_fn(|context| {
        for act in &mut acts {
            if let Some(Poll::Ready(result)) = act.as_mut().map(|future| future.as_mut().poll(context)) {
                *act = None;
                if outcome.is_ok() {
                    outcome = result;
                }
            }
        }
        Poll::Ready(())
    })
    .await;
    for act in acts.into_iter().flatten() {
        // Answers come in the same order, so that no time is lost by waiting for one after the other.
        let result = pin!(act).await;
        if outcome.is_ok() {
            outcome = result;
        }
    }
    outcome
}

/// Says goodbye without waiting for the answer to matter.
pub(super) async fn let_go(channel: Arc<dyn Channel>) {
    if let Err(error) = channel.close().await {
        tracing::debug!(error = format!("{error:#}"), "cannot close a channel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &'static str) -> Error {
        Error::new(ErrorKind::Misconfigured, "the server refuses the queue").with_source(text)
    }

    #[test]
    fn another_type_of_queue_is_refused_and_anything_else_is_taken_as_it_is() {
        let other_type = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'goose/v1/queue/default' in \
                          vhost '/': received the value 'quorum' of type 'longstr' but current is none";
        let error = judge(refusal(other_type), "goose/v1/queue/default", QueueType::Quorum).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(
            error.to_string(),
            "a queue of this prefix is there already and is not a quorum queue; open the broker with QueueType::Classic, \
             or with another prefix, or drain and delete the queue"
        );
        let other = other_type.replace("x-queue-type", "x-max-priority");
        judge(refusal(other.leak()), "q", QueueType::Classic).unwrap();
        let unknown = judge(refusal("PRECONDITION_FAILED - out of luck"), "q", QueueType::Classic);
        assert_eq!(unknown.unwrap_err().to_string(), "the server refuses the queue");
    }

    #[test]
    fn an_argument_the_server_does_not_know_is_told_from_one_that_differs() {
        let unknown = "PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'a' in vhost '/' of queue type \
                       rabbit_classic_queue";
        assert!(refuses_argument(&refusal(unknown), "x-consumer-timeout"));
        assert!(!refuses_argument(&refusal(unknown), "x-max-priority"));
        assert!(!refuses_argument(&refusal("inequivalent arg 'x-consumer-timeout'"), "x-consumer-timeout"));
    }
}
