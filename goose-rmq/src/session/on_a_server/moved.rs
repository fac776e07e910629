//! A lease whose last queue cannot be deleted at once.

use super::*;

const USER: &str = "worker";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lease_leaves_behind_is_deleted_later() {
    let rabbit = Rabbit::start();
    let permit = |configure: &str| rabbit.permit(USER, "/", [configure, ".*", ".*"]);
    rabbit.add_user(USER, "secret", [".*", ".*", ".*"]);
    let mut options = RmqOptions::new(rabbit.url()).username(USER).password("secret");
    // Leases of 16 s, from 6.4 s on.
    (options.heartbeat, options.consumer_timeout) = (Duration::from_secs(8), Duration::from_secs(8));
    options.prefix = "moved".to_owned();
    let broker = RmqBroker::open(options).await.unwrap();
    let consumer = session(&broker, 0).await;
    enqueue(&broker, 1).await;
    let taken = take(&*consumer, 1).await.remove(0);
    let leases = || held(&rabbit, "moved").2;
    until("a lease", || leases().len() == 1).await;
    let first = leases().remove(0);
    permit(&format!("^(?!{first}$)"));
    until("another queue", || leases().len() == 2).await;
    permit(".*");
    until("the first queue is gone", || !leases().contains(&first)).await;
    assert!(consumer.holds(&taken.receipt), "it was never anybody else's");
    settle(&*consumer, &taken, Verdict::Done).await.unwrap();
    assert_eq!(held(&rabbit, "moved"), (0, 0, Vec::new()));
    broker.close().await.unwrap();
}
