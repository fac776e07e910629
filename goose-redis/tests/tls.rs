//! TLS against a real server, whose certificate an authority of our own has signed.
//!
//! `certificates/make.sh` says where the certificates come from. A server that was built without TLS is a visible skip.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod check;

use std::process::{Command, ExitCode};

use check::check;
use goose_core::broker::Broker;
use goose_core::{Error, ErrorKind};
use goose_redis::{RedisBroker, RedisOptions};
use goose_services::Server;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Builder;

const AUTHORITY: &[u8] = include_bytes!("certificates/authority.pem");
/// Has not signed the server's certificate.
const STRANGER: &[u8] = include_bytes!("certificates/stranger.pem");

/// One that speaks TLS on a second port, or none where the server was built without.
struct Encrypted {
    server: Server,
    port: u16,
}

impl Encrypted {
    fn start() -> Option<Self> {
        // Empty where it does not know the setting.
        if Server::start().ask(&["CONFIG", "GET", "tls-port"]).is_empty() {
            return None;
        }
        let port = goose_services::free_port();
        let file = |name: &str| format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
        let server = Server::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("authority.pem"),
        ]);
        Some(Self { server, port })
    }

    fn options(&self) -> RedisOptions {
        RedisOptions::new(format!("rediss://127.0.0.1:{}", self.port))
    }
}

async fn open(options: RedisOptions) -> goose_core::Result<RedisBroker> {
    options.open().await
}

async fn refused(options: RedisOptions) -> Error {
    open(options).await.map(|broker| format!("{broker:?}")).unwrap_err()
}

async fn the_authority_that_is_given_is_trusted(encrypted: &Encrypted) {
    let broker = open(encrypted.options().root_certificates(AUTHORITY)).await.unwrap();
    // Several authorities in one file, as such files are.
    let both = [STRANGER, AUTHORITY].concat();
    let second = open(encrypted.options().root_certificates(both)).await.unwrap();
    let list = encrypted.server.clients();
    let ours: Vec<_> = list.iter().filter(|client| client.contains("name=goose-")).collect();
    assert!(!ours.is_empty(), "{list:?}");
    // `laddr` is the port that the client came to.
    let place = format!("laddr=127.0.0.1:{} ", encrypted.port);
    assert!(ours.iter().all(|client| client.contains(&place)), "{ours:?}");
    broker.close().await.unwrap();
    second.close().await.unwrap();
}

async fn an_authority_nobody_knows_is_refused(encrypted: &Encrypted) {
    for options in [encrypted.options().root_certificates(STRANGER), encrypted.options()] {
        let error = refused(options).await;
        check(&error, ErrorKind::Misconfigured, &["certificate is not trusted", "UnknownIssuer"]);
    }
}

async fn a_certificate_for_another_place_is_refused(encrypted: &Encrypted) {
    let options = RedisOptions::new(format!("rediss://localhost:{}", encrypted.port));
    let error = refused(options.root_certificates(AUTHORITY)).await;
    check(&error, ErrorKind::Misconfigured, &["certificate is not trusted", "host name", "localhost"]);
}

async fn speaking_tls_where_there_is_none_and_the_other_way_round(encrypted: &Encrypted) {
    let plain = format!("rediss://127.0.0.1:{}", encrypted.server.port());
    let error = refused(RedisOptions::new(plain).root_certificates(AUTHORITY)).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Misconfigured), "{error:#}");
    let error = refused(RedisOptions::new(format!("redis://127.0.0.1:{}", encrypted.port))).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Misconfigured), "{error:#}");
}

/// Which file holds them is said by the environment, so it takes a process of its own: this program once more.
async fn without_certificates_given_those_of_the_system_are_trusted(encrypted: &Encrypted) {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, encrypted.port.to_string())
        .env("SSL_CERT_FILE", format!("{}/tests/certificates/authority.pem", env!("CARGO_MANIFEST_DIR")))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

const CHILD: &str = "GOOSE_TEST_TLS_PORT";

/// One test: a server of its own, and a runtime.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::ignorable_test(stringify!($name), || {
            let Some(encrypted) = Encrypted::start() else {
                return Ok::<_, Failed>(Completion::ignored_with("this server was built without TLS"));
            };
            Builder::new_current_thread().enable_all().build()?.block_on($name(&encrypted));
            Ok(Completion::Completed)
        })),*]
    };
}

fn main() -> ExitCode {
    if let Ok(port) = std::env::var(CHILD) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(open(RedisOptions::new(format!("rediss://127.0.0.1:{port}")))).unwrap();
        return ExitCode::SUCCESS;
    }
    let trials = trials![
        the_authority_that_is_given_is_trusted,
        an_authority_nobody_knows_is_refused,
        a_certificate_for_another_place_is_refused,
        speaking_tls_where_there_is_none_and_the_other_way_round,
        without_certificates_given_those_of_the_system_are_trusted,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
