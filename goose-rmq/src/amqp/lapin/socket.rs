//! The socket under a connection: opened within its time, and with a second handle on it, with which it can be closed
//! behind the library's back.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use parking_lot::Mutex;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};

type Reactor = async_rs::Tokio;

pub(super) type Stream = AsyncTcpStream<<Reactor as async_rs::traits::Reactor>::TcpStream>;

/// A handle on the socket of a connection. Dropping it closes the socket as well: the library's thread ends with its
/// socket only, and would wait for a silent server for ever.
#[derive(Debug, Clone, Default)]
pub(super) struct Socket(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(TcpStream),
    /// Closed before it was opened.
    Cut,
}

impl Socket {
    /// Closes it as the system does when a process is killed: nothing is said, what the system has taken over to send is
    /// sent.
    pub(super) fn cut(&self) {
        self.0.cut();
    }

    fn hold(&self, stream: TcpStream) -> io::Result<()> {
        let mut state = self.0.0.lock();
        if matches!(*state, State::Cut) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "given up"));
        }
        *state = State::Open(stream);
        Ok(())
    }

    /// A handle that does not keep it open.
    pub(super) fn downgrade(&self) -> WeakSocket {
        WeakSocket(Arc::downgrade(&self.0))
    }
}

/// Does not keep the socket open.
#[derive(Debug, Clone)]
pub(super) struct WeakSocket(std::sync::Weak<Inner>);

impl Inner {
    fn cut(&self) {
        if let State::Open(stream) = std::mem::replace(&mut *self.0.lock(), State::Cut) {
            // Fails when the other side has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Opens the socket, to the first address of the host that answers, each within its share of the limit.
///
/// Runs on the library's own thread, which may wait for a name.
pub(super) async fn open(
    uri: &AMQPUri,
    runtime: &async_rs::Runtime<Reactor>,
    limit: Duration,
    keep: &WeakSocket,
) -> io::Result<Stream> {
    be_quiet();
    let addresses: Vec<_> = (uri.authority.host.as_str(), uri.authority.port)
        .to_socket_addrs()
        .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?
        .collect();
    let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(share, AsyncTcpStream::connect(runtime, address)).await {
            Ok(Ok(stream)) => {
                if let (AsyncTcpStream::Plain(plain), Some(inner)) = (&stream, keep.0.upgrade()) {
                    Socket(inner).hold(duplicate(plain.get_ref())?)?;
                    return Ok(stream);
                }
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "given up"));
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(failure)
}

#[cfg(unix)]
fn duplicate(stream: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::fd::AsFd;
    Ok(TcpStream::from(stream.as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn duplicate(stream: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::windows::io::AsSocket;
    Ok(TcpStream::from(stream.as_socket().try_clone_to_owned()?))
}

/// Keeps the library's thread out of the program's logs.
///
/// What it has to say is an error of a connection, which we tell in our own words with what is done about it; and messages that
/// came back, which it prints with their bodies, byte by byte.
fn be_quiet() {
    thread_local! {
        static QUIET: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
    }
    let guard = dispatcher::set_default(&Dispatch::none());
    QUIET.with_borrow_mut(|quiet| *quiet = Some(guard));
}
