//! Several calls on their way at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Waits for all of them; the answers are in the order of the calls.
pub(crate) async fn together<F: Future>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<Pin<Box<F>>> = calls.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<F::Output>> = calls.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut all = Poll::Ready(());
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match call.as_mut().poll(cx) {
                    Poll::Ready(came) => *answer = Some(came),
                    Poll::Pending => all = Poll::Pending,
                }
            }
        }
        all
    })
    .await;
    answers.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn answers_keep_the_order_of_the_calls_whichever_comes_first() {
        let (calls, waits): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<u32>()).unzip();
        let all = tokio::spawn(together(waits));
        for (n, call) in (0..).zip(calls).collect::<Vec<_>>().into_iter().rev() {
            call.send(n).unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(all.await.unwrap(), [Ok(0), Ok(1), Ok(2)]);
        assert!(together(Vec::<oneshot::Receiver<u32>>::new()).await.is_empty());
    }
}
