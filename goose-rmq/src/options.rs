//! How to connect the RabbitMQ broker.

use std::fmt;
use std::time::Duration;

use goose_core::Result;

use crate::RmqBroker;
use crate::hooks::Hooks;

/// What kind of queues hold the jobs. It cannot be changed for queues that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueueType {
    /// On one node, the fastest. What was confirmed is on that node's disk.
    #[default]
    Classic,
    /// Replicated by Raft over (by default three) nodes of a cluster; what was confirmed is on the disks of a majority.
    Quorum,
}

/// How to connect the RabbitMQ broker. Every setting has a default that is safe.
#[derive(Clone)]
#[must_use = "options do nothing until `open` is called"]
pub struct RmqOptions {
    pub(crate) urls: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) connection_name: String,
    pub(crate) queue_type: QueueType,
    /// Negotiated down to the server's; a peer that is silent for twice as long is gone.
    pub(crate) heartbeat: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) blocked_timeout: Duration,
    /// Unconfirmed messages per publishing channel.
    pub(crate) window: usize,
    pub(crate) max_recoveries: u32,
    /// What the server's `consumer_timeout` is.
    pub(crate) consumer_timeout: Duration,
    pub(crate) hooks: Hooks,
}

/// Without the URLs: passwords do not belong into logs.
impl fmt::Debug for RmqOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RmqOptions")
            .field("servers", &self.urls.len())
            .field("prefix", &self.prefix)
            .field("connection_name", &self.connection_name)
            .field("queue_type", &self.queue_type)
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("confirm_timeout", &self.confirm_timeout)
            .field("blocked_timeout", &self.blocked_timeout)
            .field("window", &self.window)
            .field("max_recoveries", &self.max_recoveries)
            .field("consumer_timeout", &self.consumer_timeout)
            .field("hooks", &self.hooks)
            .finish()
    }
}

impl RmqOptions {
    /// A server by its URL; see [`server`](Self::server) for more nodes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            prefix: "goose".to_owned(),
            connection_name: "goose".to_owned(),
            queue_type: QueueType::default(),
            heartbeat: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(30),
            blocked_timeout: Duration::from_secs(10),
            window: 1024,
            max_recoveries: 3,
            consumer_timeout: Duration::from_secs(30 * 60),
            hooks: Hooks::default(),
        }
    }

    /// What the names of all queues and exchanges start with, `goose` by default.
    /// Programs with different prefixes see nothing of each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What kind of queues hold the jobs; classic ones by default.
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// How often a job may be taken from dead workers before it counts as what kills them and is buried;
    /// 3 by default: the fourth crash buries it.
    pub fn max_recoveries(mut self, max_recoveries: u32) -> Self {
        self.max_recoveries = max_recoveries;
        self
    }

    /// Connects and checks the server.
    ///
    /// # Errors
    /// To be written.
    pub async fn open(self) -> Result<RmqBroker> {
        RmqBroker::open(self).await
    }
}
