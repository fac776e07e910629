//! Making connections, to one server of the list after the other.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goose_core::{BoxFuture, Error, ErrorKind, Result};
use lapin::ConnectionProperties;
use lapin::uri::AMQPUri;

use super::classify;
use super::connection::LapinConnection;
use super::socket::{self, Socket};
use super::url::Server;
use crate::amqp::{Connect, Connection, Role};
use crate::hooks::{ConnectionEnd, Hooks, tell};
use crate::options::RmqOptions;

/// The servers of the options.
#[derive(Debug)]
pub(crate) struct Connector {
    servers: Vec<Server>,
    /// Which one is next, for each role: three that take turns would keep each other from some.
    next: [AtomicUsize; 3],
    name: String,
    timeout: Duration,
    hooks: Hooks,
    #[cfg(feature = "tls")]
    root_certificates: Option<Vec<u8>>,
}

impl Connector {
    /// Reads the URLs.
    ///
    /// # Errors
    /// `InvalidInput` for one that cannot be read, and for root certificates that cannot.
    pub(crate) fn new(options: &RmqOptions) -> Result<Self> {
        let servers = options.urls.iter().map(|url| Server::read(url, options)).collect::<Result<Vec<_>>>()?;
        #[cfg(feature = "tls")]
        if let Some(pem) = &options.root_certificates {
            super::tls::trusting(Some(pem))?;
        }
        // Not all programs with the same options begin with the same node.
        let first = usize::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
        Ok(Self {
            next: std::array::from_fn(|_| AtomicUsize::new(first)),
            servers,
            name: options.connection_name.clone(),
            timeout: options.connect_timeout,
            hooks: options.hooks.clone(),
            #[cfg(feature = "tls")]
            root_certificates: options.root_certificates.clone(),
        })
    }

    async fn connect_to(&self, server: &Server, role: Role) -> Result<LapinConnection> {
        let role = format!("{role:?}").to_lowercase();
        let name = format!("{}-{role}-{}", self.name, std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        // Dropped with this future if its time is over: then the library's thread ends, too.
        let socket = Socket::default();
        let (keep, timeout) = (socket.downgrade(), self.timeout);
        #[cfg(feature = "tls")]
        let tls = match server.uri.scheme {
            lapin::uri::AMQPScheme::AMQP => None,
            lapin::uri::AMQPScheme::AMQPS => Some(super::tls::trusting(self.root_certificates.as_deref())?),
        };
        let connecting = lapin::Connection::connector(
            server.uri.clone(),
            async_rs::Runtime::tokio_current(),
            async move |uri: AMQPUri, runtime: async_rs::TokioRuntime| {
                let stream = socket::open(&uri, &runtime, timeout, &keep).await?;
                #[cfg(feature = "tls")]
                if let Some(tls) = &tls {
                    return Ok::<_, lapin::Error>(stream.into_rustls(tls, &uri.authority.host).await?);
                }
                Ok::<_, lapin::Error>(stream)
            },
            properties,
        );
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        let connected = connected.map_err(|_| classify::silent(&server.place, self.timeout))?;
        let connection = connected.map_err(|error| classify::connecting(error, &server.place))?;
        Ok(LapinConnection::new(connection, socket))
    }
}

impl Connect for Connector {
    fn connect(&self, role: Role) -> BoxFuture<'_, Result<Arc<dyn Connection>>> {
        Box::pin(async move {
            let [publish, consume, control] = &self.next;
            let next = match role {
                Role::Publish => publish,
                Role::Consume => consume,
                Role::Control => control,
            };
            let next = next.fetch_add(1, Ordering::Relaxed);
            let server = next.checked_rem(self.servers.len()).and_then(|index| self.servers.get(index));
            let server =
                server.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no server is named, give its URL"))?;
            Ok(Arc::new(self.connect_to(server, role).await?) as Arc<dyn Connection>)
        })
    }

    fn ended(&self, role: Role, reason: &str, is_closed: bool) {
        tell(&self.hooks.shutdown, || ConnectionEnd::new(role, reason.to_owned(), is_closed));
    }
}
