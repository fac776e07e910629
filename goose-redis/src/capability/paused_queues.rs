//! Pausing queues: a field of each queue's `meta`, which fetches read.

use std::sync::Arc;

use fred::bytes::Bytes;
use goose_core::broker::capability::PausedQueues;
use goose_core::{BoxFuture, QueueName, Result};

use crate::RedisBroker;
use crate::broker::Inner;
use crate::connection::Lane;
use crate::scripts::{PAUSE, SERVE};
use crate::settle;
use crate::together::together;

/// How many queues are asked at the same time.
const AT_ONCE: usize = 100;

impl Inner {
    async fn set_paused(&self, queue: &QueueName, what: &'static [u8]) -> Result<bool> {
        let k = self.names.queue(queue);
        let reply = self.link.eval(Lane::Data, &PAUSE, vec![k.meta, k.wake], vec![Bytes::from_static(what)]).await?;
        Ok(reply.into_int()? == 1)
    }

    async fn paused_queues(&self) -> Result<Vec<QueueName>> {
        let (all, mut paused) = (self.queue_names().await?, Vec::new());
        for some in all.chunks(AT_ONCE) {
            let asked = some.iter().map(|queue| {
                let meta = self.names.queue(queue).meta;
                self.link.command(Lane::Data, "HEXISTS", Some(meta), vec![Bytes::from_static(b"paused")])
            });
            for (queue, answer) in some.iter().zip(together(asked).await) {
                if answer?.into_int()? == 1 {
                    paused.push(queue.clone());
                }
            }
        }
        Ok(paused)
    }

    /// What the sessions of this handle have claimed of paused queues and nobody has taken goes back. It is done on the
    /// broker's own thread, to the end also when the caller does not wait for that.
    async fn withhold(self: &Arc<Self>, queues: &[QueueName]) {
        for session in self.sessions() {
            // In the order of the claims, whichever queue they are of.
            let back: Vec<_> = queues.iter().flat_map(|queue| session.withhold(queue)).collect();
            if !back.is_empty() {
                let inner = Arc::clone(self);
                let task = async move { settle::hand_back(&inner, &session, &back).await };
                let _ = self.link.spawn(Box::pin(task)).await;
            }
        }
    }
}

impl PausedQueues for RedisBroker {
    fn pause<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            // First, so that no paused queue is unknown.
            let name = queue.as_str().to_owned().into();
            self.inner.link.eval(Lane::Data, &SERVE, vec![self.inner.names.queues()], vec![name]).await?;
            let is_new = self.inner.set_paused(queue, b"p").await?;
            self.inner.withhold(std::slice::from_ref(queue)).await;
            Ok(is_new)
        })
    }

    fn resume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.inner.set_paused(queue, b"r"))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        Box::pin(async move {
            let paused = self.inner.paused_queues().await?;
            self.inner.withhold(&paused).await;
            Ok(paused)
        })
    }
}
