//! A message on its way, and those who wait for the server's word on it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::PublishError;
use crate::amqp::Outgoing;
use crate::error::closed;

/// The word on one message.
pub(super) type Answer = Result<(), PublishError>;

/// One message. It is always answered: by default, when it is dropped, that the broker is closed.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Outgoing,
    /// When it began to wait for its turn.
    pub(super) arrived: Instant,
    /// It came back once, and is sent again.
    pub(super) again: bool,
    /// The library has it: from now on the outcome is unknown until there is word.
    pub(super) sent: bool,
    answer: Option<(Arc<Batch>, usize)>,
}

/// Messages that were handed in together.
#[derive(Debug)]
struct Batch(Mutex<Words>);

#[derive(Debug)]
struct Words {
    answers: Vec<Option<Answer>>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Answer>>>,
}

/// Makes requests of messages, and the end of the line where all answers arrive together.
pub(super) fn batch(messages: Vec<Outgoing>) -> (Vec<Request>, oneshot::Receiver<Vec<Answer>>) {
    let (done, answers) = oneshot::channel();
    let missing = messages.len();
    let done = if missing == 0 {
        // Fails only if nobody listens.
        let _ = done.send(Vec::new());
        None
    } else {
        Some(done)
    };
    let empty = std::iter::repeat_with(|| None).take(missing).collect();
    let batch = Arc::new(Batch(Mutex::new(Words { answers: empty, missing, done })));
    let arrived = Instant::now();
    let requests = messages.into_iter().enumerate().map(|(index, message)| Request {
        message,
        arrived,
        again: false,
        sent: false,
        answer: Some((Arc::clone(&batch), index)),
    });
    (requests.collect(), answers)
}

impl Batch {
    fn answer(&self, index: usize, answer: Answer) {
        let mut words = self.0.lock();
        if let Some(place) = words.answers.get_mut(index) {
            *place = Some(answer);
            words.missing -= 1;
        }
        if words.missing == 0
            && let Some(done) = words.done.take()
        {
            let answers = std::mem::take(&mut words.answers);
            // Nobody may be waiting any more.
            let _ = done.send(answers.into_iter().flatten().collect());
        }
    }
}

impl Request {
    pub(super) fn answer(mut self, answer: Answer) {
        if let Some((batch, index)) = self.answer.take() {
            batch.answer(index, answer);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some((batch, index)) = self.answer.take() {
            let error = if self.sent { PublishError::Unknown(closed()) } else { PublishError::NotSent(closed()) };
            batch.answer(index, Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Outgoing {
        Outgoing {
            exchange: "".into(),
            routing_key: "a".to_owned(),
            message_id: "1".to_owned(),
            priority: 0,
            headers: Default::default(),
            body: Arc::from(&b"x"[..]),
        }
    }

    #[test]
    fn answers_arrive_together_each_in_its_place() {
        let (mut requests, mut answers) = batch(vec![message(), message(), message()]);
        let (last, middle, first) = (requests.pop().unwrap(), requests.pop().unwrap(), requests.pop().unwrap());
        last.answer(Ok(()));
        first.answer(Err(PublishError::Nacked));
        assert!(answers.try_recv().is_err(), "not yet");
        middle.answer(Err(PublishError::TimedOut));
        let answers = answers.try_recv().unwrap();
        assert!(matches!(answers[..], [Err(PublishError::Nacked), Err(PublishError::TimedOut), Ok(())]), "{answers:?}");
        assert!(batch(Vec::new()).1.try_recv().unwrap().is_empty());
    }

    #[test]
    fn what_is_dropped_is_answered_too() {
        let (mut requests, mut answers) = batch(vec![message(), message()]);
        requests[1].sent = true;
        drop(requests);
        let answers = answers.try_recv().unwrap();
        assert!(matches!(answers[..], [Err(PublishError::NotSent(_)), Err(PublishError::Unknown(_))]), "{answers:?}");
    }
}
