//! Appending.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use goose_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{Fold, NewEntry, Own, Stream};
use crate::publisher::PublishError;

/// How often an entry is appended whose fate is unknown. Copies count once.
const TRIES: usize = 3;

impl<F: Fold> Stream<F> {
    /// Appends entries in this order and resolves with the server's word on each. Declares the stream when it is missing.
    ///
    /// To be called on the broker's runtime.
    pub(crate) async fn append(&self, entries: &[NewEntry]) -> Vec<Result<(), PublishError>> {
        if !self.is_read() {
            return self.send(entries).await;
        }
        {
            let mut own = self.own.lock();
            let ids = entries.iter().map(|entry| entry.id.clone());
            own.extend(ids.map(|id| (id, Own { is_confirmed: false, answer: None })));
        }
        let words = self.send(entries).await;
        let mut own = self.own.lock();
        for (entry, word) in entries.iter().zip(&words) {
            match word {
                // Not there any more if it has been read back already.
                Ok(()) => drop(own.get_mut(&entry.id).map(|own| own.is_confirmed = true)),
                Err(_) => drop(own.remove(&entry.id)),
            }
        }
        drop(own);
        words
    }

    /// Appends an entry and waits until it is folded here; answers what it amounted to.
    ///
    /// To be called on the broker's runtime.
    ///
    /// # Errors
    /// Whatever the server or the connection say; [`ErrorKind::OutcomeUnknown`] when it is not known whether the entry
    /// is there.
    pub(crate) async fn append_and_read_back(self: &Arc<Self>, entry: NewEntry) -> Result<u64> {
        self.start();
        let (answer, mut answered) = oneshot::channel();
        self.own.lock().insert(entry.id.clone(), Own { is_confirmed: false, answer: Some(answer) });
        let mut tries = 0;
        let word = loop {
            tries += 1;
            let word = self.send(std::slice::from_ref(&entry)).await.pop().unwrap_or(Err(PublishError::Nacked));
            let is_unknown = matches!(word, Err(PublishError::TimedOut | PublishError::Unknown(_)));
            if !is_unknown || tries == TRIES {
                break word;
            }
            if let Ok(answer) = answered.try_recv() {
                return Ok(answer);
            }
        };
        if let Err(error) = word {
            self.own.lock().remove(&entry.id);
            return Err(error.into());
        }
        if let Some(own) = self.own.lock().get_mut(&entry.id) {
            own.is_confirmed = true;
        }
        match self.while_it_goes_on(&mut answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Error::new(ErrorKind::OutcomeUnknown, format!("the stream {} was deleted", self.name))),
            Err(error) if error.kind() == ErrorKind::Closed => Err(error),
            Err(error) => {
                self.own.lock().remove(&entry.id);
                let message = format!("an entry was stored in {} and cannot be read back yet", self.name);
                Err(Error::new(ErrorKind::OutcomeUnknown, message).with_source(error))
            }
        }
    }

    async fn send(&self, entries: &[NewEntry]) -> Vec<Result<(), PublishError>> {
        if let Err(error) = self.ensure().await {
            return not_sent(&error, entries.len());
        }
        let mut words = self.publish(entries).await;
        let lost: Vec<usize> =
            (0..words.len()).filter(|i| matches!(words[*i], Err(PublishError::Unroutable))).collect();
        if lost.is_empty() {
            return words;
        }
        // Somebody has deleted the stream.
        self.declared.store(0, Ordering::Release);
        let again = match self.ensure().await {
            Ok(()) => self.publish(&lost.iter().map(|i| entries[*i].clone()).collect::<Vec<_>>()).await,
            Err(error) => not_sent(&error, lost.len()),
        };
        lost.into_iter().zip(again).for_each(|(i, word)| words[i] = word);
        words
    }

    async fn publish(&self, entries: &[NewEntry]) -> Vec<Result<(), PublishError>> {
        self.wires.publisher.publish_all(entries.iter().map(|entry| entry.addressed(&self.name)).collect()).await
    }
}

/// The same word on each of several.
fn not_sent(error: &Error, entries: usize) -> Vec<Result<(), PublishError>> {
    (0..entries).map(|_| Err(PublishError::NotSent(Error::new(error.kind(), format!("{error:#}"))))).collect()
}
