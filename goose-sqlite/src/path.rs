//! What is the path of a file, and what only looks like one.
//!
//! SQLite takes more names than paths: an empty one and `:memory:` are databases that are gone when they are closed, and
//! what begins with `file:` is a URI with settings that may mean the same. Opened like that, jobs would be acknowledged and
//! lost. And a path is where the address of a server is written by mistake: it would become an empty file of that name.

use std::fs;
use std::path::Path;

use goose_core::{Error, ErrorKind, Result};

/// Refuses what is no path of a file, by its words alone.
pub(crate) fn check_words(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        return invalid("the path is empty, name a file such as jobs.db".to_owned());
    }
    if bytes.contains(&0) {
        return invalid(format!("the path {path:?} contains a zero byte"));
    }
    // What is not text is no word of SQLite and no URL either.
    path.to_str().map_or(Ok(()), check_text)
}

fn check_text(path: &str) -> Result<()> {
    if path == ":memory:" || (path.starts_with("file:") && path.contains("memory")) {
        return invalid(format!("{path:?} is no file, for a database in memory use `SqliteBroker::in_memory()`"));
    }
    if path.starts_with("file:") {
        return invalid(format!(
            "{path:?} is a URI, give the path itself; for a database in memory use `SqliteBroker::in_memory()`"
        ));
    }
    if let Some(rest) = path.strip_prefix("sqlite:") {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        return invalid(format!("{path:?} is a URL, give the path itself: {rest:?}"));
    }
    if let Some(scheme) = scheme(path) {
        return invalid(format!("{path:?} is a URL and not the path of a file{}", broker_of(scheme, path)));
    }
    if let Some(port) = port(path) {
        let broker = match port {
            "5671" | "5672" => broker_of("amqp", path),
            _ => broker_of("redis", &format!("redis://{path}")),
        };
        return invalid(format!(
            "{path:?} is a host and a port and not the path of a file (else write ./{path}){broker}"
        ));
    }
    Ok(())
}

/// The scheme of a URL.
fn scheme(path: &str) -> Option<&str> {
    let (scheme, _) = path.split_once("://")?;
    let is_name = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_name.then_some(scheme)
}

/// The port, when the whole is a host and a port: names of files with a colon in them are fine otherwise.
fn port(path: &str) -> Option<&str> {
    let (host, port) = path.rsplit_once(':')?;
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || ".-_[]:".contains(c));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (is_host && is_port).then_some(port)
}

/// What to use instead.
fn broker_of(scheme: &str, url: &str) -> String {
    let scheme = scheme.to_ascii_lowercase();
    if scheme.starts_with("redis") || scheme.starts_with("valkey") {
        format!(", use `RedisBroker::connect({url:?})`")
    } else if scheme.starts_with("amqp") {
        ", use the broker for RabbitMQ".to_owned()
    } else {
        String::new()
    }
}

/// Refuses what is there and can hold no database: SQLite would try it for as long as it waits for other processes, or
/// wait for the other end of a pipe.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return invalid(format!("the folder {} does not exist, create it first", folder.display()));
    }
    let ends_like_a_folder =
        path.as_os_str().as_encoded_bytes().last().is_some_and(|end| std::path::is_separator(char::from(*end)));
    // What cannot be looked at is for SQLite to open or to refuse.
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => invalid(format!("{shown} is a folder, name a file in it")),
        Ok(found) if !found.is_file() => invalid(format!("{shown} is no regular file, jobs need one")),
        Err(_) if ends_like_a_folder => invalid(format!("{shown} names a folder, name a file in it")),
        _ => Ok(()),
    }
}

fn invalid(message: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{SqliteBroker, SqliteOptions};

    /// The words with which a path is refused, before anything is written.
    async fn refusal(path: impl AsRef<Path>) -> String {
        let began = Instant::now();
        let error = SqliteBroker::open(path.as_ref()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error:#}", path = path.as_ref());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} took {:?}", path.as_ref(), began.elapsed());
        format!("{error:#}")
    }

    #[tokio::test]
    async fn what_sqlite_would_keep_in_memory_is_refused() {
        for path in [":memory:", "file::memory:", "file:foo?mode=memory", "file:foo?mode=memory&cache=shared"] {
            let words = refusal(path).await;
            assert!(words.contains("use `SqliteBroker::in_memory()`"), "{words}");
        }
        for path in ["file:jobs.db", "file:///tmp/jobs.db", "file:jobs.db?vfs=unix-none", "file:"] {
            let words = refusal(path).await;
            assert!(words.contains("is a URI, give the path itself"), "{words}");
        }
        assert_eq!(refusal("").await, "the path is empty, name a file such as jobs.db");
        assert_eq!(SqliteOptions::new(":memory:").open().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn the_address_of_a_server_is_refused_with_the_broker_to_use() {
        for (path, broker) in [
            ("redis://localhost", "use `RedisBroker::connect(\"redis://localhost\")`"),
            ("REDISS://localhost:6379/1", "use `RedisBroker::connect("),
            ("valkey-cluster://localhost", "use `RedisBroker::connect("),
            ("localhost:6379", "use `RedisBroker::connect(\"redis://localhost:6379\")`"),
            ("[::1]:26379", "use `RedisBroker::connect("),
            ("redis.example.org:6379", "use `RedisBroker::connect("),
            ("amqp://guest@localhost", "use the broker for RabbitMQ"),
            ("localhost:5672", "use the broker for RabbitMQ"),
            ("https://example.org", "is a URL and not the path of a file"),
            ("sqlite://jobs.db", "give the path itself: \"jobs.db\""),
            ("sqlite:jobs.db", "give the path itself: \"jobs.db\""),
        ] {
            let words = refusal(path).await;
            assert!(words.contains(broker), "{words}");
            assert!(!Path::new(path).exists());
        }
    }

    #[test]
    fn a_colon_in_the_name_of_a_file_is_fine() {
        for path in ["./localhost:6379", "jobs:1.db", "a:b", "/tmp/a:1", "12:30 jobs", ":1", "my file:6379", "x:99999"]
        {
            check_words(Path::new(path)).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refusal(folder.path()).await.ends_with("is a folder, name a file in it"));
        assert!(refusal("..").await.ends_with("is a folder, name a file in it"));
        assert!(refusal(folder.path().join("new/")).await.ends_with("names a folder, name a file in it"));
        assert!(refusal(folder.path().join("no/jobs.db")).await.ends_with("does not exist, create it first"));
        assert!(refusal("a\0b").await.ends_with("contains a zero byte"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn devices_pipes_and_sockets_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("socket"), folder.path().join("link"));
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), Path::new("/dev/zero"), &socket, &link] {
            let words = refusal(path).await;
            assert!(words.ends_with("is no regular file, jobs need one"), "{words}");
        }
    }
}
