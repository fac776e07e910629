//! Reading: from the first entry to the last, and then whatever comes.
//!
//! A connection that was lost is no loss: the next one begins with the last entry that was folded, and goes on behind it if
//! it is still that one. If it is not, the stream was cut meanwhile, or deleted and made again. Then all is read from the
//! beginning into a second state, which takes the place of the first when it is complete.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use goose_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::end;
use super::entry::{LastIds, no_stream};
use super::{Entry, Fold, NewEntry, OFFSET, Stream};
use crate::amqp::{Channel, Delivered, Deliveries, Table, Value};
use crate::error::closed;
use crate::publisher::PublishError;

/// How many entries the server sends ahead.
const AHEAD: u16 = 1000;

/// How many entries are folded and acknowledged at once; other tasks of the thread have a turn then.
const AT_ONCE: usize = 200;

/// The consumer's name, which only has to be unique on its channel.
const TAG: &str = "tail";

/// The pauses after errors. The link has its own, with jitter, for connections that cannot be made.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(5)];

/// An entry of our own is there, and nothing has come for so long: the server has lost our place. It does when it cuts off what it is
/// sending to a slow reader.
const STUCK: Duration = Duration::from_secs(5);

type Barrier = oneshot::Sender<()>;

/// Reads for as long as the broker lives. Errors are told to those who wait, and it begins again.
pub(super) async fn run<F: Fold>(stream: Arc<Stream<F>>, mut barriers: mpsc::UnboundedReceiver<Barrier>) {
    let mut reading = Reading { first: None, last: None, fresh: None, ids: LastIds::default(), waiting: Vec::new() };
    let mut pause = PAUSES[0];
    loop {
        let entries = stream.progress.borrow().entries;
        let ended = reading.on_one_connection(&stream, &mut barriers).await;
        let moved = stream.progress.borrow().entries != entries;
        pause = if moved { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
        let error = ended.err();
        if error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Closed) {
            stream.progress.send_modify(|progress| progress.is_over = true);
            return;
        }
        // Perhaps it is not there any more.
        stream.declared.store(0, Ordering::Release);
        if let Some(error) = &error {
            tracing::debug!(stream = stream.name, error = format!("{error:#}"), "reading a stream was interrupted");
        }
        stream.progress.send_modify(|progress| {
            progress.is_live = false;
            progress.failure = error.map(|error| (error.kind(), format!("{error:#}").into()));
        });
        tokio::time::sleep(pause).await;
    }
}

/// Where the reading is.
struct Reading<F> {
    /// The place of the first entry.
    first: Option<u64>,
    /// The last entry that was folded.
    last: Option<(u64, Option<String>)>,
    /// What is folded from the beginning again, while the state before still serves.
    fresh: Option<F>,
    ids: LastIds,
    /// Those who want to know when everything before has been read.
    waiting: Vec<Barrier>,
}

/// What became of an entry.
enum Step {
    Folded,
    /// The stream is not the one that was read before.
    AnotherStream,
}

