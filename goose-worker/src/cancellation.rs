//! The signal that tells one attempt to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that can be waited for. It lives inside the context of its attempt, so that a job costs no
/// allocation and no lock shared with other jobs for it.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: AtomicBool,
    wake: Notify,
}

impl Cancellation {
    pub(crate) fn cancel(&self) {
        // Release pairs with the acquire below: whoever sees the flag sees what happened before it was set.
        self.cancelled.store(true, Ordering::Release);
        self.wake.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        let mut woken = std::pin::pin!(self.wake.notified());
        // Listens first and looks then, so that a cancel between the two is not missed.
        woken.as_mut().enable();
        if !self.is_cancelled() {
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn wakes_all_who_wait_and_those_who_come_late() {
        let cancellation = Arc::new(Cancellation::default());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cancellation = Arc::clone(&cancellation);
                tokio::spawn(async move { cancellation.cancelled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(!cancellation.is_cancelled() && waiters.iter().all(|waiter| !waiter.is_finished()));
        cancellation.cancel();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        cancellation.cancelled().await;
    }
}
