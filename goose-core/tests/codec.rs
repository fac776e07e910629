//! The envelope's promises: golden bytes, round trips, unknown fields, and no input that panics.

#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::time::Duration;

use goose_core::{
    Attempts, Backoff, ContentType, ErrorKind, Job, JobId, JobName, Parked, Payload, Priority, QueueName, RetryPolicy,
    Schedule, Timestamp, codec,
};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn plain() -> Job {
    let name = JobName::new("send-email").unwrap();
    let mut job = Job::new(name, QueueName::default(), Payload::message_pack(vec![0x91, 0x05]));
    job.id = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
    job.enqueued_at = Timestamp::from_millis(1_645_557_742_000);
    job
}

fn full() -> Job {
    let mut job = plain();
    job.queue = QueueName::new("mail").unwrap();
    job.args.content_type = ContentType::Json;
    job.schedule = Schedule::In(Duration::from_secs(900));
    job.cron_run_at = Some(Timestamp::from_millis(-1));
    job.priority = Priority::Front;
    job.retry.max_retries = 5;
    job.retry.backoff =
        Backoff::Exponential { base: Duration::from_secs(1), cap: Duration::from_secs(60), jitter: 0.5 };
    job.retry.retry_queue = Some(QueueName::new("retries").unwrap());
    job.retry.skip_dead_queue = true;
    job.attempts.record_failure(Timestamp::from_millis(1000), "no route");
    job.attempts.retry_count = 1;
    job.attempts.last_retried_at = Some(Timestamp::from_millis(2000));
    job.attempts.parked = Some(Parked::new(Timestamp::from_millis(3000), 2));
    job.timeout = Some(Duration::from_millis(1500));
    job.expires_at = Some(Timestamp::from_millis(4000));
    job.deadline = Some(Timestamp::from_millis(5000));
    job.batch_id = Some(JobId::from_bytes([7; 16]));
    job.unique_key = Some("k".into());
    job.tags = vec!["vip".into()];
    job.headers.insert("traceparent".into(), "00-1".into());
    job
}

/// A name, the job, and its envelope in hexadecimal.
type Golden = (&'static str, fn() -> Job, &'static str);

/// Bytes written by version 1. They must stay readable for ever: never edit a line here, only add some.
const GOLDEN: [Golden; 2] = [
    (
        "plain",
        plain,
        "92 01 87
         01 c410 017f22e279b07cc398c4dc0c0c07398f
         02 aa 73656e642d656d61696c
         03 a7 64656661756c74
         04 c402 9105
         06 cf 0000017f22e279b0
         0b 1b
         0c 91 00",
    ),
    (
        "full",
        full,
        "92 01 de0019
         01 c410 017f22e279b07cc398c4dc0c0c07398f
         02 aa 73656e642d656d61696c
         03 a4 6d61696c
         04 c402 9105
         05 01
         06 cf 0000017f22e279b0
         08 cf 000000d18c2e2800
         09 ff
         0a 01
         0b 05
         0c 94 02 ce3b9aca00 cf0000000df8475800 cb3fe0000000000000
         0d a7 72657472696573
         0e 01
         0f 01
         10 cd03e8
         11 cd07d0
         12 91 93 cd03e8 01 a8 6e6f20726f757465
         13 92 cd0bb8 02
         14 ce59682f00
         15 cd0fa0
         16 cd1388
         17 c410 07070707070707070707070707070707
         18 a1 6b
         19 91 a3 766970
         1a 81 ab 7472616365706172656e74 a4 30302d31",
    ),
];

#[test]
fn golden_envelopes_read_and_write_the_same() {
    for (name, job, golden) in GOLDEN {
        let golden = unhex(golden);
        assert_eq!(hex(&codec::encode(&job())), hex(&golden), "{name} is written differently");
        assert_eq!(codec::decode(&golden).unwrap(), job(), "{name} is read differently");
    }
}

#[test]
fn unknown_fields_survive_a_round_trip() {
    // Fields 90 (an array of a map), 700 (an extension) and 5000 (nil), as a newer version might write them.
    let extra = "5a 92 81 a161 c3 c0   cd02bc d4 05 aa   cd1388 c0";
    let mut envelope = unhex(GOLDEN[0].2);
    envelope[2] += 3;
    envelope.extend(unhex(extra));
    let mut job = codec::decode(&envelope).unwrap();
    assert!(!job.unknown_fields.is_empty());
    assert_eq!(hex(&codec::encode(&job)), hex(&envelope));
    // They stay when a worker changes the job and stores it again.
    job.attempts.retry_count = 3;
    let again = codec::decode(&codec::encode(&job)).unwrap();
    assert_eq!(again, job);
    assert!(hex(&codec::encode(&again)).ends_with(&hex(&unhex(extra))));
}

