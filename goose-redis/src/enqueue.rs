//! Taking jobs in: what many callers want at the same time goes out in one script call.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fred::bytes::{BufMut, Bytes, BytesMut};
#[cfg(feature = "fault-injection")]
use goose_core::JobId;
use goose_core::broker::EnqueueVerdict;
use goose_core::{Error, ErrorKind, Job, QueueName, Result};
use tokio::sync::{mpsc, oneshot};

use crate::again::again;
use crate::connection::{Lane, Link};
use crate::encoding::{self, Kind};
use crate::error::closed;
use crate::names::Names;
use crate::request::{Message, NewJob, Place, Request};
use crate::scripts::{CHUNK, ENQUEUE};
use crate::server_clock::ServerClock;

/// The most bytes of one script call: beyond that the server's time per call would be felt by others.
const MAX_BYTES: usize = 1 << 20;

/// No server takes a `proto-max-bulk-len` of less.
const LEAST_MAX_BULK_LEN: usize = 1 << 20;

/// How many calls for one queue may be on their way while more full ones wait: the server works on one while the next
/// is on its way to it and the answer to the one before on its way back. They take the same connection in their order,
/// so jobs keep theirs, unless one has to be sent again.
const UNDER_WAY: usize = 3;

/// Where callers hand in jobs.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    sender: mpsc::UnboundedSender<Message>,
}

impl Intake {
    /// The intake, and the task that serves it until every handle is gone.
    /// A job that waits for the calls before its own for longer than `patience` is refused.
    pub(crate) fn new(
        link: Arc<dyn Link>,
        names: Names,
        patience: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (Self { sender }, serve(link, names, patience, inbox))
    }

    /// Hands in one job in its stored form.
    #[cfg(feature = "fault-injection")]
    pub(crate) async fn enqueue_value(&self, queue: &QueueName, id: JobId, value: Bytes) -> Result<()> {
        let (request, ticket) = Request::new(queue.clone(), vec![NewJob { id, value, place: Place::End }]);
        self.sender.send(Message::Request(request)).map_err(|_| closed())?;
        ticket.outcome().await
    }

    /// Waits until nothing waits and nothing is under way.
    pub(crate) async fn flush(&self) {
        let (reply, flushed) = oneshot::channel();
        if self.sender.send(Message::Flush(reply)).is_ok() {
            let _ = flushed.await;
        }
    }

    /// Hands in jobs and waits for all verdicts.
    pub(crate) async fn enqueue(&self, jobs: Vec<Job>, clock: &ServerClock) -> Result<Vec<EnqueueVerdict>> {
        let since = clock.now();
        let mut by_queue: Vec<(QueueName, Vec<usize>)> = Vec::new();
        for (i, job) in jobs.iter().enumerate() {
            match by_queue.iter_mut().find(|(queue, _)| queue == job.ready_queue()) {
                Some((_, indices)) => indices.push(i),
                None => by_queue.push((job.ready_queue().clone(), vec![i])),
            }
        }
        let mut waiting = Vec::new();
        for (queue, indices) in by_queue {
            for chunk in in_chunks(&jobs, &indices) {
                let encode = |i: &usize| NewJob {
                    id: jobs[*i].id,
                    value: encoding::encode(&jobs[*i], Kind::Scheduled, since),
                    place: Place::of(&jobs[*i]),
                };
                let (request, ticket) = Request::new(queue.clone(), chunk.iter().map(encode).collect());
                // What was handed in before this one has an outcome, even if all the rest has not.
                let refused = self.sender.send(Message::Request(request)).is_err();
                waiting.push((chunk, (!refused).then_some(ticket)));
            }
        }
        let mut outcomes: Vec<(Vec<usize>, Result<()>)> = Vec::new();
        for (chunk, ticket) in waiting {
            let outcome = match ticket {
                Some(ticket) => ticket.outcome().await,
                None => Err(closed()),
            };
            outcomes.push((chunk, outcome));
        }
        verdicts(&jobs, outcomes)
    }
}

