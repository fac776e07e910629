//! Declaring a stream, one process at a time.
//!
//! While a stream is being made it is there for everybody else already, and whoever writes to it or reads it in that
//! moment is disconnected (RabbitMQ 3.10 to 4.3): not only from this channel, and with the word on everything that is being
//! published. So whoever makes one holds a lock, and whoever finds one that may be new waits for the lock.

use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use crate::amqp::link::Link;
use crate::amqp::{Lifetime, Table, Value};

/// An exclusive queue locks out other connections, not other tasks that use the same one.
static ONE_TASK: Mutex<()> = Mutex::const_new(());

/// Making a stream takes some ten milliseconds, on a busy cluster more.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOKS_AGAIN: Duration = Duration::from_millis(10);

/// Sees to it that a stream is there and can be used. One that has other limits, by an operator's hand or of another
/// version, serves as well.
///
/// To be called on the broker's runtime.
pub(crate) async fn declare(link: &Link, name: &str, arguments: &Table) -> Result<()> {
    // What has entries is not being made.
    let entries = look(link, name).await.map_err(|error| lost(error, name))?;
    if entries.is_some_and(|entries| entries > 0) {
        return Ok(());
    }
    let _turn = ONE_TASK.lock().await;
    let lock = format!("{name}/lock");
    let classic = Table::from([("x-queue-type".to_owned(), Value::Text("classic".to_owned()))]);
    let end = Instant::now() + PATIENCE;
    let channel = loop {
        let channel = link.channel().await?;
        match channel.declare_queue(&lock, Lifetime::Exclusive, &classic).await {
            Ok(_) => break channel,
            Err(error) if error.kind() != ErrorKind::Unavailable || Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(LOOKS_AGAIN).await,
        }
    };
    let declared = match channel.declare_queue(name, Lifetime::Durable, arguments).await {
        Err(error) if error.kind() == ErrorKind::Misconfigured => match look(link, name).await? {
            Some(_) => Ok(()),
            None => Err(error),
        },
        declared => declared.map(drop).map_err(|error| lost(error, name)),
    };
    // The channel ends with an error, the lock does not.
    let channel = if channel.is_open() { channel } else { link.channel().await? };
    channel.delete_queue(&lock).await?;
    let _ = channel.close().await;
    declared
}

/// About how many entries a stream has, if it is there. A channel on which a queue was not found is over already.
async fn look(link: &Link, name: &str) -> Result<Option<u64>> {
    let channel = link.channel().await?;
    let state = channel.inspect_queue(name).await?;
    if state.is_some() {
        let _ = channel.close().await;
    }
    Ok(state.map(|state| state.ready))
}

/// What to say of a stream that the server knows and does not have. So it is for a moment after a start.
fn lost(error: Error, name: &str) -> Error {
    if !format!("{error:#}").contains("down or inaccessible") {
        return error;
    }
    let message = format!(
        "the stream {name} does not run: the node that has it is down, or was killed right after the first stream was \
         made; start it, or see \"lost streams\" in docs/brokers/rabbitmq.md"
    );
    Error::new(error.kind(), message).with_source(error)
}
