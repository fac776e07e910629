//! The consumers of a channel: made and cancelled, and what they receive.
//!
//! All frames of a change are on their way together, so it costs one round trip. After that one more question is asked:
//! when it is answered, everything that the server had for a new consumer is here. A classic queue sends it before it
//! says that the consumer is there, and a quorum queue right behind. What it had for one that was cancelled may be lost: the client
//! library drops what comes behind the answer. Tags tell.

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
    /// Consumers were made, by slot and number, or cancelled, and all that the server had for them has come.
    Proved(Vec<(usize, u64)>),
    /// The channel can be used no more.
    Failed(Error),
    /// The same, when consumers were to be made.
    Refused(Error),
    /// There is a new channel, or there is none.
    Connected(Result<Arc<dyn Channel>>),
    /// The queue of a consumer that the server had cancelled is there again.
    Restored(usize),
    /// It is not, yet.
    CannotRestore(Error),
    /// What was not handed out is back at the end, or some of it is not.
    HandedBack(Result<()>),
    /// What was handed out is.
    Released(Result<()>),
}

/// What one consumer receives.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    is_cancelled: bool,
    deliveries: Box<dyn Deliveries>,
}

/// The consumers of one queue, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Wire {
    streams: Vec<Stream>,
}

/// Consumers to cancel, and one to make.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) slot: usize,
    /// Their numbers.
    pub(super) cancel: Vec<u64>,
    /// Number and limit.
    pub(super) make: Option<(u64, u16)>,
}

impl Wire {
    /// Whether nothing can come any more.
    pub(super) fn is_silent(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn connect(&mut self, stream: Stream) {
        self.streams.push(stream);
    }

    /// Collects what has come, and which consumers came to their end.
    pub(super) fn poll(
        &mut self,
        slot: usize,
        into: &mut Vec<(Source, Delivered)>,
        ended: &mut Vec<Ended>,
        context: &mut Context<'_>,
    ) {
        self.streams.retain_mut(|stream| {
            let is_over = stream.poll(slot, into, context).is_ready();
            if is_over {
                ended.push(Ended { slot, number: stream.number, by_the_server: !stream.is_cancelled });
            }
            !is_over
        });
    }
}

/// A consumer that came to its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) slot: usize,
    pub(super) number: u64,
    /// We had not cancelled it.
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
    cancelled: Vec<Begun<Result<()>>>,
    made: Option<Made>,
}

struct Made {
    number: u64,
    limited: Begun<Result<()>>,
    consumed: Begun<Result<Box<dyn Deliveries>>>,
}

/// Begins changes; what is returned waits for the answers and tells what came of them.
pub(super) fn change(
    channel: &Arc<dyn Channel>,
    wires: &mut [Wire],
    changes: Vec<Change>,
    queues: &[String],
    tell: UnboundedSender<(u64, Event)>,
    generation: u64,
) -> impl Future<Output = ()> + Send + use<> {
    let start = |change: Change| start(channel, &mut wires[change.slot], &change, &queues[change.slot]);
    let steps: Vec<Step> = changes.into_iter().map(start).collect();
    let channel = Arc::clone(channel);
    async move {
        let finish = async {
            let (mut opened, mut numbers) = (Vec::new(), Vec::new());
            for step in steps {
                for cancelled in step.cancelled {
                    cancelled.await?;
                }
                if let Some(Made { number, limited, consumed }) = step.made {
                    limited.await?;
                    opened.push((step.slot, Stream { number, is_cancelled: false, deliveries: consumed.await? }));
                    numbers.push((step.slot, number));
                }
            }
            let _ = tell.send((generation, Event::Opened(opened)));
            channel.round_trip().await?;
            let _ = tell.send((generation, Event::Proved(numbers)));
            Ok(())
        };
        if let Err(error) = finish.await {
            let _ = tell.send((generation, Event::Refused(error)));
        }
    }
}

fn tag(number: u64) -> String {
    format!("goose-{number}")
}

fn start(channel: &Arc<dyn Channel>, wire: &mut Wire, change: &Change, queue: &str) -> Step {
    let mut cancelled = Vec::with_capacity(change.cancel.len());
    for stream in wire.streams.iter_mut().filter(|stream| change.cancel.contains(&stream.number)) {
        stream.is_cancelled = true;
        let (channel, tag) = (Arc::clone(channel), tag(stream.number));
        cancelled.push(begin(Box::pin(async move { channel.cancel(&tag).await })));
    }
    let made = change.make.map(|(number, limit)| {
        // The limit holds for the next consumer of the channel, and nothing may come in between.
        let limiting = Arc::clone(channel);
        let limited = begin(Box::pin(async move { limiting.limit_next_consumer(limit).await }));
        let (consuming, queue) = (Arc::clone(channel), queue.to_owned());
        let consumed = begin(Box::pin(async move { consuming.consume(&queue, &tag(number), &Table::new()).await }));
        Made { number, limited, consumed }
    });
    Step { slot: change.slot, cancelled, made }
}