/// Splits the jobs of one queue by number and by size, evenly.
fn in_chunks(jobs: &[Job], indices: &[usize]) -> Vec<Vec<usize>> {
    let most = indices.len().div_ceil(indices.len().div_ceil(CHUNK).max(1));
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for i in indices {
        let size = jobs[*i].args.bytes.len() + 256;
        let fits = chunks.last().is_some_and(|chunk| chunk.len() < most && bytes + size <= MAX_BYTES);
        if !fits {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(*i);
        }
    }
    chunks
}

/// One error when all failed in the same way; otherwise each job gets its own.
fn verdicts(jobs: &[Job], outcomes: Vec<(Vec<usize>, Result<()>)>) -> Result<Vec<EnqueueVerdict>> {
    let kind = |outcome: &Result<()>| outcome.as_ref().err().map(Error::kind);
    let first = outcomes.first().and_then(|(_, outcome)| kind(outcome));
    let all_failed = first.is_some() && outcomes.iter().all(|(_, outcome)| kind(outcome) == first);
    let mut verdicts: Vec<Option<EnqueueVerdict>> = jobs.iter().map(|_| None).collect();
    for (chunk, outcome) in outcomes {
        match outcome {
            Err(error) if all_failed => return Err(error),
            outcome => {
                for i in chunk {
                    verdicts[i] = Some(match &outcome {
                        Ok(()) => EnqueueVerdict::Enqueued(jobs[i].id),
                        Err(error) => EnqueueVerdict::Failed(again(error)),
                    });
                }
            }
        }
    }
    // Every job is in exactly one chunk.
    Ok(verdicts.into_iter().flatten().collect())
}

/// Batches what comes in, per queue, as long as anyone can still send.
async fn serve(link: Arc<dyn Link>, names: Names, patience: Duration, mut inbox: mpsc::UnboundedReceiver<Message>) {
    let mut lines: HashMap<QueueName, Line> = HashMap::new();
    let (done, mut finished) = mpsc::unbounded_channel::<(QueueName, bool)>();
    let (mut touched, mut flushes): (Vec<QueueName>, Vec<oneshot::Sender<()>>) = Default::default();
    loop {
        tokio::select! {
            biased;
            Some((queue, known)) = finished.recv() => {
                if let Some(line) = lines.get_mut(&queue) {
                    line.under_way -= 1;
                    line.known |= known;
                    line.refuse_late(patience);
                }
                touched.push(queue);
            }
            message = inbox.recv() => {
                let Some(mut message) = message else { return };
                // What came in at the same time goes out in the same call.
                loop {
                    match message {
                        Message::Request(request) => {
                            if !touched.contains(&request.queue) {
                                touched.push(request.queue.clone());
                            }
                            lines.entry(request.queue.clone()).or_default().push(request);
                        }
                        Message::Flush(reply) => flushes.push(reply),
                    }
                    match inbox.try_recv() {
                        Ok(next) => message = next,
                        Err(_) => break,
                    }
                }
            }
        }
        for queue in touched.drain(..) {
            if let Some(line) = lines.get_mut(&queue) {
                line.dispatch(&link, &names, &queue, &done);
            }
        }
        if !flushes.is_empty() && lines.values().all(Line::is_idle) {
            for flush in flushes.drain(..) {
                let _ = flush.send(());
            }
        }
    }
}

/// The requests of one queue.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Request>,
    /// How many jobs wait.
    jobs: usize,
    /// Calls on their way. What comes in meanwhile shares the next one, and only full ones follow at once.
    under_way: usize,
    /// The set of queues has this one's name.
    known: bool,
}

impl Line {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    fn push(&mut self, request: Request) {
        self.jobs += request.jobs.len();
        self.waiting.push_back(request);
    }

