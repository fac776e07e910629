//! Calls whose frames are out before anybody waits for their answers.
//!
//! Frames go out in the order in which calls are polled for the first time. So whoever needs an order, or many calls on
//! their way at once, begins them one after another and waits later, or not at all.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use goose_core::BoxFuture;

/// A call that was polled once.
pub(super) enum Begun<T> {
    Ended(Option<T>),
    Running(BoxFuture<'static, T>),
}

/// Begins a call.
pub(super) fn begin<T>(mut call: BoxFuture<'static, T>) -> Begun<T> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Begun::Ended(Some(answer)),
        Poll::Pending => Begun::Running(call),
    }
}

// Nothing in it is ever pinned.
impl<T> Unpin for Begun<T> {}

impl<T> Future for Begun<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            Self::Ended(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Running(call) => call.as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn it_runs_at_once_and_can_be_awaited_later() {
        let (mut tell, mut told) = (None, None);
        for (slot, ends_at_once) in [(&mut tell, false), (&mut told, true)] {
            let (sender, receiver) = oneshot::channel::<u32>();
            let (began, mut has_begun) = oneshot::channel();
            if ends_at_once {
                sender.send(7).unwrap();
                *slot = Some((None, begin(Box::pin(receiver))));
            } else {
                let call = async move {
                    began.send(()).unwrap();
                    receiver.await
                };
                *slot = Some((Some(sender), begin(Box::pin(call))));
                has_begun.try_recv().expect("it was polled");
            }
        }
        let (sender, running) = tell.unwrap();
        let waiting = tokio::spawn(running);
        tokio::task::yield_now().await;
        sender.unwrap().send(5).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(5));
        assert_eq!(told.unwrap().1.await, Ok(7));
    }
}
