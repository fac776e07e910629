//! The model's optional powers. They look through everything: the model need not be fast.

use std::fmt::Debug;
use std::str::FromStr;

use goose_core::broker::capability::{
    Cursor, DeadContent, DeadJob, DeadJobs, EnqueuedJobs, JobFilter, LiveWorker, Page, Paged, PausedQueues,
    QueueCounts, ScheduledJob, ScheduledJobs, Statistics, Totals,
};
use goose_core::{BoxFuture, Job, JobId, QueueName, Result, Timestamp};

use super::record::{Class, Place, Rank, Record};
use super::state::State;
use super::{Defect, Model};

/// One page of a sorted list. The cursor is the place of the last job that was looked at.
fn page<K: Ord + Copy, T>(
    state: &State,
    mut list: Vec<(K, T)>,
    page: &Page,
    passes: impl Fn(&T) -> bool,
    place: impl Fn(&str) -> Option<K>,
    cursor: impl Fn(K) -> String,
) -> Paged<T> {
    list.sort_by_key(|(key, _)| *key);
    if let Some(after) = page.after.as_ref().and_then(|cursor| place(cursor.as_str())) {
        list.retain(|(key, _)| *key > after);
        if state.is(Defect::SkipsAtPages) && !list.is_empty() {
            list.remove(0);
        }
    }
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = list.len() > limit;
    list.truncate(limit);
    let last = list.last().map(|(key, _)| cursor(*key)).filter(|_| more);
    let items = list.into_iter().map(|(_, item)| item).filter(passes).collect();
    Paged { items, next: last.map(Cursor::new) }
}

fn write_rank(rank: Rank) -> String {
    let class = match rank.class {
        Class::Front => 0,
        Class::Due => 1,
        Class::Normal => 2,
    };
    format!("{class}.{}.{}", rank.at, rank.tie)
}

fn read_rank(text: &str) -> Option<Rank> {
    let mut parts = text.split('.');
    let class = [Class::Front, Class::Due, Class::Normal].get(number::<usize>(parts.next()?)?).copied()?;
    Some(Rank { class, at: number(parts.next()?)?, tie: number(parts.next()?)? })
}

fn number<N: FromStr<Err: Debug>>(text: &str) -> Option<N> {
    text.parse().ok()
}

/// A call that looks at the data or changes it.
fn answer<'a, T: Send + 'a>(model: &Model, call: impl FnOnce(&mut State) -> T) -> BoxFuture<'a, Result<T>> {
    let result = model.shared.change(call);
    Box::pin(async move { Ok(result) })
}

impl State {
    fn in_queue(&self, id: JobId) -> Option<(Rank, &Record)> {
        let record = self.jobs.get(&id)?;
        if let Place::Ready(rank) = record.place { Some((rank, record)) } else { None }
    }

    fn waiting_for_its_time(&self, id: JobId) -> Option<ScheduledJob> {
        let record = self.jobs.get(&id)?;
        let Place::Scheduled { due, kind } = record.place else { return None };
        Some(ScheduledJob::new(record.job()?.clone(), Timestamp::from_millis(due.at), kind))
    }

    /// The dead with the order of their deaths, sorted by it.
    fn dead(&self) -> Vec<(u64, DeadJob)> {
        let mut dead: Vec<_> = self.jobs.values().filter_map(Record::dead).collect();
        dead.sort_by_key(|(order, _)| *order);
        dead
    }

    fn remove_all(&mut self, ids: Vec<JobId>) -> u64 {
        let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        if !self.is(Defect::PurgesNothing) {
            for id in ids {
                self.remove(id);
            }
        }
        count
    }

    fn bring_forward(&mut self, id: JobId) {
        if let Some(record) = self.jobs.get(&id).cloned() {
            self.unlist(&record);
            self.put_back(id);
        }
    }
}

impl EnqueuedJobs for Model {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        answer(self, |state| state.queues.iter().cloned().collect())
    }

    fn size<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        answer(self, |state| count(state.ready.keys().filter(|(of, _)| of == queue)))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<Job>>> {
        answer(self, |state| state.in_queue(id).and_then(|(_, record)| record.job().cloned()))
    }

    fn find<'a>(&'a self, queue: &'a QueueName, filter: &'a JobFilter, p: Page) -> BoxFuture<'a, Result<Paged<Job>>> {
        answer(self, |state| {
            let of_queue = state.ready.iter().filter(|((of, _), _)| of == queue);
            let jobs = of_queue.filter_map(|((_, rank), id)| Some((*rank, state.jobs.get(id)?.job()?.clone())));
            page(state, jobs.collect(), &p, |job| filter.matches(job), read_rank, write_rank)
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.in_queue(id).is_some().then(|| state.bring_forward(id)).is_some())
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.in_queue(id).is_some() && state.remove(id).is_some())
    }

    fn purge<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<u64>> {
        answer(self, |state| {
            let ids = state.ready.iter().filter(|((of, _), _)| of == queue).map(|(_, id)| *id).collect();
            state.remove_all(ids)
        })
    }
}

