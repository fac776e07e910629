//! TLS against a real server, whose certificate an authority of our own has signed.
//!
//! `certificates/make.sh` says where the certificates come from. They are those of the tests of goose-redis.

#![cfg(feature = "tls")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod check;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use check::check;
use goose_core::broker::Broker;
use goose_core::{Error, ErrorKind, Job, JobName, Payload, QueueName};
use goose_rmq::RmqOptions;
use goose_services::rabbit::Rabbit;
use goose_services::stranger;

const AUTHORITY: &[u8] = include_bytes!("certificates/authority.pem");
/// Has not signed the server's certificate.
const STRANGER: &[u8] = include_bytes!("certificates/stranger.pem");

/// The port of the child, which is this program once more.
const CHILD: &str = "GOOSE_TEST_TLS_PORT";

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "certificates", name].iter().collect()
}

fn encrypted() -> Rabbit {
    Rabbit::builder().tls(&file("authority.pem"), &file("server.pem"), &file("server.key")).start()
}

fn options(host: &str, port: u16) -> RmqOptions {
    RmqOptions::new(format!("amqps://{host}:{port}")).connect_timeout(Duration::from_secs(5))
}

async fn refused(options: RmqOptions) -> Error {
    match options.open().await {
        Ok(broker) => panic!("it was to be refused: {broker:?}"),
        Err(error) => error,
    }
}

async fn works(options: RmqOptions) {
    let broker = options.open().await.unwrap();
    // Larger than a record of TLS.
    let payload = Payload::message_pack(vec![7; 200_000]);
    let job = Job::new(JobName::new("a").unwrap(), QueueName::default(), payload);
    broker.enqueue(vec![job]).await.unwrap().remove(0).into_result().unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_tls() {
    if let Ok(port) = std::env::var(CHILD) {
        // With the certificates of the system, which the environment has put elsewhere.
        return works(options("127.0.0.1", port.parse().unwrap())).await;
    }
    let rabbit = encrypted();
    let port = rabbit.tls_port().unwrap();
    let here = || options("127.0.0.1", port);

    // The authority that is given is trusted; several may stand in one file.
    works(here().root_certificates(AUTHORITY)).await;
    works(here().root_certificates([STRANGER, AUTHORITY].concat())).await;

    // One that nobody knows is not, nor are those of the system where others are given.
    for options in [here().root_certificates(STRANGER), here()] {
        check(&refused(options).await, ErrorKind::Misconfigured, &["certificate is not trusted", "UnknownIssuer"]);
    }

    // A certificate is for one place.
    let error = refused(options("localhost", port).root_certificates(AUTHORITY)).await;
    check(&error, ErrorKind::Misconfigured, &["certificate is not trusted", "host name", "localhost"]);

    // What is no certificate is refused before anything is sent.
    let error = refused(here().root_certificates(*b"what is this?")).await;
    check(&error, ErrorKind::InvalidInput, &["PEM"]);

    // TLS where there is none, and none where there is TLS.
    let error = refused(options("127.0.0.1", rabbit.port()).root_certificates(AUTHORITY)).await;
    check(&error, ErrorKind::Misconfigured, &["does not speak TLS there", "amqp://"]);
    let error = refused(RmqOptions::new(format!("amqp://127.0.0.1:{port}"))).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Misconfigured), "{error:#}");
    check(&error, error.kind(), &["amqps://"]);
    let error =
        refused(options("127.0.0.1", stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")).root_certificates(AUTHORITY));
    check(&error.await, ErrorKind::Misconfigured, &["does not speak TLS there"]);

    // Which file has the system's certificates is said by the environment, so it takes another process.
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, port.to_string())
        .env("SSL_CERT_FILE", file("authority.pem"))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
