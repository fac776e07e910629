//! The handle that clients and workers hold.

use goose_core::Result;

use crate::RmqOptions;

/// The RabbitMQ broker: a handle to one server or to a cluster.
///
/// Cloning is cheap and shares the connections. Connections heal by themselves for as long as the broker lives.
#[derive(Debug, Clone)]
pub struct RmqBroker {}

impl RmqBroker {
    /// Connects with default options; see [`RmqOptions`] for others and for the URLs.
    ///
    /// # Errors
    /// See [`RmqOptions::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        RmqOptions::new(url).open().await
    }
}