    fn dispatch(
        &mut self,
        link: &Arc<dyn Link>,
        names: &Names,
        queue: &QueueName,
        done: &mpsc::UnboundedSender<(QueueName, bool)>,
    ) {
        let may_follow = |line: &Self| line.known && line.under_way < UNDER_WAY && line.jobs >= CHUNK / 2;
        while !self.waiting.is_empty() && (self.under_way == 0 || may_follow(self)) {
            let batch = self.next_batch();
            self.under_way += 1;
            batch.iter().for_each(|request| request.sent.store(true, Ordering::Release));
            let (link, names, queue, done) = (Arc::clone(link), names.clone(), queue.clone(), done.clone());
            let announce = !self.known;
            tokio::spawn(async move {
                let outcome = send(&*link, &names, &queue, &batch, announce).await;
                let known = outcome.is_ok();
                for request in batch {
                    let _ = request.reply.send(outcome.as_ref().map(|_| ()).map_err(again));
                }
                let _ = done.send((queue, known));
            });
        }
    }

    fn next_batch(&mut self) -> Vec<Request> {
        let (mut jobs, mut bytes) = (0, 0);
        let fits = self.waiting.iter().take_while(|request| {
            jobs += request.jobs.len();
            bytes += request.bytes;
            jobs <= CHUNK && bytes <= MAX_BYTES
        });
        let n = fits.count().max(1);
        let batch: Vec<Request> = self.waiting.drain(..n).collect();
        self.jobs -= batch.iter().map(|request| request.jobs.len()).sum::<usize>();
        batch
    }

    /// While the server is away each call takes its whole time, and whoever waits for many of them would wait for
    /// minutes.
    fn refuse_late(&mut self, patience: Duration) {
        while self.waiting.front().is_some_and(|request| request.since.elapsed() >= patience) {
            let Some(request) = self.waiting.pop_front() else { return };
            self.jobs -= request.jobs.len();
            let message = format!(
                "cannot enqueue to {}: those that came before waited for the server for {patience:?}; nothing was sent",
                request.queue
            );
            let _ = request.reply.send(Err(Error::new(ErrorKind::Unavailable, message)));
        }
    }
}

async fn send(
    link: &dyn Link,
    names: &Names,
    queue: &QueueName,
    batch: &[Request],
    announce: bool,
) -> Result<(), Error> {
    let tell = || link.command(Lane::Data, "SADD", Some(names.queues()), vec![queue.as_str().to_owned().into()]);
    if announce {
        // Once per process and queue, and before the first job: no queue with jobs is unknown.
        tell().await?;
    }
    let keys = names.queue(queue);
    let keys = vec![keys.jobs, keys.ready, keys.scheduled, keys.wake, keys.meta];
    let args = arguments(batch);
    let largest = batch.iter().flat_map(|request| &request.jobs).map(|job| job.value.len()).max().unwrap_or(0);
    let new = link.eval(Lane::Data, &ENQUEUE, keys, args).await.map_err(|error| too_large(error, largest))?;
    // Everything was deleted since we told. The jobs are in, whatever comes of this.
    if !announce
        && matches!(new.into_int(), Ok(1))
        && let Err(error) = tell().await
    {
        tracing::warn!(%queue, error = format!("{error:#}"), "cannot tell the server again that there is this queue");
    }
    Ok(())
}

/// A server that is sent a value longer than it takes closes the connection, as a rule before its words are read.
fn too_large(error: Error, largest: usize) -> Error {
    let may_be_it = matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Misconfigured);
    if !may_be_it || largest < LEAST_MAX_BULK_LEN {
        return error;
    }
    let advice = format!("a job has {largest} bytes: check that the server's proto-max-bulk-len is more than that");
    Error::new(error.kind(), format!("{}; {advice}", error.message())).with_source(error)
}

/// The jobs as the script wants them: those that go to the end first.
fn arguments(batch: &[Request]) -> Vec<Bytes> {
    let jobs = || batch.iter().flat_map(|request| &request.jobs);
    let mut ids = BytesMut::with_capacity(jobs().count() * 16);
    let mut args = vec![Bytes::new()];
    let (mut ends, mut others) = (0, Vec::new());
    for job in jobs() {
        ids.put_slice(job.id.as_bytes());
        let words = [ids.split().freeze(), job.value.clone()];
        match job.place.argument() {
            None => {
                ends += 1;
                args.extend(words);
            }
            Some(place) => others.extend(words.into_iter().chain([place])),
        }
    }
    args[0] = ends.to_string().into();
    args.append(&mut others);
    args
}
