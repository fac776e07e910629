//! A server that is only known by its URL: one that somebody else runs, or one of ours from another process.

use std::collections::HashSet;
use std::io;

use crate::resp::Connection;

/// Where a server is, and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    host: String,
    port: u16,
    login: Option<(String, String)>,
    database: String,
}

impl Remote {
    /// The server of a `redis://[user:password@]host[:port][/database]` URL; `None` for any other URL.
    #[must_use]
    pub fn at(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("valkey://"))?;
        let rest = rest.split_once('?').map_or(rest, |(place, _)| place);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login.split_once(':')?), place),
            None => (None, rest),
        };
        let (place, database) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = place.rsplit_once(':').unwrap_or((place, "6379"));
        let login = login.map(|(user, password)| {
            let user = if user.is_empty() { "default" } else { user };
            (decode(user), decode(password))
        });
        let database = if database.is_empty() { "0" } else { database };
        Some(Self { host: host.to_owned(), port: port.parse().ok()?, login, database: database.to_owned() })
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut connection = Connection::open_to(&self.host, self.port)?;
        if let Some((user, password)) = &self.login {
            check(connection.ask(&["AUTH", user, password])?)?;
        }
        if self.database != "0" {
            check(connection.ask(&["SELECT", &self.database])?)?;
        }
        Ok(connection)
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Errors
    /// The server is not there, or does not let us in.
    pub fn ask(&self, words: &[&str]) -> io::Result<String> {
        self.connect()?.ask(words)
    }

    /// Removes every key whose name starts with this; of a cluster, those on this node.
    ///
    /// # Errors
    /// The server is not there, or refuses.
    pub fn remove_keys(&self, prefix: &str) -> io::Result<usize> {
        let mut connection = self.connect()?;
        let pattern = format!("{}*", prefix.replace(['*', '?', '[', ']', '\\'], "?"));
        let (mut cursor, mut keys) = ("0".to_owned(), HashSet::new());
        loop {
            let answer = check(connection.ask(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", "1000"])?)?;
            let mut lines = answer.lines();
            cursor = lines.next().unwrap_or("0").to_owned();
            keys.extend(lines.filter(|key| key.starts_with(prefix)).map(str::to_owned));
            if cursor == "0" {
                break;
            }
        }
        // One by one: on a cluster they are in several slots.
        for key in &keys {
            check(connection.ask(&["UNLINK", key])?)?;
        }
        Ok(keys.len())
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(answer: String) -> io::Result<String> {
    if answer.starts_with('-') { Err(io::Error::other(answer)) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;

    #[test]
    fn urls_are_read() {
        let remote = |host: &str, port, login: Option<(&str, &str)>, database: &str| Remote {
            host: host.to_owned(),
            port,
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            database: database.to_owned(),
        };
        for (url, expected) in [
            ("redis://localhost", remote("localhost", 6379, None, "0")),
            ("valkey://10.0.0.1:7000/3?x=y", remote("10.0.0.1", 7000, None, "3")),
            ("redis://:secret@db", remote("db", 6379, Some(("default", "secret")), "0")),
            ("redis://bob:a:b%40c%@db:1/", remote("db", 1, Some(("bob", "a:b@c%")), "0")),
        ] {
            assert_eq!(Remote::at(url), Some(expected), "{url}");
        }
        for url in ["rediss://localhost", "redis-cluster://localhost", "redis://localhost:port", "localhost"] {
            assert_eq!(Remote::at(url), None, "{url}");
        }
    }

    #[test]
    fn only_keys_with_the_prefix_are_removed() {
        let server = Server::start();
        for n in 0..2_000 {
            server.ask(&["SET", &format!("mine:{n}"), ""]);
        }
        server.ask(&["SET", "min", ""]);
        server.ask(&["SET", "not-mine:1", ""]);
        let remote = Remote::at(&server.url()).unwrap();
        assert_eq!(remote.remove_keys("mine:").unwrap(), 2_000);
        assert_eq!(remote.ask(&["DBSIZE"]).unwrap(), "2");
        let other = Remote::at(&format!("{}/1", server.url())).unwrap();
        assert_eq!(other.ask(&["DBSIZE"]).unwrap(), "0");
        assert!(Remote::at(&server.url().replace("//", "//bob:wrong@")).unwrap().ask(&["PING"]).is_err());
    }
}