impl ScheduledJobs for Model {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| count(state.scheduled.keys()))
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<ScheduledJob>>> {
        answer(self, |state| state.waiting_for_its_time(id))
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, p: Page) -> BoxFuture<'a, Result<Paged<ScheduledJob>>> {
        answer(self, |state| {
            let jobs = state.scheduled.iter().filter_map(|(due, id)| Some((*due, state.waiting_for_its_time(*id)?)));
            page(state, jobs.collect(), &p, |scheduled| filter.matches(&scheduled.job), read_rank, write_rank)
        })
    }

    fn prioritise(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.waiting_for_its_time(id).is_some().then(|| state.bring_forward(id)).is_some())
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.waiting_for_its_time(id).is_some() && state.remove(id).is_some())
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| {
            let ids = state.scheduled.values().copied().collect();
            state.remove_all(ids)
        })
    }
}

impl DeadJobs for Model {
    fn size(&self) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| count(state.dead().iter()))
    }

    fn pop(&self) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        answer(self, |state| {
            let (_, first) = state.dead().into_iter().next()?;
            if !state.is(Defect::PopsWithoutRemoving) {
                state.remove(first.id);
            }
            Some(first)
        })
    }

    fn find_by_id(&self, id: JobId) -> BoxFuture<'_, Result<Option<DeadJob>>> {
        answer(self, |state| state.jobs.get(&id).and_then(Record::dead).map(|(_, dead)| dead))
    }

    fn find<'a>(&'a self, filter: &'a JobFilter, p: Page) -> BoxFuture<'a, Result<Paged<DeadJob>>> {
        let passes = |dead: &DeadJob| match &dead.content {
            DeadContent::Job(job) => filter.matches(job),
            DeadContent::Undecodable(_) => *filter == JobFilter::default(),
        };
        answer(self, |state| page(state, state.dead(), &p, passes, number, |order| order.to_string()))
    }

    fn replay(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.replay(id))
    }

    fn replay_n(&self, n: u64) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| {
            let decodable = state.dead().into_iter().filter(|(_, dead)| dead.job().is_some());
            let ids: Vec<_> =
                decodable.map(|(_, dead)| dead.id).take(usize::try_from(n).unwrap_or(usize::MAX)).collect();
            // The last goes to the front first.
            count(ids.into_iter().rev().filter(|id| state.replay(*id)))
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Result<bool>> {
        answer(self, |state| state.jobs.get(&id).and_then(Record::dead).is_some() && state.remove(id).is_some())
    }

    fn delete_older_than(&self, time: Timestamp) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| {
            let older = state.dead().into_iter().filter(|(_, dead)| dead.died_at < time);
            let ids = older.map(|(_, dead)| dead.id).collect();
            state.remove_all(ids)
        })
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64>> {
        answer(self, |state| {
            let ids = state.dead().into_iter().map(|(_, dead)| dead.id).collect();
            state.remove_all(ids)
        })
    }
}

impl PausedQueues for Model {
    fn pause<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        answer(self, |state| state.paused.insert(queue.clone()))
    }

    fn resume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<bool>> {
        answer(self, |state| {
            if state.is(Defect::StaysPaused) { state.paused.contains(queue) } else { state.paused.remove(queue) }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>>> {
        answer(self, |state| state.paused.iter().cloned().collect())
    }
}

impl Statistics for Model {
    fn queues(&self) -> BoxFuture<'_, Result<Vec<QueueCounts>>> {
        answer(self, |state| {
            let twice = state.is(Defect::CountsTwice);
            let counts = |queue: &QueueName| {
                let mut counts = QueueCounts::empty(queue.clone());
                for record in state.jobs.values().filter(|record| record.queue == *queue) {
                    match record.place {
                        Place::Ready(_) => counts.ready += 1,
                        Place::Scheduled { .. } => *counts.scheduled.get_or_insert(0) += 1,
                        Place::Claimed { .. } => {
                            counts.running += 1;
                            counts.ready += u64::from(twice);
                        }
                        Place::Dead { .. } => counts.dead += 1,
                    }
                }
                counts
            };
            state.queues.iter().map(counts).collect()
        })
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals>> {
        answer(self, |state| state.totals)
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<LiveWorker>>> {
        answer(self, |state| {
            let live = state.sessions.iter().filter(|(_, session)| session.gone.is_none());
            let worker = |(key, session): (&u64, &super::state::Session)| {
                let queues = session.options.queues.names().cloned().collect();
                let running = count(state.claims_of(*key).iter());
                LiveWorker::new(session.options.worker.clone(), queues, session.started_at, running)
            };
            live.map(worker).collect()
        })
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}
