//! Saying again what waits and would be cut off with the beginning of the stream.
//!
//! What goes through the journal is counted, in bytes, in the control log. Whenever enough has come, the first process to say so there
//! has the task: it reads the journal into an index of its own, and appends what waits and stands far back. No process does that
//! at other times, so the journal is read by nobody while nobody looks.

use std::sync::Arc;

use goose_core::{Error, ErrorKind, Result};

use super::note::{Kept, Note};
use super::notes::Notes;
use crate::stream::{NewEntry, Stream};

/// How many bytes come between two of these tasks. Four of them are the whole stream.
pub(crate) const STEP: u64 = 256 << 20;

/// What is not so old is not said again yet: two more of these tasks come before it would be cut off, if one is not done.
const OLD: u64 = 2 * STEP;

/// How much is said again at a time. Less than a step, or it would bring about the next of these tasks by itself, for ever.
const MOST: u64 = STEP / 2;

/// How many entries are in hand at once.
const AT_ONCE: usize = 200;

impl Notes {
    /// Does the task, and answers how many jobs were said again.
    ///
    /// To be called on the broker's runtime.
    pub(crate) async fn keep(self: &Arc<Self>) -> Result<usize> {
        let stream = self.another_reader();
        let outcome = self.keep_by(&stream, OLD, MOST).await;
        stream.stop();
        outcome
    }

    pub(super) async fn keep_by(
        self: &Arc<Self>,
        stream: &Arc<Stream<super::Index>>,
        old: u64,
        most: u64,
    ) -> Result<usize> {
        stream.catch_up_everywhere().await?;
        let begin = stream.append_and_read_back(Note::Begin.entry()).await?;
        let places = stream.state().older_than(old);
        let (mut said, mut bytes) = (0, 0);
        for places in places.chunks(AT_ONCE) {
            if bytes >= most {
                tracing::warn!("more waits than the journal can hold; the oldest jobs will not be listed");
                break;
            }
            let entries = self.again(stream, begin, places).await?;
            bytes += entries.iter().map(NewEntry::size).sum::<u64>();
            said += entries.len();
            self.count(&entries);
            for word in stream.append(&entries).await {
                word.map_err(Error::from)?;
            }
        }
        stream.append_and_read_back(Note::End { begin }.entry()).await?;
        tracing::debug!(jobs = said, "jobs that wait were said again in the journal");
        Ok(said)
    }

    /// The entries that say again what stands at these places, each given with the place where it stood at first.
    async fn again(
        &self,
        stream: &Arc<Stream<super::Index>>,
        begin: u64,
        places: &[(u64, u64)],
    ) -> Result<Vec<NewEntry>> {
        let offsets: Vec<u64> = places.iter().map(|(offset, _)| *offset).collect();
        let entries = stream.pick(&offsets).await?;
        let first = |offset: u64| {
            let at = places.binary_search_by_key(&offset, |(offset, _)| *offset);
            at.map(|at| places[at].1)
                .map_err(|_| Error::new(ErrorKind::Internal, "an entry was read that nobody asked for"))
        };
        let again = entries.into_iter().map(|entry| {
            let kept = Kept { begin, first: first(entry.offset)? };
            Ok(kept.entry(entry.headers, entry.body))
        });
        again.collect()
    }
}
