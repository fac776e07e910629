//! Opening the broker: what is refused, with which kind and which words.

#![allow(clippy::panic, reason = "a failed expectation is how a test reports")]

mod check;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use check::check;
use goose_core::{Error, ErrorKind};
use goose_redis::RedisOptions;
use goose_services::{Cluster, Server, Watched, stranger};

async fn refused(options: RedisOptions) -> Error {
    match options.clone().open().await {
        Ok(broker) => panic!("it was to be refused: {options:?} {broker:?}"),
        Err(error) => error,
    }
}

async fn refused_url(url: impl Into<String>) -> Error {
    refused(RedisOptions::new(url)).await
}

#[tokio::test]
async fn a_server_that_cannot_be_reached() {
    let port = goose_services::free_port();
    let begun = Instant::now();
    let error = refused_url(format!("redis://127.0.0.1:{port}")).await;
    check(&error, ErrorKind::Unavailable, &["cannot connect", &format!("127.0.0.1:{port}"), "refused (os error"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let error = refused_url("redis://no-such-host.invalid").await;
    check(&error, ErrorKind::Unavailable, &["no-such-host.invalid:6379", "host and port"]);
    let error = refused_url(format!("redis-cluster://127.0.0.1:{port}")).await;
    check(&error, ErrorKind::Unavailable, &["cannot connect"]);
    let error = refused_url(format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=jobs")).await;
    check(&error, ErrorKind::Unavailable, &["sentinel"]);
}

#[tokio::test]
async fn somebody_else_listens_there() {
    let error = refused_url(format!("redis://127.0.0.1:{}", stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n"))).await;
    check(&error, ErrorKind::Misconfigured, &["does not speak the redis protocol"]);
    let begun = Instant::now();
    let error = refused_url(format!("redis://127.0.0.1:{}", stranger(b""))).await;
    check(&error, ErrorKind::Unavailable, &["does not answer"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// To the client crate the end of a connection that is being made looks like a wrong answer.
#[tokio::test]
async fn a_server_that_goes_away_while_a_connection_is_made() {
    for (url, last) in [("redis-cluster://HOST", "CLUSTER"), ("redis-sentinel://HOST?sentinelServiceName=jobs", "get-")]
    {
        let port = hanging_up_at(last, 1);
        let error = refused_url(url.replace("HOST", &format!("127.0.0.1:{port}"))).await;
        assert_ne!(error.kind(), ErrorKind::Misconfigured, "{error:#}");
    }
}

/// Listens, agrees to everything, and hangs up when that is said, so many times; from then on at once.
#[expect(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]
fn hanging_up_at(last: &'static str, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut left = times;
        for mut stream in listener.incoming().flatten() {
            let mut words = [0; 4096];
            while left > 0 {
                let Ok(n @ 1..) = stream.read(&mut words) else { break };
                if String::from_utf8_lossy(&words[..n]).contains(last) {
                    left -= 1;
                    break;
                }
                let _ = stream.write_all(b"+OK\r\n");
            }
        }
    });
    port
}

#[tokio::test]
async fn a_wrong_password_or_none() {
    let server = Server::with(&["--requirepass", "correct horse"]);
    let error = refused_url(server.url()).await;
    check(&error, ErrorKind::PermissionDenied, &["password"]);
    let error = refused(RedisOptions::new(server.url()).password("battery-staple")).await;
    check(&error, ErrorKind::PermissionDenied, &["refuses the user name or the password"]);
    assert!(!format!("{error:?}").contains("battery"), "{error:?}");
    RedisOptions::new(server.url()).password("correct horse").open().await.unwrap();
    let url = format!("redis://default:correct%20horse@127.0.0.1:{}", server.port());
    RedisOptions::new(url).open().await.unwrap();

    let open = Server::start();
    RedisOptions::new(open.url()).password("unneeded").open().await.unwrap();
}

/// What is said when a right is missing. That those of the documentation are enough is tested in `faults_redis`.
#[tokio::test]
async fn a_user_with_the_least_rights() {
    let server = Server::start();
    let rights = "on >secret resetkeys ~goose:* resetchannels -@all +@hash +@list +@set +@sortedset +evalsha +script|load \
                  +info +time +bzpopmin +unlink +pexpire +select";
    // Without one right. A subcommand cannot be taken away everywhere, only not be given.
    let set_without = |right: &str| {
        let mut words = vec!["ACL", "SETUSER", "worker", "reset"];
        words.extend(rights.split_whitespace().filter(|given| given.strip_prefix('+') != Some(right)));
        let taken = format!("-{right}");
        if !right.is_empty() && !right.contains('|') {
            words.push(&taken);
        }
        assert_eq!(server.ask(&words), "OK");
    };
    let options = || RedisOptions::new(server.url()).username("worker").password("secret").database(1);
    set_without("");
    options().open().await.unwrap();
    for (right, words) in [
        ("evalsha", "EVALSHA"),
        ("script|load", "SCRIPT"),
        ("info", "INFO"),
        ("bzpopmin", "BZPOPMIN"),
        ("time", "EVALSHA"),
        ("@hash", "EVALSHA"),
        ("select", "cannot connect"),
    ] {
        set_without(right);
        check(&refused(options()).await, ErrorKind::PermissionDenied, &[words, "docs/brokers/redis.md"]);
    }
    set_without("");
    check(&refused(options().prefix("shop")).await, ErrorKind::PermissionDenied, &["EVALSHA"]);
    let error = refused(options().password("wrong")).await;
    check(&error, ErrorKind::PermissionDenied, &["user name or the password"]);
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn a_server_that_would_lose_jobs() {
    let server = Server::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    check(&refused_url(server.url()).await, ErrorKind::Misconfigured, &["allkeys-lru", "noeviction"]);
    RedisOptions::new(server.url()).allow_eviction(true).open().await.unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    RedisOptions::new(server.url()).open().await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_exist() {
    let server = Server::with(&["--databases", "4"]);
    check(&refused_url(format!("{}/4", server.url())).await, ErrorKind::Misconfigured, &["no database of this number"]);
    RedisOptions::new(format!("{}/3", server.url())).open().await.unwrap();
}

#[tokio::test]
async fn a_server_without_lua() {
    for command in ["SCRIPT", "EVALSHA"] {
        let server = Server::with(&["--rename-command", command, ""]);
        check(&refused_url(server.url()).await, ErrorKind::Misconfigured, &[command, "Lua"]);
    }
}

#[tokio::test]
async fn an_ordinary_server_where_the_url_promises_a_sentinel() {
    let server = Server::start();
    let url = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=jobs", server.port());
    check(&refused_url(url).await, ErrorKind::Misconfigured, &["is no sentinel", "redis:// url"]);
}

#[tokio::test]
async fn a_server_in_another_role_than_the_url_says() {
    let node = Server::with(&["--cluster-enabled", "yes"]);
    check(&refused_url(node.url()).await, ErrorKind::Misconfigured, &["use a redis-cluster:// url"]);
    let single = Server::start();
    let url = format!("redis-cluster://127.0.0.1:{}", single.port());
    check(&refused_url(url).await, ErrorKind::Misconfigured, &["use a redis:// url"]);

    let watched = Watched::start();
    check(&refused_url(watched.replica.url()).await, ErrorKind::Misconfigured, &["read-only replica"]);
    check(&refused_url(watched.sentinels[0].url()).await, ErrorKind::Misconfigured, &["redis-sentinel://"]);
    let url = watched.url().replace("=jobs", "=others");
    check(&refused_url(url).await, ErrorKind::Misconfigured, &["sentinelServiceName"]);
    RedisOptions::new(watched.url()).open().await.unwrap();
}

/// One seed of several is enough, whichever it is.
#[tokio::test]
async fn seeds_that_are_gone_or_hang() {
    // No nodes at all but paused servers, which accept and never answer. They come first in every order.
    let hung = [Server::start(), Server::start()];
    hung.iter().for_each(Server::pause);
    let cluster = Cluster::start(3, false);
    let dead = goose_services::free_port();
    let ports = [hung[0].port(), hung[1].port(), dead, cluster.nodes[1].port()];
    let nodes = ports.map(|port| format!("node=127.0.0.1:{port}")).join("&");
    let url = format!("redis-cluster://127.0.0.1:{}?{nodes}", cluster.nodes[0].port());
    RedisOptions::new(url).open().await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_connected() {
    let nowhere = || RedisOptions::new("redis://127.0.0.1:1");
    check(&refused(nowhere().prefix("a b")).await, ErrorKind::InvalidInput, &["prefix"]);
    check(&refused(nowhere().lease(Duration::ZERO)).await, ErrorKind::InvalidInput, &["lease"]);
    check(&refused(nowhere().username("me")).await, ErrorKind::InvalidInput, &["password"]);
    check(&refused_url("localhost").await, ErrorKind::InvalidInput, &["redis://", "valkey may stand for redis"]);
    check(&refused_url("redis-cluster://127.0.0.1:1/2").await, ErrorKind::InvalidInput, &["database 0"]);
}
