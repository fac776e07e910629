//! Real RabbitMQ servers: they start, take their settings, come back, and are managed.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::net::TcpStream;
use std::time::Duration;

use goose_services::eventually;
use goose_services::rabbit::Rabbit;

#[test]
fn a_server_is_managed_from_inside_and_by_its_own_program() {
    let rabbit = Rabbit::start();
    assert!(rabbit.url().starts_with("amqp://guest:guest@127.0.0.1:"), "{}", rabbit.url());
    assert_eq!(rabbit.eval("1 + 1"), "2");
    assert_eq!(rabbit.eval("<<\"text\">>."), "text");
    assert_eq!(rabbit.eval("node()"), format!("'{}'", rabbit.name()));
    let error = rabbit.try_eval("1 = 2").unwrap_err().to_string();
    assert!(error.contains("badmatch"), "{error}");
    assert_eq!(rabbit.ctl(&["eval", "3 + 4."]).trim(), "7");
    assert!(std::fs::read_to_string(format!("/proc/{}/comm", rabbit.pid())).unwrap().starts_with("beam"));
}

#[test]
fn a_server_hangs_ends_and_comes_back() {
    let mut rabbit = Rabbit::builder().config("consumer_timeout = 61000").start();
    let timeout = "{ok,T} = application:get_env(rabbit, consumer_timeout), T";
    assert_eq!(rabbit.eval(timeout), "61000");
    rabbit.pause();
    assert!(TcpStream::connect(("127.0.0.1", rabbit.port())).is_ok());
    rabbit.resume();
    let (first, port) = (rabbit.pid(), rabbit.port());
    rabbit.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    rabbit.restart();
    assert_eq!((rabbit.port(), rabbit.eval(timeout)), (port, "61000".to_owned()));
    assert_ne!(rabbit.pid(), first);
    rabbit.kill();
    eventually("it is gone", || TcpStream::connect(("127.0.0.1", port)).is_err());
    rabbit.restart();
    let _ = Duration::ZERO;
}
