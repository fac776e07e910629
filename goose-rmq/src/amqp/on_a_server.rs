//! The seam on a real server: what its doc comments promise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goose_core::{Error, ErrorKind};
use goose_services::rabbit::Rabbit;
use tokio::runtime::Runtime;

use super::lapin::Connector;
use super::link::Link;
use super::*;
use crate::options::RmqOptions;

struct Stage {
    runtime: Runtime,
    rabbit: Rabbit,
}

impl Stage {
    fn new() -> Self {
        Self::on(Rabbit::start())
    }

    fn on(rabbit: Rabbit) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, rabbit }
    }

    async fn link(&self, role: Role) -> Arc<Link> {
        let options = RmqOptions::new(self.rabbit.url()).heartbeat(Duration::from_secs(1));
        let connect: Arc<dyn Connect> = Arc::new(Connector::new(&options).unwrap());
        Link::open(connect, role, Duration::from_secs(10), 1, self.runtime.handle()).await.unwrap()
    }
}

fn message(queue: &str, id: &str) -> Outgoing {
    let headers = Table::from([("x".to_owned(), Value::Int(7))]);
    let (routing_key, message_id) = (queue.to_owned(), id.to_owned());
    Outgoing { exchange: "".into(), routing_key, message_id, priority: 9, headers, body: Arc::from(*b"body") }
}

async fn declared(link: &Link, queue: &str) -> Arc<dyn Channel> {
    let channel = link.channel().await.unwrap();
    channel.declare_queue(queue, Lifetime::Durable, &Table::new()).await.unwrap();
    channel
}

async fn filled(link: &Link, queue: &str, messages: usize) -> Arc<dyn Channel> {
    let channel = declared(link, queue).await;
    channel.confirm().await.unwrap();
    for n in 0..messages {
        let word = channel.publish(&message(queue, &n.to_string())).await.unwrap();
        assert!(matches!(word, Confirmation::Acked { returned: None }), "{word:?}");
    }
    channel
}