impl<F: Fold> Reading<F> {
    /// Reads until the connection breaks or the stream turns out to be another one.
    async fn on_one_connection(
        &mut self,
        stream: &Arc<Stream<F>>,
        barriers: &mut mpsc::UnboundedReceiver<Barrier>,
    ) -> Result<()> {
        stream.ensure().await?;
        let channel = stream.wires.control.channel().await?;
        channel.limit_next_consumer(AHEAD).await?;
        let from = match &self.last {
            Some((offset, _)) => Value::Int(i64::try_from(*offset).unwrap_or(i64::MAX)),
            None => Value::Text("first".to_owned()),
        };
        let from = Table::from([(OFFSET.to_owned(), from)]);
        let consumed = channel.consume(&stream.name, TAG, &from).await;
        let mut deliveries = consumed.map_err(|error| not_here_yet(error, &stream.name))?;
        let mut expected = self.last.clone();
        // Its own entry, behind everything that is there: when it has come, everything has.
        let mark = NewEntry::mark();
        let end = Arc::clone(stream);
        let mark_id = mark.id.clone();
        let before = stream.confirmed();
        let mut marking = stream.wires.runtime.spawn(async move { end.append(&[mark]).await.pop() });
        let mut is_marked = false;
        let mut is_live = false;
        // While the server takes in nothing: where the stream ends.
        let mut asking = JoinSet::new();
        let mut end = None;
        let mut came = Instant::now();
        loop {
            if is_live && !self.waiting.is_empty() {
                self.pass_barriers(stream, &*channel, &mut *deliveries, barriers).await?;
            }
            tokio::select! {
                biased;
                barrier = barriers.recv() => self.waiting.extend(barrier),
                word = &mut marking, if !is_marked => {
                    is_marked = true;
                    match word {
                        Ok(Some(Err(PublishError::Blocked(reason)))) => {
                            tracing::debug!(stream = stream.name, reason, "cannot mark the end of a stream");
                            let stream = Arc::clone(stream);
                            asking.spawn(async move { end::last_place(&stream).await });
                        }
                        Ok(Some(Err(error))) => return Err(error.into()),
                        _ => {}
                    }
                }
                delivered = deliveries.next() => {
                    let Some(delivered) = delivered else {
                        if channel.is_open() {
                            // The server says that the stream is gone.
                            self.begin_again(stream);
                        }
                        return Ok(());
                    };
                    came = Instant::now();
                    let batch = ready(delivered, &mut *deliveries).await;
                    let has_mark = batch.iter().any(|delivered| delivered.message_id.as_ref() == Some(&mark_id));
                    if let Step::AnotherStream = self.fold(stream, &*channel, batch, &mut expected).await? {
                        let _ = channel.close().await;
                        self.begin_again(stream);
                        return Ok(());
                    }
                    if has_mark {
                        is_live = true;
                        // What stood before the mark has come, or has been cut off.
                        stream.expect_no_more(&before);
                        self.complete(stream);
                    }
                    tokio::task::yield_now().await;
                }
                () = tokio::time::sleep_until(came + STUCK) => {
                    if !stream.confirmed().is_empty() {
                        let _ = channel.close().await;
                        return Err(Error::new(ErrorKind::Unavailable, "the server sends nothing, though there is something"));
                    }
                    came = Instant::now();
                }
                Some(found) = asking.join_next() => end = Some(found.map_err(|_| closed())??),
            }
            // Not before the first entry has shown that it is the same stream, if there is one.
            if !is_live && end.is_some_and(|end| end.is_none() || (expected.is_none() && self.has_read(end))) {
                is_live = true;
                self.complete(stream);
            }
        }
    }

    /// Whether it has come to this place.
    fn has_read(&self, place: Option<u64>) -> bool {
        self.last.as_ref().map(|(last, _)| *last) >= place
    }

    /// Folds some entries, acknowledges them, and answers those who wait for them.
    async fn fold(
        &mut self,
        stream: &Stream<F>,
        channel: &dyn Channel,
        batch: Vec<Delivered>,
        expected: &mut Option<(u64, Option<String>)>,
    ) -> Result<Step> {
        let mut entries = Vec::with_capacity(batch.len());
        let mut last_tag = 0;
        for delivered in batch {
            let (tag, entry) = Entry::of(delivered, &stream.name)?;
            last_tag = tag;
            match expected.take() {
                Some((offset, id)) if offset == entry.offset && id == entry.id => {}
                Some(_) => return Ok(Step::AnotherStream),
                None => entries.push(entry),
            }
        }
        self.first = self.first.or_else(|| entries.first().map(|entry| entry.offset));
        if let Some(last) = entries.last() {
            self.last = Some((last.offset, last.id.clone()));
        }
        let count = u64::try_from(entries.len()).unwrap_or(0);
        let answers = self.fold_into_state(stream, &entries);
        // Frames are written in the order of first polls, so this is in time whatever comes next.
        channel.ack(last_tag, true).await?;
        {
            let mut own = stream.own.lock();
            for (id, answer) in answers {
                let waiting = own.remove(&id).and_then(|own| own.answer);
                if let (Some(waiting), Some(answer)) = (waiting, answer) {
                    let _ = waiting.send(answer);
                }
            }
        }
        stream.progress.send_modify(|progress| progress.entries = progress.entries.wrapping_add(count));
        Ok(Step::Folded)
    }

