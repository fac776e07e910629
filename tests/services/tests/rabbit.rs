//! Real RabbitMQ servers: they start, take their settings, come back, and are managed.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use goose_services::rabbit::{Queue, Rabbit};

/// One for all tests that leave it as it is.
fn shared() -> &'static Rabbit {
    static SHARED: OnceLock<Rabbit> = OnceLock::new();
    SHARED.get_or_init(Rabbit::start)
}

/// What the system says about its process.
fn about(rabbit: &Rabbit, what: &str) -> String {
    let output = Command::new("ps").args(["-o", &format!("{what}="), "-p", &rabbit.pid().to_string()]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// Declares a queue from inside.
fn declare(rabbit: &Rabbit, vhost: &str, name: &str, kind: &str) {
    rabbit.eval(&format!(
        "{{_, _}} = rabbit_amqqueue:declare(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{name}\">>), true, false, \
         [{{<<\"x-queue-type\">>, longstr, <<\"{kind}\">>}}], none, <<\"test\">>)"
    ));
}

/// Does something with a channel, whose connection then stays open. RabbitMQ brings a client.
fn with_client(rabbit: &Rabbit, act: &str) {
    rabbit.eval(&format!(
        "{{module, _}} = code:ensure_loaded(amqp_auth_mechanisms), {{ok, Address}} = amqp_uri:parse(\"{}\"), \
         {{ok, Connection}} = amqp_connection:start(Address), \
         {{ok, Channel}} = amqp_connection:open_channel(Connection), {act}",
        rabbit.url()
    ));
}

#[test]
fn expressions_are_evaluated_inside_of_the_node() {
    let rabbit = shared();
    assert_eq!(rabbit.eval("1 + 1"), "2");
    assert_eq!(rabbit.eval("<<\"plain text\">>."), "plain text");
    assert_eq!(rabbit.eval("A = [1], {A, node()}"), format!("{{[1],'{}'}}", rabbit.name()));
    assert_eq!(rabbit.eval("{\"ab\", <<\"ab\">>, 'a b'}"), "{\"ab\",<<\"ab\">>,'a b'}");
    let long = "x".repeat(100_000);
    assert_eq!(rabbit.eval(&format!("<<\"{long}\">>")), long);
    for (wrong, reason) in [("1 = 2", "badmatch"), ("1 +", "syntax error"), ("exit(over)", "exit: over")] {
        let error = rabbit.try_eval(wrong).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert!(about(rabbit, "comm").contains("beam"), "{}", about(rabbit, "comm"));
}

#[test]
fn its_own_program_manages_it() {
    let rabbit = shared();
    assert_eq!(rabbit.ctl(&["eval", "3 + 4."]).trim(), "7");
    assert!(rabbit.ctl(&["status"]).contains(&rabbit.name()));
    // The client that other tests use is no plugin that anybody enables.
    assert_eq!(rabbit.eval("rabbit_plugins:active() -- [amqp_client]"), "[]");
}

#[test]
fn queues_are_listed_and_deleted() {
    let rabbit = shared();
    for kind in ["classic", "quorum", "stream"] {
        let name = format!("listed-{kind}");
        declare(rabbit, "/", &name, kind);
        let (vhost, kind) = ("/".to_owned(), kind.to_owned());
        let expected = Queue { vhost, name: name.clone(), kind, ready: 0, messages: 0, consumers: 0 };
        assert_eq!(rabbit.queue(&name), Some(expected));
        rabbit.delete_queue(&name);
        assert_eq!(rabbit.queue(&name), None);
    }
}

#[test]
fn messages_and_consumers_are_counted_as_they_are_now() {
    let rabbit = shared();
    for kind in ["classic", "quorum"] {
        let queue = format!("counted-{kind}");
        declare(rabbit, "/", &queue, kind);
        let message = "{amqp_msg, list_to_tuple(['P_basic' | lists:duplicate(14, undefined)]), <<>>}";
        with_client(
            rabbit,
            &format!(
                "Publish = {{'basic.publish', 0, <<>>, <<\"{queue}\">>, false, false}}, \
                 amqp_channel:call(Channel, {{'confirm.select', false}}), \
                 [amqp_channel:call(Channel, Publish, {message}) || _ <- lists:seq(1, 5)], \
                 true = amqp_channel:wait_for_confirms(Channel, 10), \
                 amqp_channel:call(Channel, {{'basic.qos', 0, 2, false}}), \
                 amqp_channel:subscribe(Channel, \
                     {{'basic.consume', 0, <<\"{queue}\">>, <<>>, false, false, false, false, []}}, spawn(timer, sleep, [60000]))"
            ),
        );
        // What is sent to a consumer is not counted before it has left.
        goose_services::eventually("it has got two of five", || {
            let queue = rabbit.queue(&queue).unwrap();
            (queue.ready, queue.messages, queue.consumers) == (3, 5, 1)
        });
    }
}

#[test]
fn virtual_hosts_users_and_policies_are_there_at_once() {
    let rabbit = shared();
    let url = rabbit.add_vhost("of tests/1");
    assert_eq!(url, rabbit.url().replace("%2f", "of%20tests%2f1"));
    declare(rabbit, "of tests/1", "apart", "classic");
    assert!(rabbit.queues().iter().any(|queue| queue.vhost == "of tests/1" && queue.name == "apart"));
    assert_eq!(rabbit.queue("apart"), None);

    rabbit.add_user("bob", "s\"cret", ["", "goose:.*", ".*"]);
    let may = |what: &str| {
        let resource = "rabbit_misc:r(<<\"/\">>, queue, <<\"goose:mail\">>)";
        rabbit.eval(&format!(
            "{{ok, User}} = rabbit_access_control:check_user_pass_login(<<\"bob\">>, <<\"s\\\"cret\">>), \
             catch rabbit_access_control:check_resource_access(User, {resource}, {what}, #{{}})"
        ))
    };
    assert_eq!((may("write"), may("read")), ("ok".to_owned(), "ok".to_owned()));
    assert!(may("configure").contains("access_refused"), "{}", may("configure"));

    declare(rabbit, "/", "short", "classic");
    rabbit.set_policy("shortness", "^short$", r#"{"max-length": 7}"#);
    let length = "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"short\">>)), \
        rabbit_policy:get(<<\"max-length\">>, Q)";
    assert_eq!(rabbit.eval(length), "7");
    rabbit.delete_queue("short");
}

#[test]
fn it_hangs_ends_and_comes_back_with_its_settings_and_data() {
    let settings = Rabbit::builder().config("consumer_timeout = 61000").erlang("-rabbit channel_tick_interval 1000");
    let mut rabbit = settings.start();
    let timeout = "[element(2, application:get_env(rabbit, Key)) || Key <- [consumer_timeout, channel_tick_interval]]";
    assert_eq!(rabbit.eval(timeout), "[61000,1000]");
    declare(&rabbit, "/", "kept", "classic");
    let (first, port) = (rabbit.pid(), rabbit.port());

    rabbit.pause();
    assert!(about(&rabbit, "stat").starts_with('T'), "{}", about(&rabbit, "stat"));
    rabbit.resume();
    assert!(rabbit.queue("kept").is_some());

    rabbit.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(rabbit.try_eval("ok").is_err());
    rabbit.restart();
    let second = rabbit.pid();
    rabbit.kill();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    rabbit.restart();
    assert!(first != second && second != rabbit.pid());
    assert_eq!((rabbit.port(), rabbit.eval(timeout)), (port, "[61000,1000]".to_owned()));
    assert!(rabbit.queue("kept").is_some());
}

#[test]
fn alarms_and_connections_and_encryption() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goose-redis/tests/certificates");
    let [authority, certificate, key] =
        ["authority.pem", "server.pem", "server.key"].map(|file| certificates.join(file));
    let rabbit = Rabbit::builder().tls(&authority, &certificate, &key).start();

    rabbit.memory_alarm(true);
    assert!(rabbit.eval("rabbit_alarm:get_alarms()").contains("memory"));
    rabbit.memory_alarm(false);
    rabbit.disk_alarm(true);
    assert!(rabbit.eval("rabbit_alarm:get_alarms()").contains("disk"));
    rabbit.disk_alarm(false);

    with_client(&rabbit, "Channel");
    goose_services::eventually("it is seen", || rabbit.connections() == 1);
    rabbit.close_connections();
    goose_services::eventually("it is closed", || rabbit.connections() == 0);

    // Erlang has a client.
    let connect = format!(
        "{{ok, Socket}} = ssl:connect({{127,0,0,1}}, {}, [{{verify, verify_peer}}, {{cacertfile, \"{}\"}}], \
         5000), ssl:close(Socket)",
        rabbit.tls_port().unwrap(),
        rabbit.folder().join("cacertfile").display(),
    );
    assert_eq!(rabbit.eval(&connect), "ok");
}