async fn ready(link: &Link, queue: &str) -> u64 {
    link.channel().await.unwrap().inspect_queue(queue).await.unwrap().unwrap().ready
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_server() {
    let stage = Stage::new();
    stage.runtime.block_on(async {
        what_is_published_arrives_as_it_was(&stage).await;
        a_cancelled_consumer_gives_out_what_it_had_and_ends(&stage).await;
        a_consumer_ends_with_its_queue(&stage).await;
        one_ack_is_for_all_before(&stage).await;
        a_refusal_ends_the_channel_and_nothing_else(&stage).await;
        what_is_exclusive_is_refused_to_others(&stage).await;
        a_closed_channel_sends_nothing(&stage).await;
        a_message_that_cannot_be_routed_comes_back(&stage).await;
        what_was_cut_off_is_given_to_others_at_once(&stage).await;
        a_connection_that_the_server_closes_is_made_again(&stage).await;
        a_server_that_hangs_is_found_out(&stage).await;
        closing_ends_what_waits_for_a_channel(&stage).await;
    });
}

async fn what_is_published_arrives_as_it_was(stage: &Stage) {
    let link = stage.link(Role::Consume).await;
    let channel = filled(&link, "arrives", 1).await;
    let mut deliveries = channel.consume("arrives", "tag", &Table::new()).await.unwrap();
    let delivered = deliveries.next().await.unwrap();
    assert_eq!((delivered.message_id.as_deref(), &*delivered.body), (Some("0"), &b"body"[..]));
    assert_eq!(delivered.headers, Table::from([("x".to_owned(), Value::Int(7))]));
    assert!(!delivered.redelivered);
    channel.close().await.unwrap();
    let channel = link.channel().await.unwrap();
    let again = channel.consume("arrives", "tag", &Table::new()).await.unwrap().next().await.unwrap();
    assert!(again.redelivered);
    channel.ack(again.tag, false).await.unwrap();
    channel.round_trip().await.unwrap();
    link.close().await;
}

async fn a_cancelled_consumer_gives_out_what_it_had_and_ends(stage: &Stage) {
    let link = stage.link(Role::Consume).await;
    let channel = filled(&link, "cancelled", 20).await;
    channel.limit_next_consumer(5).await.unwrap();
    let mut deliveries = channel.consume("cancelled", "tag", &Table::new()).await.unwrap();
    let first = deliveries.next().await.unwrap();
    channel.cancel("tag").await.unwrap();
    let mut tags = vec![first.tag];
    while let Some(delivered) = deliveries.next().await {
        tags.push(delivered.tag);
    }
    assert_eq!(tags, [1, 2, 3, 4, 5], "the limit is that of the consumer");
    assert_eq!(ready(&link, "cancelled").await, 15);
    channel.close().await.unwrap();
    until("closing gives back", async || ready(&link, "cancelled").await == 20).await;
    link.close().await;
}

async fn a_consumer_ends_with_its_queue(stage: &Stage) {
    let link = stage.link(Role::Consume).await;
    let channel = declared(&link, "deleted").await;
    let mut deliveries = channel.consume("deleted", "tag", &Table::new()).await.unwrap();
    stage.rabbit.delete_queue("deleted");
    assert!(deliveries.next().await.is_none());
    channel.round_trip().await.unwrap();
    assert!(channel.is_open(), "the channel goes on");
    let missing = channel.inspect_queue("deleted").await.unwrap();
    assert_eq!(missing, None);
    link.close().await;
}

async fn one_ack_is_for_all_before(stage: &Stage) {
    let link = stage.link(Role::Consume).await;
    let channel = filled(&link, "multiple", 10).await;
    let mut deliveries = channel.consume("multiple", "tag", &Table::new()).await.unwrap();
    for _ in 0..10 {
        deliveries.next().await.unwrap();
    }
    channel.ack(7, true).await.unwrap();
    channel.close().await.unwrap();
    until("three come back", async || ready(&link, "multiple").await == 3).await;
    assert!(!channel.is_open());
    link.close().await;
}

async fn a_refusal_ends_the_channel_and_nothing_else(stage: &Stage) {
    let link = stage.link(Role::Control).await;
    let channel = declared(&link, "refused").await;
    let other = link.channel().await.unwrap();
    let args = Table::from([("x-max-length".to_owned(), Value::Int(1))]);
    let error = channel.declare_queue("refused", Lifetime::Durable, &args).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:#}");
    assert!(format!("{error:#}").contains("inequivalent arg 'x-max-length'"), "{error:#}");
    let error = channel.round_trip().await.unwrap_err();
    assert!(error.is_retryable() && !channel.is_open(), "{error:#}");
    other.round_trip().await.unwrap();
    assert_eq!(*link.epoch().borrow(), 1);
    assert_eq!(other.delete_queue("refused").await.unwrap(), 0);
    assert_eq!(other.delete_queue("refused").await.unwrap(), 0, "fine if there is none");
    link.close().await;
}

async fn what_is_exclusive_is_refused_to_others(stage: &Stage) {
    let (one, two) = (stage.link(Role::Control).await, stage.link(Role::Control).await);
    let channel = one.channel().await.unwrap();
    channel.declare_queue("lock", Lifetime::Exclusive, &Table::new()).await.unwrap();
    let other = two.channel().await.unwrap();
    let error = other.declare_queue("lock", Lifetime::Exclusive, &Table::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    one.close().await;
    until("it is free", async || {
        two.channel().await.unwrap().declare_queue("lock", Lifetime::Exclusive, &Table::new()).await.is_ok()
    })
    .await;
    two.close().await;
}

async fn a_closed_channel_sends_nothing(stage: &Stage) {
    let link = stage.link(Role::Publish).await;
    let channel = filled(&link, "closed", 1).await;
    channel.close().await.unwrap();
    let error = channel.publish(&message("closed", "late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:#}");
    assert!(channel.ack(1, false).await.unwrap_err().is_retryable());
    // Without confirms there is no word, and that must not look like one.
    let channel = link.channel().await.unwrap();
    let error = channel.publish(&message("closed", "unconfirmed")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:#}");
    // A name that does not fit on the wire.
    let error = channel.publish(&message(&"x".repeat(256), "long")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:#}");
    link.close().await;
}

async fn a_message_that_cannot_be_routed_comes_back(stage: &Stage) {
    let link = stage.link(Role::Publish).await;
    let channel = link.channel().await.unwrap();
    channel.confirm().await.unwrap();
    let word = channel.publish(&message("nowhere", "lost")).await.unwrap();
    assert!(matches!(&word, Confirmation::Acked { returned: Some(id) } if id == "lost"), "{word:?}");
    let to = Outgoing { exchange: "no such exchange".into(), ..message("a", "b") };
    let error = channel.publish(&to).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:#}");
    link.close().await;
}

async fn what_was_cut_off_is_given_to_others_at_once(stage: &Stage) {
    let (one, two) = (stage.link(Role::Consume).await, stage.link(Role::Consume).await);
    let channel = filled(&one, "cut", 10).await;
    let mut deliveries = channel.consume("cut", "tag", &Table::new()).await.unwrap();
    for _ in 0..10 {
        deliveries.next().await.unwrap();
    }
    let mut epoch = one.epoch();
    epoch.mark_unchanged();
    assert_eq!(ready(&two, "cut").await, 0);
    let began = Instant::now();
    one.abandon();
    assert!(epoch.has_changed().unwrap());
    until("they are back", async || ready(&two, "cut").await == 10).await;
    println!("back after {:?}", began.elapsed());
    assert!(deliveries.next().await.is_none());
    let error = channel.ack(10, true).await.unwrap_err();
    assert!(error.is_retryable() && !channel.is_open(), "{error:#}");
    assert_eq!(one.channel().await.unwrap_err().kind(), ErrorKind::Closed);
    two.close().await;
}

async fn a_connection_that_the_server_closes_is_made_again(stage: &Stage) {
    let link = stage.link(Role::Control).await;
    let channel = link.channel().await.unwrap();
    let mut epoch = link.epoch();
    stage.rabbit.close_connections();
    epoch.wait_for(|epoch| *epoch == 2).await.unwrap();
    assert!(channel.round_trip().await.unwrap_err().is_retryable());
    link.channel().await.unwrap().round_trip().await.unwrap();
    assert_eq!((link.last_error(), *epoch.borrow()), (None, 2));
    link.close().await;
}

async fn a_server_that_hangs_is_found_out(stage: &Stage) {
    let link = stage.link(Role::Control).await;
    let mut epoch = link.epoch();
    let began = Instant::now();
    stage.rabbit.pause();
    epoch.wait_for(|epoch| *epoch == 2).await.unwrap();
    let found = began.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&found), "{found:?} with a heartbeat of 1 s");
    let why = link.last_error().unwrap();
    assert!(why.contains("nothing for two heartbeats"), "{why}");
    stage.rabbit.resume();
    until("a new connection", async || link.channel().await.is_ok()).await;
    link.close().await;
}

async fn closing_ends_what_waits_for_a_channel(stage: &Stage) {
    let link = stage.link(Role::Control).await;
    stage.rabbit.pause();
    let waiting = tokio::spawn({
        let link = Arc::clone(&link);
        async move { link.channel().await.map(drop) }
    });
    let began = Instant::now();
    link.close().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let error: Error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unavailable), "{error:#}");
    assert_eq!(link.channel().await.unwrap_err().kind(), ErrorKind::Closed);
    stage.rabbit.resume();
}

#[test]
fn a_connection_without_channels_left_says_so_at_once() {
    let stage = Stage::on(Rabbit::builder().config("channel_max = 3").start());
    stage.runtime.block_on(async {
        let link = stage.link(Role::Consume).await;
        let mut channels = Vec::new();
        let began = Instant::now();
        let error = loop {
            match link.channel().await {
                Ok(channel) => channels.push(channel),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), channels.len()), (ErrorKind::Full, 3), "{error:#}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        channels.pop().unwrap().close().await.unwrap();
        until("one that was closed is free again", async || link.channel().await.is_ok()).await;
        link.close().await;
    });
}
