//! A server that gives a session a channel, and no consumer.

use goose_core::ErrorKind;

use super::*;

const USER: &str = "worker";

fn permit(rabbit: &Rabbit, readable: &str) {
    rabbit.permit(USER, "/", [".*", ".*", readable]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_consumer_is_told_to_the_fetch_and_is_not_asked_for_without_end() {
    let rabbit = Rabbit::start();
    rabbit.add_user(USER, "secret", [".*", ".*", ".*"]);
    let broker = RmqOptions::new(rabbit.url()).username(USER).password("secret").open().await.unwrap();
    enqueue(&broker, 1).await;
    let consumer = session(&broker, 0).await;
    // Everything but the queues of jobs.
    permit(&rabbit, "^(?!goose/v1/queue/)");
    let began = Instant::now();
    let error = in_time("a word on it", consumer.fetch(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:#}");
    for _ in 0..4 {
        in_time("a word on it", consumer.fetch(1)).await.unwrap_err();
    }
    // 0, 0.2, 0.4, 0.8 s.
    assert!(began.elapsed() > Duration::from_secs(1), "five attempts within {:?}", began.elapsed());
    permit(&rabbit, ".*");
    let end = Instant::now() + AT_MOST;
    let came = loop {
        assert!(Instant::now() < end, "it does not go on");
        if let Ok(came) = in_time("a job", consumer.fetch(1)).await {
            break came;
        }
    };
    assert_eq!((came.len(), came[0].recoveries), (1, 0));
    broker.close().await.unwrap();
}