#[test]
fn damage_is_told_apart_from_news() {
    let golden = unhex(GOLDEN[0].2);
    let mut newer = golden.clone();
    newer[1] = 2;
    let error = codec::decode(&newer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooNew);
    assert_eq!(error.to_string(), "the envelope has version 2, this build reads version 1");

    let with = |at: usize, byte: u8| {
        let mut bytes = golden.clone();
        bytes[at] = byte;
        bytes
    };
    let mut twice = with(2, 0x88);
    twice.extend([0x0b, 0x05]);
    let mut trailing = golden.clone();
    trailing.push(0xc0);
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"hello, world".to_vec()),
        ("json", br#"{"id":1}"#.to_vec()),
        ("cut off", golden[..golden.len() - 1].to_vec()),
        ("trailing bytes", trailing),
        ("version zero", with(1, 0)),
        ("a field twice", twice),
        ("a field missing", {
            let mut bytes = golden[..golden.len() - 3].to_vec();
            bytes.truncate(bytes.len() - 13);
            bytes[2] = 0x84;
            bytes
        }),
        ("a name no queue can have", with(34, b' ')),
        ("four billion fields", unhex("92 01 df ffffffff")),
        ("four billion tags", unhex("92 01 81 19 dd ffffffff")),
    ] {
        let error = codec::decode(&bytes).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Decode, "{name}: {error}");
    }
}

#[test]
fn deep_nesting_neither_recurses_nor_explodes() {
    let mut bytes = unhex("92 01 81 5a");
    bytes.extend(std::iter::repeat_n(0x91, 1_000_000));
    assert_eq!(codec::decode(&bytes).unwrap_err().kind(), ErrorKind::Decode);
}

prop_compose! {
    fn times()(millis in any::<i64>()) -> Timestamp { Timestamp::from_millis(millis) }
}

fn durations() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn queues() -> impl Strategy<Value = QueueName> {
    "[A-Za-z0-9_.-]{1,120}".prop_map(|name| QueueName::new(name).unwrap())
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    prop_oneof![
        Just(Backoff::Ancestor),
        durations().prop_map(Backoff::Fixed),
        (durations(), durations(), 0.0..=1.0).prop_map(|(base, cap, jitter)| Backoff::Exponential {
            base,
            cap,
            jitter
        }),
        prop::collection::vec(durations(), 0..20).prop_map(Backoff::List),
    ]
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    (any::<u32>(), backoffs(), prop::option::of(queues()), any::<bool>()).prop_map(|(max, backoff, queue, skip)| {
        let mut policy = RetryPolicy::default();
        policy.max_retries = max;
        policy.backoff = backoff;
        policy.retry_queue = queue;
        policy.skip_dead_queue = skip;
        policy
    })
}

fn attempts() -> impl Strategy<Value = Attempts> {
    let failures = prop::collection::vec((times(), ".{0,30}"), 0..Attempts::HISTORY);
    let parked = prop::option::of((times(), any::<u32>()));
    (any::<u32>(), failures, prop::option::of(times()), parked).prop_map(|(count, failures, retried, parked)| {
        let mut attempts = Attempts::default();
        for (at, error) in failures {
            attempts.record_failure(at, error);
        }
        attempts.retry_count = count;
        attempts.last_retried_at = retried;
        attempts.parked = parked.map(|(since, times)| Parked::new(since, times));
        attempts
    })
}

fn schedules() -> impl Strategy<Value = Schedule> {
    prop_oneof![Just(Schedule::Now), times().prop_map(Schedule::At), durations().prop_map(Schedule::In)]
}

fn content_types() -> impl Strategy<Value = ContentType> {
    prop_oneof![Just(ContentType::MessagePack), Just(ContentType::Json), ".{0,20}".prop_map(ContentType::Other)]
}

prop_compose! {
    fn jobs()(
        identity in (any::<[u8; 16]>(), "[A-Za-z0-9_.:/-]{1,120}", queues(), times()),
        args in (content_types(), prop::collection::vec(any::<u8>(), 0..300)),
        when in (schedules(), prop::option::of(times()), any::<bool>()),
        history in (policies(), attempts()),
        limits in (prop::option::of(durations()), prop::option::of(times()), prop::option::of(times())),
        extras in (
            prop::option::of(any::<[u8; 16]>()),
            prop::option::of(".{0,20}"),
            prop::collection::vec(".{0,20}", 0..20),
            prop::collection::btree_map(".{0,20}", ".{0,20}", 0..20),
        ),
    ) -> Job {
        let (id, name, queue, enqueued_at) = identity;
        let mut job = Job::new(JobName::new(name).unwrap(), queue, Payload { content_type: args.0, bytes: args.1 });
        job.id = JobId::from_bytes(id);
        job.enqueued_at = enqueued_at;
        (job.schedule, job.cron_run_at) = (when.0, when.1);
        job.priority = if when.2 { Priority::Front } else { Priority::Normal };
        (job.retry, job.attempts) = history;
        (job.timeout, job.expires_at, job.deadline) = limits;
        job.batch_id = extras.0.map(JobId::from_bytes);
        (job.unique_key, job.tags, job.headers) = (extras.1, extras.2, extras.3);
        job
    }
}

proptest! {
    #[test]
    fn every_job_survives_a_round_trip(job in jobs()) {
        prop_assert_eq!(codec::decode(&codec::encode(&job)).unwrap(), job);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = codec::decode(&bytes);
    }

    /// Random bytes rarely get past the first field; damaged envelopes reach every branch.
    #[test]
    fn no_damage_panics(job in jobs(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = codec::encode(&job);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = codec::decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = codec::decode(&bytes);
    }

    /// Whatever is read is also written back in a form that reads the same, even from damaged input.
    #[test]
    fn what_decodes_re_encodes_to_the_same_job(job in jobs(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = codec::encode(&job);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = codec::decode(&bytes) {
            // A jitter that is not a number never equals itself; compare what is written.
            let written = codec::encode(&read);
            prop_assert_eq!(codec::encode(&codec::decode(&written).unwrap()), written);
        }
    }
}
