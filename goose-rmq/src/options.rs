//! How to connect the RabbitMQ broker.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};

use crate::RmqBroker;
use crate::hooks::{ConnectionEnd, FailedJob, Hooks};

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
///
/// ```no_run
/// # async fn f() -> goose_core::Result<()> {
/// use goose_rmq::{QueueType, RmqOptions};
///
/// let broker = RmqOptions::new("amqp://shop:secret@rabbit-1/shop")
///     .server("amqp://shop:secret@rabbit-2/shop")
///     .server("amqp://shop:secret@rabbit-3/shop")
///     .queue_type(QueueType::Quorum)
///     .open()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until `open` is called"]
pub struct RmqOptions {
    pub(crate) urls: Vec<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) prefix: String,
    pub(crate) connection_name: String,
    pub(crate) queue_type: QueueType,
    pub(crate) heartbeat: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) blocked_timeout: Duration,
    /// Unconfirmed messages per publishing channel.
    pub(crate) window: usize,
    pub(crate) max_recoveries: u32,
    pub(crate) consumer_timeout: Duration,
    pub(crate) journal: bool,
    pub(crate) hooks: Hooks,
    #[cfg(feature = "tls")]
    pub(crate) root_certificates: Option<Vec<u8>>,
}

/// Without the URLs and the password: passwords do not belong into logs.
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
            .field("journal", &self.journal)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

