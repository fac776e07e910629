//! What the rest of the crate needs of a server.

use std::fmt;
use std::time::Duration;

use fred::bytes::Bytes;
use goose_core::{BoxFuture, Result};
use tokio::task::JoinHandle;

use super::{Reply, Script};

/// A server, a primary behind Sentinels, or a cluster: whatever the URL named, connected again for as long as it lives.
///
/// Futures may be awaited on any runtime, or on none: the work is done on the link's own thread. A call whose future
/// is dropped goes on there and may still take effect. Calls that need nothing but the server's consent are sent again
/// within their time limit (see `call`), so an error means that more than one attempt failed or that trying again is
/// no use.
///
/// The kinds of errors: [`Unavailable`](goose_core::ErrorKind::Unavailable) and
/// [`Full`](goose_core::ErrorKind::Full) when nothing was executed,
/// [`OutcomeUnknown`](goose_core::ErrorKind::OutcomeUnknown) when it may have been,
/// [`PermissionDenied`](goose_core::ErrorKind::PermissionDenied),
/// [`Misconfigured`](goose_core::ErrorKind::Misconfigured), [`Corrupt`](goose_core::ErrorKind::Corrupt) for keys of the
/// wrong type, [`Closed`](goose_core::ErrorKind::Closed).
///
/// A trap that every script and command must mind: the client crate takes an array of three or four elements whose
/// *first* is a text like `message`, `subscribe` or `unsubscribe` for a published message and swallows it; the call
/// then times out. Let scripts answer with a number first, and read sets of names that people choose by a script.
pub(crate) trait Link: fmt::Debug + Send + Sync + 'static {
    /// Runs a script on the node that owns the first key. On a cluster all keys must be in one slot.
    fn eval(
        &self,
        lane: Lane,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Reply>>;

    /// A plain command for the rare calls without a script. With a key, that key is the first argument and names the
    /// node; without one, any node answers. After a lost answer only those commands are sent again that read, or set
    /// what is set already (`call` lists them).
    fn command(
        &self,
        lane: Lane,
        name: &'static str,
        key: Option<Bytes>,
        args: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Reply>>;

    /// A waiter with a connection of its own (on a cluster: one to each primary), made in the background.
    fn waiter(&self) -> BoxFuture<'_, Result<Box<dyn Waiter>>>;

    /// Runs a future on the link's own thread until it ends or the link is closed. It must not block, and when it
    /// holds the link itself, only [`close`](Self::close) ends both.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> JoinHandle<()>;

    fn topology(&self) -> Topology;

    fn health(&self) -> Health;

    /// Ends every task and socket within a second, also when they are blocked or the server is out of reach. Calls
    /// under way answer [`Closed`](goose_core::ErrorKind::Closed) or
    /// [`OutcomeUnknown`](goose_core::ErrorKind::OutcomeUnknown).
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Waits for wake markers. Dropping it closes its connection.
pub(crate) trait Waiter: fmt::Debug + Send {
    /// Blocks until one of the markers (sorted sets) has a member and takes that member: answers the marker's key, or
    /// `None` after `limit`, or earlier when the server ended the wait for reasons of its own. On a cluster all
    /// markers must be in one slot.
    ///
    /// A dropped wait goes on in the background; the next call with the same markers takes it up again, so that no
    /// wake-up is lost. A call with other markers gives it up together with what it may have taken.
    ///
    /// # Errors
    /// At once when waiting is forbidden, after `limit` when there is no connection. Pause between calls that fail.
    fn wait<'a>(&'a mut self, markers: &'a [Bytes], limit: Duration) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// Closes the connection, also in the middle of a wait.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Which connection a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For jobs. Calls are answered in their order, and wait up to the command timeout.
    Data,
    /// For heartbeats and what must not queue behind jobs. Calls wait a third of the lease, and one that times out
    /// makes for a new connection at once.
    Beat,
}

/// How the servers are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    Standalone,
    Sentinel,
    Cluster,
}

impl Topology {
    pub(crate) fn is_cluster(self) -> bool {
        matches!(self, Self::Cluster)
    }

    /// The slot of a key on a cluster, `None` elsewhere.
    pub(super) fn slot_of(self, key: &[u8]) -> Option<u16> {
        self.is_cluster().then(|| fred::util::redis_keyslot(key))
    }
}

/// How the connections are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// Whether both lanes have a connection right now.
    pub(crate) connected: bool,
    /// How many connections had to be made again.
    pub(crate) reconnects: u64,
    /// The last failure to connect or the last break, in words.
    pub(crate) last_error: Option<String>,
}

#[cfg(test)]
fn _object_safe(_: &dyn Link, _: &dyn Waiter) {}
