//! Acknowledgements that are written and never reach the server.

use goose_core::ErrorKind;
use goose_core::broker::Broker;
use goose_services::Proxy;

use super::*;

fn is_unknown(answer: &Result<(), SettleError>) -> bool {
    matches!(answer, Err(SettleError::Broker(error)) if error.kind() == ErrorKind::OutcomeUnknown)
}

async fn nothing_counts_that_the_server_has_not_heard(rabbit: &Rabbit, queue_type: QueueType) {
    let proxy = Proxy::to(rabbit.port());
    let url = rabbit.url().replace(&rabbit.port().to_string(), &proxy.port().to_string());
    let prefix = format!("unheard-{queue_type:?}");
    let change = |options: &mut RmqOptions| (options.prefix, options.queue_type) = (prefix.clone(), queue_type);
    let live = open(rabbit, change).await;
    enqueue(&live, 8).await;
    let doomed = open(rabbit, |options| {
        change(options);
        options.urls = vec![url];
    })
    .await;
    let consumer = session(&doomed, 0).await;
    let taken = take(&*consumer, 8).await;
    for delivery in &taken[..2] {
        settle(&*consumer, delivery, Verdict::Done).await.unwrap();
    }
    proxy.swallow_open();
    let ends = |deliveries: &[Delivery], last: Verdict| {
        let mut verdicts = vec![Verdict::Done; deliveries.len() - 1];
        verdicts.push(last);
        let ends = deliveries.iter().zip(verdicts);
        ends.map(|(delivery, verdict)| Settlement::new(delivery.receipt, verdict)).collect::<Vec<_>>()
    };
    let (done, mixed) = (ends(&taken[2..5], Verdict::Done), ends(&taken[5..], Verdict::Release));
    let answers = in_time("an answer", async { tokio::join!(consumer.settle(&done), consumer.settle(&mixed)) }).await;
    assert!(answers.0.iter().all(is_unknown), "{:?}", answers.0);
    assert!(answers.1[..2].iter().all(is_unknown), "{:?}", answers.1);
    drop(consumer);
    in_time("a close", doomed.close()).await.unwrap();

    let consumer = session(&live, 0).await;
    let mut again = numbers(&take(&*consumer, 6).await);
    again.sort_unstable();
    assert_eq!(again, [2, 3, 4, 5, 6, 7]);
    let succeeded = live.statistics().unwrap().totals().await.unwrap().succeeded;
    assert_eq!(succeeded, 2, "{queue_type:?}");
    live.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_when_the_server_has_heard_of_it() {
    let rabbit = Rabbit::start();
    nothing_counts_that_the_server_has_not_heard(&rabbit, QueueType::Classic).await;
    nothing_counts_that_the_server_has_not_heard(&rabbit, QueueType::Quorum).await;
}