impl RmqOptions {
    /// A server: `amqp://[user:password@]host[:port][/virtual-host]`, with special characters percent-encoded; a slash in the
    /// name of a virtual host is `%2f`. The default is `guest:guest`, port 5672 and the virtual host `/`.
    ///
    /// `amqps://` uses TLS, on port 5671, verified against the system's root certificates or your own; it needs the feature
    /// `tls`. `?auth_mechanism=` is `plain`, `amqplain` or `external`. For a cluster, name the other nodes by
    /// [`server`](Self::server).
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            username: None,
            password: None,
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
            journal: false,
            hooks: Hooks::default(),
            #[cfg(feature = "tls")]
            root_certificates: None,
        }
    }

    /// Another node of the same cluster, to go to when one is away. At most 16 in all; a program begins with any of them.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The user; that of each URL by default.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password; that of each URL by default.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// What the names of all queues and exchanges start with, `goose` by default: 1 to 60 bytes without spaces and control
    /// characters, and not `amq.`, which is the server's own. Programs with different prefixes see nothing of each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The first part of the names that the server shows for connections, `goose` by default: `goose-publish-4711`, where
    /// 4711 is the process. 1 to 40 letters, digits and `-_.:`.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// What kind of queues hold the jobs; classic ones by default.
    pub fn queue_type(mut self, queue_type: QueueType) -> Self {
        self.queue_type = queue_type;
        self
    }

    /// How often both sides say that they are there, in whole seconds from 1 s to 10 min; 5 s by default, and less if the
    /// server wants less. Whoever is silent for twice as long is gone: the jobs of a worker that was cut off are run by
    /// others after that time.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// How long connecting to a server may take, and how long a call waits for a connection that is being made again;
    /// 10 s by default, 100 ms to 1 h.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long the server may take to confirm a job before its outcome counts as unknown; 30 s by default, 100 ms to 1 h.
    /// A job that waits that long for the ones before it is not sent, so an enqueue may take up to twice as long.
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.confirm_timeout = limit;
        self
    }

    /// How long an enqueue waits while the server takes in nothing, for want of memory or disk space, before it answers
    /// [`ErrorKind::Blocked`]; 10 s by default, 100 ms to 1 h.
    pub fn blocked_timeout(mut self, limit: Duration) -> Self {
        self.blocked_timeout = limit;
        self
    }

    /// How many jobs may wait for their confirm at the same time on each of the four channels that publish; 1,024 by default,
    /// 1 to 65,535. More make nothing faster, fewer go easy on a server with little memory. What a queue has
    /// taken in without a word for a second does not count.
    pub fn window(mut self, jobs: usize) -> Self {
        self.window = jobs;
        self
    }

    /// How often a job may be taken from dead workers before it counts as what kills them and is buried;
    /// 3 by default: the fourth crash buries it.
    pub fn max_recoveries(mut self, max_recoveries: u32) -> Self {
        self.max_recoveries = max_recoveries;
        self
    }

    /// What the server's `consumer_timeout` is: how long a job may be held before the server takes it away; 30 min by
    /// default, as on a server that was told nothing. 1 min to 1 year. Jobs may run for longer: after four fifths of this time
    /// they move to a queue of their own, from one to the next.
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.consumer_timeout = timeout;
        self
    }

    /// Keeps a journal of everything that waits, so that waiting jobs can be found, listed and moved to the front; off by default. Each
    /// job is stored twice then, in its queue and in the journal, a stream.
    ///
    /// It belongs to the prefix: once it is there, every program that connects keeps it, whether it was told to or not. A program
    /// that was connected before does so from its next connection on, and what it enqueues until then is run as always and not
    /// listed.
    pub fn journal(mut self, journal: bool) -> Self {
        self.journal = journal;
        self
    }

    /// Whom to trust over TLS, instead of the system's root certificates: the certificates of one or more authorities, in PEM
    /// form. For servers whose certificates your own authority has signed.
    ///
    /// ```no_run
    /// # use goose_rmq::RmqOptions;
    /// # fn f() -> std::io::Result<()> {
    /// let options = RmqOptions::new("amqps://rabbit.internal").root_certificates(std::fs::read("ca.pem")?);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Is given every job that was handed in and did not get into its queue, or perhaps not: each once, also those whose
    /// callers have been told the same, and those nobody waits for any more. Jobs that fail in a row come together.
    ///
    /// ```no_run
    /// # use goose_rmq::RmqOptions;
    /// let (failed, _to_be_stored) = tokio::sync::mpsc::unbounded_channel();
    /// let options = RmqOptions::new("amqp://localhost").on_failed(move |jobs| drop(failed.send(jobs)));
    /// ```
    ///
    /// Like the other hooks it is called on the broker's own thread, which it must not hold up: take what you need and do the
    /// work elsewhere.
    pub fn on_failed(mut self, hook: impl Fn(Vec<FailedJob>) + Send + Sync + 'static) -> Self {
        self.hooks.failed = Some(Arc::new(hook));
        self
    }

    /// Is given every job that the server handed back because there was no queue for it, each time. The broker declares the
    /// queue again and sends the job once more; only if it comes back again it has failed.
    ///
    /// ```no_run
    /// # use goose_rmq::RmqOptions;
    /// let options = RmqOptions::new("amqp://localhost").on_returned(|job| eprintln!("no queue for {job:?}"));
    /// ```
    pub fn on_returned(mut self, hook: impl Fn(FailedJob) + Send + Sync + 'static) -> Self {
        self.hooks.returned = Some(Arc::new(hook));
        self
    }

    /// Is told of every connection that ends, and why. The broker connects again by itself.
    ///
    /// ```no_run
    /// # use goose_rmq::RmqOptions;
    /// let options = RmqOptions::new("amqp://localhost")
    ///     .on_shutdown(|end| eprintln!("the {} connection ended: {}", end.connection(), end.reason()));
    /// ```
    pub fn on_shutdown(mut self, hook: impl Fn(ConnectionEnd) + Send + Sync + 'static) -> Self {
        self.hooks.shutdown = Some(Arc::new(hook));
        self
    }

    /// Connects and checks the server.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`]: a setting cannot work, or a URL cannot be read.
    /// - [`ErrorKind::Unavailable`]: no server can be reached, or none answers.
    /// - [`ErrorKind::PermissionDenied`]: the user, the password or a right is missing, or there is no such virtual host.
    /// - [`ErrorKind::Misconfigured`]: it is no RabbitMQ server, it is too old, or its certificate is not trusted.
    pub async fn open(self) -> Result<RmqBroker> {
        self.validate()?;
        RmqBroker::open(self).await
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.urls.len() > 16 {
            return invalid(format!("{} servers are named, name at most 16", self.urls.len()));
        }
        let is_bad = |c: char| c.is_whitespace() || c.is_control();
        let prefix = &self.prefix;
        if prefix.is_empty() || prefix.len() > 60 || prefix.contains(is_bad) || prefix.starts_with("amq.") {
            return invalid(format!(
                "the prefix {prefix:?} must be 1 to 60 bytes without spaces, and not begin with \"amq.\""
            ));
        }
        let (name, is_plain) = (&self.connection_name, |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c));
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
            return invalid(format!("the connection name {name:?} must be 1 to 40 letters, digits and -_.:"));
        }
        if self.heartbeat.subsec_nanos() != 0 || !(1..=600).contains(&self.heartbeat.as_secs()) {
            return invalid(format!("the heartbeat is {:?}, use whole seconds from 1s to 10min", self.heartbeat));
        }
        const LIMITS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
        let limits =
            [("connect", self.connect_timeout), ("confirm", self.confirm_timeout), ("blocked", self.blocked_timeout)];
        if let Some((what, limit)) = limits.into_iter().find(|(_, limit)| !LIMITS.contains(limit)) {
            return invalid(format!("the {what} timeout is {limit:?}, use 100ms to 1h"));
        }
        if !(1..=usize::from(u16::MAX)).contains(&self.window) {
            return invalid(format!("the window is {}, use 1 to 65535", self.window));
        }
        const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(365 * 24 * 3600);
        if !TIMEOUTS.contains(&self.consumer_timeout) {
            return invalid(format!("the consumer timeout is {:?}, use 1min to 1 year", self.consumer_timeout));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let options = || RmqOptions::new("amqp://localhost");
        options().validate().unwrap();
        options().prefix("a".repeat(60)).connection_name("shop-1.a_b:c").window(1).validate().unwrap();
        let many = (0..16).fold(options(), |options, _| options.server("amqp://localhost"));
        for bad in [
            many,
            options().prefix(""),
            options().prefix("a".repeat(61)),
            options().prefix("a b"),
            options().prefix("a\nb"),
            options().prefix("amq.jobs"),
            options().connection_name(""),
            options().connection_name("two words"),
            options().heartbeat(Duration::ZERO),
            options().heartbeat(Duration::from_millis(1500)),
            options().heartbeat(Duration::from_secs(601)),
            options().connect_timeout(Duration::from_millis(99)),
            options().confirm_timeout(Duration::MAX),
            options().blocked_timeout(Duration::ZERO),
            options().window(0),
            options().window(65_536),
            options().consumer_timeout(Duration::from_secs(59)),
            options().consumer_timeout(Duration::MAX),
        ] {
            assert_eq!(bad.validate().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let options = RmqOptions::new("amqp://u:geheim@a").server("amqp://u:geheim@b").password("geheim");
        assert!(!format!("{options:?}").contains("geheim"), "{options:?}");
    }
}
