//! The consumers of a channel: made, replaced and cancelled, and what they receive.
//!
//! Cancelling and making anew are on their way together, so a change costs one round trip, and what was sent to the old
//! consumer meanwhile still comes. After that one more question is asked: when it is answered, everything that the server
//! had for a new consumer is here. A classic queue sends it before it says that the consumer is there, and a
//! quorum queue right behind.

use std::sync::Arc;
use std::task::{Context, Poll};

use goose_core::{Error, Result};
use tokio::sync::mpsc::UnboundedSender;

use super::begun::{Begun, begin};
use super::intake::Source;
use crate::amqp::{Channel, Delivered, Deliveries, Table};

/// What happens to a session besides deliveries. Each carries the generation in which it happened.
#[derive(Debug)]
pub(super) enum Event {
    /// New consumers are there.
    Opened(Vec<(usize, Stream)>),
    /// All that the server had for these consumers, by slot and number, has come.
    Proved(Vec<(usize, u64)>),
    /// The channel can be used no more.
    Failed(Error),
    /// There is a new channel, or there is none.
    Connected(Result<Arc<dyn Channel>>),
    /// The queue of a consumer that the server had cancelled is there again.
    Restored(usize),
    /// It is not, yet.
    CannotRestore(Error),
    /// What was to be handed back at the end is, or some of it is not.
    HandedBack(Result<()>),
}

/// What one consumer receives.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    tag: String,
    deliveries: Box<dyn Deliveries>,
}

/// The consumers of one queue.
#[derive(Debug, Default)]
pub(super) struct Wire {
    current: Option<Stream>,
    /// Cancelled ones that may still have something.
    old: Vec<Stream>,
}

/// A consumer to make, in place of the one there is, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) slot: usize,
    pub(super) make: Option<(u64, u16)>,
}

impl Wire {
    /// Whether nothing can come any more.
    pub(super) fn is_silent(&self) -> bool {
        self.current.is_none() && self.old.is_empty()
    }

    pub(super) fn connect(&mut self, stream: Stream) {
        self.old.extend(self.current.replace(stream));
    }

    /// Collects what has come, and says which consumers came to their end.
    pub(super) fn poll(&mut self, slot: usize, into: &mut Vec<(Source, Delivered)>, context: &mut Context<'_>) -> Ends {
        let before = self.old.len();
        // What old ones have was sent first.
        self.old.retain_mut(|stream| stream.poll(slot, into, context).is_pending());
        let mut ends = Ends { of_old: self.old.len() < before, by_the_server: false };
        if let Some(current) = &mut self.current
            && current.poll(slot, into, context).is_ready()
        {
            self.current = None;
            ends.by_the_server = true;
        }
        ends
    }
}

/// Which consumers came to their end.
pub(super) struct Ends {
    /// One that we had cancelled.
    pub(super) of_old: bool,
    /// One that we had not.
    pub(super) by_the_server: bool,
}

impl Stream {
    /// Ready when nothing more will come.
    fn poll(&mut self, slot: usize, into: &mut Vec<(Source, Delivered)>, context: &mut Context<'_>) -> Poll<()> {
        let from = Source { slot, consumer: self.number };
        loop {
            match self.deliveries.poll_next(context) {
                Poll::Ready(Some(delivered)) => into.push((from, delivered)),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// A change whose frames are out.
struct Step {
    slot: usize,
    cancelled: Option<Begun<Result<()>>>,
    made: Option<Made>,
}

struct Made {
    number: u64,
    tag: String,
    limited: Begun<Result<()>>,
    consumed: Begun<Result<Box<dyn Deliveries>>>,
}

/// Begins changes; what is returned waits for the answers and tells what came of them.
pub(super) fn change(
    channel: &Arc<dyn Channel>,
    wires: &mut [Wire],
    changes: &[Change],
    queues: &[String],
    tell: UnboundedSender<(u64, Event)>,
    generation: u64,
) -> impl Future<Output = ()> + Send + use<> {
    let start = |change: &Change| start(channel, &mut wires[change.slot], *change, &queues[change.slot]);
    let steps: Vec<Step> = changes.iter().map(start).collect();
    let channel = Arc::clone(channel);
    async move {
        let finish = async {
            let (mut opened, mut numbers) = (Vec::new(), Vec::new());
            for step in steps {
                if let Some(cancelled) = step.cancelled {
                    cancelled.await?;
                }
                if let Some(Made { number, tag, limited, consumed }) = step.made {
                    limited.await?;
                    opened.push((step.slot, Stream { number, tag, deliveries: consumed.await? }));
                    numbers.push((step.slot, number));
                }
            }
            if !numbers.is_empty() {
                let _ = tell.send((generation, Event::Opened(opened)));
                channel.round_trip().await?;
            }
            // Also when there is nothing to prove: whoever waits for a wire to fall silent looks again.
            let _ = tell.send((generation, Event::Proved(numbers)));
            Ok(())
        };
        if let Err(error) = finish.await {
            let _ = tell.send((generation, Event::Failed(error)));
        }
    }
}

fn start(channel: &Arc<dyn Channel>, wire: &mut Wire, change: Change, queue: &str) -> Step {
    let cancelled = wire.current.take().map(|stream| {
        let (channel, tag) = (Arc::clone(channel), stream.tag.clone());
        wire.old.push(stream);
        begin(Box::pin(async move { channel.cancel(&tag).await }))
    });
    let made = change.make.map(|(number, limit)| {
        // The limit holds for the next consumer of the channel, and nothing may come in between.
        let limiting = Arc::clone(channel);
        let limited = begin(Box::pin(async move { limiting.limit_next_consumer(limit).await }));
        let (consuming, tag, queue) = (Arc::clone(channel), format!("goose-{number}"), queue.to_owned());
        let own_tag = tag.clone();
        let consumed = begin(Box::pin(async move { consuming.consume(&queue, &own_tag, &Table::new()).await }));
        Made { number, tag, limited, consumed }
    });
    Step { slot: change.slot, cancelled, made }
}
