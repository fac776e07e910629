//! How to connect the Redis broker.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};

use crate::{RedisBroker, connection, scripts};

/// How to connect the Redis broker. Every setting has a default that is safe.
///
/// ```no_run
/// # async fn f() -> goose_core::Result<()> {
/// use goose_redis::RedisOptions;
///
/// let broker = RedisOptions::new("redis://localhost/2").prefix("shop").open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until `open` is called"]
pub struct RedisOptions {
    url: String,
    username: Option<String>,
    password: Option<String>,
    database: Option<u8>,
    prefix: String,
    connection_name: String,
    pub(crate) lease: Duration,
    pub(crate) max_recoveries: u32,
    pub(crate) command_timeout: Duration,
    allow_eviction: bool,
    #[cfg(feature = "tls")]
    root_certificates: Option<Vec<u8>>,
}

/// Without the URL and the password: passwords do not belong into logs.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("database", &self.database)
            .field("prefix", &self.prefix)
            .field("connection_name", &self.connection_name)
            .field("lease", &self.lease)
            .field("max_recoveries", &self.max_recoveries)
            .field("command_timeout", &self.command_timeout)
            .field("allow_eviction", &self.allow_eviction)
            .finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// A server, by one of these URLs; `valkey` may stand for `redis` in each.
    ///
    /// | URL | what it names |
    /// |---|---|
    /// | `redis://[user:password@]host[:port][/database]` | one server; port 6379 |
    /// | `redis-sentinel://[user:password@]host[:port][/database]?sentinelServiceName=NAME` | the primary that Sentinels know under a name; port 26379 |
    /// | `redis-cluster://[user:password@]host[:port]` | a cluster, found through one of its nodes; port 6379 |
    ///
    /// More Sentinels or nodes to ask are given as `node=host:port` behind the `?`, as often as needed, joined by `&`.
    /// User and password of the Sentinels themselves are `sentinelUsername` and `sentinelPassword` there. Special
    /// characters are percent-encoded. `rediss://`, `rediss-sentinel://` and `rediss-cluster://` use TLS, verified
    /// against the system's root certificates or your own; they need the feature `tls`. Unix sockets are not supported.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            database: None,
            prefix: "goose".to_owned(),
            connection_name: "goose".to_owned(),
            lease: Duration::from_secs(6),
            max_recoveries: 3,
            command_timeout: Duration::from_secs(10),
            allow_eviction: false,
            #[cfg(feature = "tls")]
            root_certificates: None,
        }
    }

    /// The ACL user; that of the URL by default, and `default` if it has none. Needs a password.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password; that of the URL by default.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The number of the database, 0 to 255; that of the URL by default, and 0 if it has none. A cluster has only 0.
    pub fn database(mut self, database: u8) -> Self {
        self.database = Some(database);
        self
    }

    /// What every key starts with, `goose` by default: 1 to 60 bytes without braces, spaces and control characters.
    /// Programs with different prefixes see nothing of each other.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The first part of the names that `CLIENT LIST` shows, `goose` by default: `goose-data-4711`, where 4711 is the
    /// process. 1 to 40 letters, digits and `-_.:`.
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// How long a silent worker keeps its jobs; 6 s by default, 100 ms to 1 h. It is renewed six times in that span,
    /// and found dead at most half of the span after its end, where somebody serves the queue: with the default within 9 s of a
    /// kill, 8.5 s as a rule.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How often a job may be taken from dead workers before it counts as what kills them and is buried;
    /// 3 by default: the fourth crash buries it.
    pub fn max_recoveries(mut self, max_recoveries: u32) -> Self {
        self.max_recoveries = max_recoveries;
        self
    }

    /// How long a call may take in all, including the wait for a connection that is being made again and for a server
    /// that is loading or failing over; 10 s by default, 100 ms to 1 h. A job that waits that long for the calls before its
    /// own is refused and not sent, so an enqueue may take up to twice as long.
    pub fn command_timeout(mut self, limit: Duration) -> Self {
        self.command_timeout = limit;
        self
    }

    /// Whether to use a server that may throw keys away when its memory is full (a `maxmemory-policy` other than
    /// `noeviction`). Not by default: it would lose jobs.
    pub fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Whom to trust over TLS, instead of the system's root certificates: the certificates of one or more authorities, in PEM
    /// form. For servers whose certificates your own authority has signed.
    ///
    /// ```no_run
    /// # use goose_redis::RedisOptions;
    /// # fn f() -> std::io::Result<()> {
    /// let options = RedisOptions::new("rediss://redis.internal").root_certificates(std::fs::read("ca.pem")?);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Connects, checks that the server is fit for a queue, and gives it the scripts.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`]: a setting cannot work, or the URL cannot be read.
    /// - [`ErrorKind::Unavailable`]: no server can be reached, or it does not answer.
    /// - [`ErrorKind::PermissionDenied`]: the user, the password or a right is missing.
    /// - [`ErrorKind::Misconfigured`]: it is another kind of server than the URL says, older than 6.2, a replica,
    ///   without Lua, without that database, it may throw jobs away, or a newer version of this broker has stored its jobs.
    pub async fn open(self) -> Result<RedisBroker> {
        self.validate()?;
        let link = connection::open(&self, scripts::ALL).await?;
        Ok(RedisBroker::over(link, self))
    }

    fn validate(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let is_bad = |c: char| c == '{' || c == '}' || c.is_whitespace() || c.is_control();
        if self.prefix.is_empty() || self.prefix.len() > 60 || self.prefix.contains(is_bad) {
            return invalid(format!("the prefix {:?} must be 1 to 60 bytes without braces and spaces", self.prefix));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if self.connection_name.is_empty()
            || self.connection_name.len() > 40
            || !self.connection_name.chars().all(is_plain)
        {
            let name = &self.connection_name;
            return invalid(format!("the connection name {name:?} must be 1 to 40 letters, digits and -_.:"));
        }
        const LIMITS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
        if !LIMITS.contains(&self.lease) {
            return invalid(format!("the lease is {:?}, use 100ms to 1h", self.lease));
        }
        if !LIMITS.contains(&self.command_timeout) {
            return invalid(format!("the command timeout is {:?}, use 100ms to 1h", self.command_timeout));
        }
        Ok(())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn username_given(&self) -> Option<&str> {
        self.username.as_deref()
    }

    pub(crate) fn password_given(&self) -> Option<&str> {
        self.password.as_deref()
    }

    pub(crate) fn database_given(&self) -> Option<u8> {
        self.database
    }

    pub(crate) fn connection_name_given(&self) -> &str {
        &self.connection_name
    }

    pub(crate) fn key_prefix(&self) -> &str {
        &self.prefix
    }

    #[cfg(feature = "tls")]
    pub(crate) fn root_certificates_given(&self) -> Option<&[u8]> {
        self.root_certificates.as_deref()
    }

    pub(crate) fn evicting_is_allowed(&self) -> bool {
        self.allow_eviction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let options = || RedisOptions::new("redis://localhost");
        options().validate().unwrap();
        options().prefix("a".repeat(60)).connection_name("shop-1.a_b:c").validate().unwrap();
        for bad in [
            options().prefix(""),
            options().prefix("a".repeat(61)),
            options().prefix("a{b"),
            options().prefix("a}b"),
            options().prefix("a b"),
            options().prefix("a\nb"),
            options().connection_name(""),
            options().connection_name("two words"),
            options().lease(Duration::from_millis(99)),
            options().lease(Duration::MAX),
            options().command_timeout(Duration::ZERO),
            options().command_timeout(Duration::MAX),
        ] {
            assert_eq!(bad.validate().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
