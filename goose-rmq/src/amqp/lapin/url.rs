//! Reading the URLs of servers. What they say of passwords is never repeated.

use std::fmt;

use goose_core::{Error, ErrorKind, Result};
use lapin::uri::AMQPUri;

use crate::options::RmqOptions;

/// Where a server is and how to get in.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) uri: AMQPUri,
    /// Host and port, for people.
    pub(super) place: String,
}

/// Without the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

const FORM: &str = "use amqp://user:password@host:port/virtual-host with special characters percent-encoded";

impl Server {
    /// Reads one URL.
    ///
    /// # Errors
    /// `InvalidInput`, in our words: those of the library repeat the whole URL.
    pub(super) fn read(url: &str, options: &RmqOptions) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid(format!("cannot be read, {FORM}")))?;
        let scheme = scheme.to_ascii_lowercase();
        match &*scheme {
            "amqp" => {}
            "amqps" if cfg!(feature = "tls") => {}
            "amqps" => return Err(invalid("asks for TLS, which needs the feature `tls` of goose-rmq")),
            _ => return Err(invalid(format!("begins with {scheme:?}, {FORM}"))),
        }
        // The library is lenient: a port it cannot read, a second @ or a bracket that is not closed are errors of its parser,
        // but an IPv6 address it takes for no host at all, and parameters that it does not know for nothing.
        let mut uri: AMQPUri =
            format!("{scheme}://{rest}").parse().map_err(|_| invalid(format!("cannot be read, {FORM}")))?;
        if let Some(parameter) = parameters(rest).find(|parameter| *parameter != "auth_mechanism") {
            let instead = match parameter {
                "heartbeat" => "; use RmqOptions::heartbeat",
                "connection_timeout" => "; use RmqOptions::connect_timeout",
                _ => "; only auth_mechanism is known",
            };
            return Err(invalid(format!("has the parameter {parameter:?}{instead}")));
        }
        let literal = literal_address(rest);
        if let Some(address) = literal {
            address.clone_into(&mut uri.authority.host);
        }
        if uri.authority.host.is_empty() {
            return Err(invalid(format!("names no host, {FORM}")));
        }
        // `amqp://host/` means the default virtual host to everybody who types it; there is hardly one without a name.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        if uri.vhost.len() > 255 {
            return Err(invalid("names a virtual host of more than 255 bytes"));
        }
        if let Some(username) = &options.username {
            username.clone_into(&mut uri.authority.userinfo.username);
        }
        if let Some(password) = &options.password {
            password.clone_into(&mut uri.authority.userinfo.password);
        }
        uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
        let place = match literal {
            Some(address) => format!("[{address}]:{}", uri.authority.port),
            None => format!("{}:{}", uri.authority.host, uri.authority.port),
        };
        Ok(Self { uri, place })
    }
}

fn invalid(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the URL of the server {what}"))
}

/// The names of what stands behind the `?`.
fn parameters(rest: &str) -> impl Iterator<Item = &str> {
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('#').next().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// The IPv6 address that stands for the host in brackets.
fn literal_address(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(address, _)| address)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(url: &str) -> Result<Server> {
        Server::read(url, &RmqOptions::new(url))
    }

    fn parts(url: &str) -> (String, u16, String, String, String) {
        let AMQPUri { authority, vhost, .. } = read(url).unwrap().uri;
        (authority.host, authority.port, vhost, authority.userinfo.username, authority.userinfo.password)
    }

    fn owned(host: &str, port: u16, vhost: &str, user: &str, password: &str) -> (String, u16, String, String, String) {
        (host.to_owned(), port, vhost.to_owned(), user.to_owned(), password.to_owned())
    }

    #[test]
    fn what_people_write_means_what_they_mean() {
        for url in ["amqp://h", "amqp://h/", "AMQP://h:5672/%2f", "amqp://guest:guest@h", "amqp://h/%2F"] {
            assert_eq!(parts(url), owned("h", 5672, "/", "guest", "guest"), "{url}");
        }
        assert_eq!(parts("amqp://u%40b:p%2fw@10.0.0.1:1/shop%2ftest"), owned("10.0.0.1", 1, "shop/test", "u@b", "p/w"));
        assert_eq!(parts("amqp://u:p@[::1]:7/v"), owned("::1", 7, "v", "u", "p"));
        assert_eq!(format!("{:?}", read("amqp://u:geheim@[fe80::1]/v").unwrap()), "[fe80::1]:5672");
        assert_eq!(
            read("amqp://h?auth_mechanism=AMQPLAIN").unwrap().uri.query.auth_mechanism.unwrap().name(),
            "AMQPLAIN"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_the_password() {
        let urls = [
            "",
            "localhost",
            "geheim",
            "redis://u:geheim@h",
            "http://u:geheim@h:15672",
            "amqp:u:geheim@h",
            "amqp://u:geheim@h:port",
            "amqp://u:geheim@h:99999",
            "amqp://u:geheim@",
            "amqp://u:geheim@[::1/v",
            "amqp://u:geheim@h?heartbeat=5",
            "amqp://u:geheim@h?connection_timeout=5",
            "amqp://u:geheim@h?cacertfile=x",
            "amqp://u:geheim@h?auth_mechanism=x",
            "amqp://u:gehe%FFim@h",
        ];
        for url in urls {
            let error = read(url).unwrap_err();
            let text = format!("{error:#} {error:?}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {text}");
            assert!(error.to_string().starts_with("the URL of the server ") && !text.contains("geh"), "{url}: {text}");
        }
        let long = read(&format!("amqp://h/{}", "v".repeat(256))).unwrap_err();
        assert!(long.to_string().contains("255 bytes"), "{long}");
        assert!(read("amqp://h?heartbeat=5").unwrap_err().to_string().contains("RmqOptions::heartbeat"));
    }

    #[test]
    fn the_options_say_the_heartbeat_and_may_say_who_asks() {
        let options = RmqOptions::new("").heartbeat(Duration::from_secs(7)).username("me").password("geheim");
        let server = Server::read("amqp://u:p@h", &options).unwrap();
        let userinfo = &server.uri.authority.userinfo;
        assert_eq!((&*userinfo.username, &*userinfo.password), ("me", "geheim"));
        assert_eq!(server.uri.query.heartbeat, Some(7));
        assert!(!format!("{options:?} {server:?}").contains("geheim"));
    }

    #[test]
    fn tls_needs_its_feature() {
        let read = read("amqps://h");
        if cfg!(feature = "tls") {
            assert_eq!(read.unwrap().uri.authority.port, 5671);
        } else {
            assert!(read.unwrap_err().to_string().contains("feature `tls`"));
        }
    }
}
