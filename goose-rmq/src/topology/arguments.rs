//! With which arguments queues and exchanges are declared.
//!
//! A queue keeps its arguments for ever, and declaring it with others is an error. So none of these depends on anything
//! that two processes of one installation may see differently, except for the queue type and the consumer timeout.

use std::time::Duration;

use goose_core::QueueName;

use super::Names;
use crate::amqp::{Table, Value};
use crate::delay::UNIT;
use crate::options::QueueType;

/// After how many deliveries a quorum queue gives a message up. Far above what sessions allow (`max_recoveries`): it only
/// stops what sessions cannot, such as messages that kill them before they can count.
///
/// Positive on every version: -1 means "at the first time" before 4.0. And there has to be one: without it, quorum queues
/// put what comes back behind everything else.
const DELIVERY_LIMIT: i64 = 50;

/// How much longer than its job the queue of a lease lasts.
const LEASE_QUEUE_OUTLIVES: u32 = 10;

/// How many nodes hold a copy of a quorum queue.
const REPLICAS: i64 = 3;

/// The arguments that depend on nothing but the options.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(super) queue_type: QueueType,
    /// How long a message may be in a worker's hands before the server takes it for lost.
    pub(super) consumer_timeout: Duration,
}

impl Arguments {
    /// A ready queue. `timeout` says whether the server is to know how long a job may take: it helps from 3.12 on, is
    /// unknown and harmless before, and is refused by 4.3 for classic queues, which have no such limit any more.
    pub(super) fn ready(&self, names: &Names, timeout: bool) -> Table {
        let mut table = match self.queue_type {
            QueueType::Classic => table([("x-queue-type", text("classic")), ("x-max-priority", Value::Int(1))]),
            QueueType::Quorum => {
                let mut table = at_least_once(&names.dead_letters());
                table.insert("x-delivery-limit".to_owned(), Value::Int(DELIVERY_LIMIT));
                table
            }
        };
        if timeout {
            let millis = i64::try_from(self.consumer_timeout.as_millis()).unwrap_or(i64::MAX);
            table.insert("x-consumer-timeout".to_owned(), Value::Int(millis));
        }
        table
    }

    /// The queue of a level: holds messages for its time, then sends them to the next.
    pub(super) fn level(&self, names: &Names, level: u32) -> Table {
        let next = level.checked_sub(1).map_or_else(|| names.due(), |next| names.level(next));
        let millis = i64::try_from(UNIT.as_millis() << level).unwrap_or(i64::MAX);
        let mut table = match self.queue_type {
            QueueType::Classic => table([("x-queue-type", text("classic")), ("x-dead-letter-exchange", text(&next))]),
            QueueType::Quorum => at_least_once(&next),
        };
        table.insert("x-message-ttl".to_owned(), Value::Int(millis));
        table
    }

    /// The queue of a lease of this length: its job goes back as if it were due, so that it is not dropped if its queue is
    /// gone. The queue outlives the job by far, so that it is never the queue that goes first; then it goes by itself.
    pub(super) fn lease(&self, names: &Names, home: &QueueName, length: Duration) -> Table {
        let millis = |time: Duration| Value::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let mut table = match self.queue_type {
            QueueType::Classic => {
                table([("x-queue-type", text("classic")), ("x-dead-letter-exchange", text(&names.due()))])
            }
            QueueType::Quorum => at_least_once(&names.due()),
        };
        table.insert("x-dead-letter-routing-key".to_owned(), text(&names.key_when_due(home)));
        table.insert("x-message-ttl".to_owned(), millis(length));
        table.insert("x-expires".to_owned(), millis(length * LEASE_QUEUE_OUTLIVES));
        table
    }

    /// The queue of what could not be routed.
    pub(super) fn unroutable(&self) -> Table {
        match self.queue_type {
            QueueType::Classic => table([("x-queue-type", text("classic"))]),
            // 4.0 drops what was delivered twenty times unless it is told otherwise.
            QueueType::Quorum => table([
                ("x-queue-type", text("quorum")),
                ("x-quorum-initial-group-size", Value::Int(REPLICAS)),
                ("x-delivery-limit", Value::Int(1_000_000)),
            ]),
        }
    }
}

/// An exchange of the cascade. What it has no place for is kept.
pub(super) fn of_exchange(names: &Names) -> Table {
    table([("alternate-exchange", text(&names.unroutable()))])
}

/// A quorum queue that dead-letters to an exchange and forgets a message only when it is safe there.
fn at_least_once(exchange: &str) -> Table {
    table([
        ("x-queue-type", text("quorum")),
        ("x-quorum-initial-group-size", Value::Int(REPLICAS)),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-strategy", text("at-least-once")),
        // Without it, the strategy is at-most-once whatever is said.
        ("x-overflow", text("reject-publish")),
    ])
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Table {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_lead_down_to_the_exchange_of_what_is_due() {
        let names = Names::new("goose");
        for queue_type in [QueueType::Classic, QueueType::Quorum] {
            let arguments = Arguments { queue_type, consumer_timeout: Duration::from_secs(1) };
            let of = |level| {
                let table = arguments.level(&names, level);
                (table["x-message-ttl"].clone(), table["x-dead-letter-exchange"].clone())
            };
            assert_eq!(of(0), (Value::Int(32), text("goose/v1/due")));
            assert_eq!(of(1), (Value::Int(64), text("goose/v1/delay/00")));
            // Below the ten years that the server allows.
            assert_eq!(of(31), (Value::Int(68_719_476_736), text("goose/v1/delay/30")));
        }
    }

    #[test]
    fn classic_queues_are_never_given_what_is_only_for_quorum_queues_nor_the_other_way_round() {
        let names = Names::new("goose");
        let of = |queue_type| {
            let arguments = Arguments { queue_type, consumer_timeout: Duration::from_secs(1) };
            let tables = [arguments.ready(&names, false), arguments.level(&names, 3), arguments.unroutable()];
            tables.into_iter().flat_map(Table::into_keys).collect::<Vec<_>>()
        };
        let classic = of(QueueType::Classic);
        for key in ["x-dead-letter-strategy", "x-delivery-limit", "x-quorum-initial-group-size", "x-consumer-timeout"] {
            assert!(!classic.iter().any(|k| k == key), "{key}");
        }
        assert!(!of(QueueType::Quorum).iter().any(|key| key == "x-max-priority"));
    }
}
