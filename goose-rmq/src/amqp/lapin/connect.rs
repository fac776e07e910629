//! Making connections, to one server of the list after the other.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use lapin::ConnectionProperties;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use parking_lot::Mutex;

use super::classify;
use super::connection::LapinConnection;
use crate::amqp::{Connect, Connection, Role};
use crate::options::RmqOptions;

/// The servers of the options.
#[derive(Debug)]
pub(crate) struct Connector {
    servers: Vec<Server>,
    next: AtomicUsize,
    name: String,
    timeout: Duration,
}

struct Server {
    uri: AMQPUri,
    /// Host and port, for people. The URI has the password.
    place: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)
    }
}

impl Connector {
    /// Reads the URLs.
    ///
    /// # Errors
    /// `InvalidInput` for one that cannot be read; passwords are not repeated.
    pub(crate) fn new(options: &RmqOptions) -> Result<Self> {
        let servers = options.urls.iter().map(|url| server(url, options)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            servers,
            next: AtomicUsize::new(0),
            name: options.connection_name.clone(),
            timeout: options.connect_timeout,
        })
    }
}

fn server(url: &str, options: &RmqOptions) -> Result<Server> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidInput, format!("the URL of the server {why}"));
    let mut uri: AMQPUri = url.parse().map_err(|_| {
        invalid(
            "cannot be read, use amqp://user:password@host:port/virtual-host with special characters encoded".into(),
        )
    })?;
    if url.starts_with("amqps") && !cfg!(feature = "tls") {
        return Err(invalid("asks for TLS, which needs the feature `tls`".into()));
    }
    // `amqp://host` and `amqp://host/` mean the default virtual host to everybody who types them.
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs().max(1)).unwrap_or(u16::MAX));
    uri.query.connection_timeout = Some(u64::try_from(options.connect_timeout.as_millis()).unwrap_or(u64::MAX));
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    Ok(Server { uri, place })
}

impl Connect for Connector {
    fn connect(&self, role: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        Box::pin(async move {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let server = next.checked_rem(self.servers.len()).and_then(|index| self.servers.get(index));
            let server =
                server.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no server is named, give its URL"))?;
            let role = format!("{role:?}").to_lowercase();
            let name = format!("{}-{role}-{}", self.name, std::process::id());
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            let connecting = connect(server, properties);
            let connected = tokio::time::timeout(self.timeout, connecting).await.map_err(|_| {
                let message =
                    format!("cannot connect to {}: it does not answer within {:?}", server.place, self.timeout);
                Error::new(ErrorKind::Unavailable, message)
            })?;
            Ok(Arc::new(connected?) as Arc<dyn Connection>)
        })
    }
}

async fn connect(server: &Server, properties: ConnectionProperties) -> Result<LapinConnection> {
    let socket = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&socket);
    let connecting = lapin::Connection::connector(
        server.uri.clone(),
        async_rs::Runtime::tokio_current(),
        async move |uri: AMQPUri, runtime: async_rs::TokioRuntime| {
            let stream = open(&uri, &runtime, &keep).await?;
            Ok::<_, lapin::Error>(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await?,
            })
        },
        properties,
    );
    let connection = connecting.await.map_err(|error| classify::connecting(error, &server.place))?;
    let socket = socket.lock().take();
    Ok(LapinConnection::new(connection, socket))
}

type Stream = AsyncTcpStream<<async_rs::Tokio as async_rs::traits::Reactor>::TcpStream>;

/// Opens the socket, and keeps a second handle on it, with which it can be closed behind the library's back.
///
/// Runs on the library's own thread, which may wait for a name.
async fn open(uri: &AMQPUri, runtime: &async_rs::TokioRuntime, keep: &Mutex<Option<TcpStream>>) -> io::Result<Stream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (uri.authority.host.as_str(), uri.authority.port).to_socket_addrs()? {
        match AsyncTcpStream::connect(runtime, address).await {
            Ok(stream) => {
                if let AsyncTcpStream::Plain(plain) = &stream {
                    *keep.lock() = Some(TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?));
                }
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
