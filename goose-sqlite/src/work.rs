//! What the engine's thread is asked to do, in a form that lets it do many things in one transaction.

use goose_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::error::SqlResult;
use crate::tx::Tx;

/// A piece of work. It runs inside a transaction that it may share with others, and is answered when the
/// transaction is on disk.
///
/// When the shared transaction fails, it is rolled back and each piece runs again in one of its own, so that the
/// guilty one alone fails. [`run`](Self::run) must therefore not remember anything from an earlier run.
pub(crate) trait Work: Send {
    /// How many rows it touches, about: the engine bounds transactions by it.
    fn rows(&self) -> usize;

    /// Does it.
    fn run(&mut self, tx: &mut Tx<'_>) -> SqlResult<()>;

    /// Whether it only reads, so that it need not wait for other writers, nor they for it.
    fn only_reads(&self) -> bool {
        false
    }

    /// Answers the caller, who may be gone.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

/// Work that is one closure, for the calls that are not worth a type of their own.
pub(crate) struct Call<T, F> {
    action: F,
    only_reads: bool,
    answer: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Call<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> SqlResult<T> + Send + 'static,
{
    /// The work, and where its answer will arrive.
    pub(crate) fn write(action: F) -> (Box<dyn Work>, oneshot::Receiver<Result<T>>) {
        Self::work(action, false)
    }

    /// The same for a closure that writes nothing.
    pub(crate) fn read(action: F) -> (Box<dyn Work>, oneshot::Receiver<Result<T>>) {
        Self::work(action, true)
    }

    fn work(action: F, only_reads: bool) -> (Box<dyn Work>, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { action, only_reads, answer: None, reply }), answer)
    }
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> SqlResult<T> + Send,
{
    fn rows(&self) -> usize {
        100
    }

    fn only_reads(&self) -> bool {
        self.only_reads
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> SqlResult<()> {
        self.answer = Some((self.action)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { answer, reply, .. } = *self;
        let _ = reply.send(outcome.and_then(|()| answer.ok_or_else(no_answer)));
    }
}

/// Waits for the answer to a piece of work.
pub(crate) async fn answer<T>(receiver: oneshot::Receiver<Result<T>>) -> Result<T> {
    receiver.await.unwrap_or_else(|_| Err(answer_lost()))
}

/// The engine's thread dropped the work: it panicked around it.
fn answer_lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the broker failed before it could answer; try again")
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Internal, "a piece of work was finished without having run")
}