    /// Answers, by their ids, what our own kind of entries amounted to; nothing for those that were told before. They have been read
    /// back as well: one may be appended again after the first was read.
    fn fold_into_state(&mut self, stream: &Stream<F>, entries: &[Entry]) -> Vec<(String, Option<u64>)> {
        let mut guard = None;
        let state = match &mut self.fresh {
            Some(fresh) => fresh,
            None => &mut **guard.insert(stream.fold.write()),
        };
        let mut answers = Vec::new();
        for entry in entries {
            let answer = match self.ids.is_repeated(entry) {
                true => None,
                false if entry.is_mark() => Some(0),
                false => Some(state.fold(entry)),
            };
            answers.extend(entry.own_id().map(|id| (id.to_owned(), answer)));
        }
        answers
    }

    fn begin_again(&mut self, stream: &Stream<F>) {
        tracing::info!(stream = stream.name, "the stream was cut or made again, it is read from its beginning");
        (self.first, self.last, self.fresh, self.ids) = (None, None, Some(F::empty()), LastIds::default());
        // They may have gone with the old one, and nobody must wait for ever.
        stream.own.lock().clear();
    }

    /// Everything that was there when the connection was made has been folded.
    fn complete(&mut self, stream: &Stream<F>) {
        if let Some(fresh) = self.fresh.take() {
            let mut state = stream.fold.write();
            let before = std::mem::replace(&mut *state, fresh);
            state.succeed(before);
        }
        stream.fold.write().completed(&stream.name, self.first);
        stream.progress.send_modify(|progress| {
            progress.is_live = true;
            progress.failure = None;
        });
    }

    /// Lets those go on who wait until everything before their call is folded. The server answers on a channel in order,
    /// so behind what it has sent before.
    async fn pass_barriers(
        &mut self,
        stream: &Stream<F>,
        channel: &dyn Channel,
        deliveries: &mut dyn Deliveries,
        barriers: &mut mpsc::UnboundedReceiver<Barrier>,
    ) -> Result<()> {
        while let Ok(barrier) = barriers.try_recv() {
            self.waiting.push(barrier);
        }
        // Whatever goes wrong, they wait for the next connection.
        let passing = self.waiting.len();
        loop {
            channel.round_trip().await?;
            let mut came = 0;
            while let Some(batch) = already_there(deliveries, AT_ONCE).await {
                came += batch.len();
                self.fold(stream, channel, batch, &mut None).await?;
            }
            // With so many on their way the server may have waited for acknowledgements instead of sending all.
            if came < usize::from(AHEAD) / 2 {
                break;
            }
        }
        for barrier in self.waiting.drain(..passing) {
            let _ = barrier.send(());
        }
        Ok(())
    }
}

/// A stream can only be read on a node that has a copy of it. A moment after it was made none may have it.
fn not_here_yet(error: Error, name: &str) -> Error {
    if error.kind() != ErrorKind::Misconfigured {
        return error;
    }
    // What the server says since 3.9; what it says of a queue that is no stream is about the argument of the consumer.
    if !format!("{error:#}").contains("replica") {
        return no_stream(name).with_source(error);
    }
    let message = format!(
        "cannot read the stream {name} over the node of this connection; if that lasts, add a replica there: \
         rabbitmq-streams add_replica {name} NODE"
    );
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

/// One delivery and those that are there already.
async fn ready(first: Delivered, deliveries: &mut dyn Deliveries) -> Vec<Delivered> {
    let mut batch = vec![first];
    batch.extend(already_there(deliveries, AT_ONCE - 1).await.into_iter().flatten());
    batch
}

/// What is there without waiting; `None` if nothing is.
pub(super) async fn already_there(deliveries: &mut dyn Deliveries, limit: usize) -> Option<Vec<Delivered>> {
    let mut batch = Vec::new();
    poll_fn(|context| {
        while batch.len() < limit
            && let Poll::Ready(Some(delivered)) = deliveries.poll_next(context)
        {
            batch.push(delivered);
        }
        Poll::Ready(())
    })
    .await;
    (!batch.is_empty()).then_some(batch)
}
