//! Which job each thread is running at this moment: asked when a stop finds handlers that do not yield.
//!
//! A thread notes the job before it calls into a handler and forgets it afterwards, in a place of its own that nobody
//! else touches meanwhile: jobs are many, and stops are few.

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use goose_core::Job;
use parking_lot::Mutex;

use super::executor::Bench;

/// The places of all threads that ever ran a job.
static PLACES: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

thread_local! {
    static PLACE: OnceCell<Arc<Place>> = const { OnceCell::new() };
}

type Place = Mutex<Option<Polled>>;

/// A job, and the address of the bench whose job it is.
struct Polled {
    bench: usize,
    job: Arc<Job>,
}

/// While it lives, this thread is at a job. Where there are several on one thread, the last to begin is the first to end.
#[must_use = "the thread is at the job for as long as this lives"]
pub(super) struct Polling {
    /// A handler may run a worker of its own on this thread.
    before: Option<Polled>,
    stays_here: PhantomData<*const ()>,
}

impl Polling {
    pub(super) fn begin(bench: &Bench, job: &Arc<Job>) -> Self {
        let before = note(Some(Polled { bench: address(bench), job: Arc::clone(job) }));
        Self { before, stays_here: PhantomData }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        note(self.before.take());
    }
}

/// Notes what this thread is at; answers what it was at before.
fn note(polled: Option<Polled>) -> Option<Polled> {
    // Where thread-locals are gone, the thread ends.
    let noted = PLACE.try_with(|place| std::mem::replace(&mut *place.get_or_init(new_place).lock(), polled));
    noted.ok().flatten()
}

/// The jobs of a pool that threads are at.
pub(super) fn jobs(bench: &Bench) -> Vec<Arc<Job>> {
    let places: Vec<_> = PLACES.lock().iter().filter_map(Weak::upgrade).collect();
    let ours = |place: &Arc<Place>| {
        let polled = place.lock();
        polled.as_ref().filter(|polled| polled.bench == address(bench)).map(|polled| Arc::clone(&polled.job))
    };
    places.iter().filter_map(ours).collect()
}

fn new_place() -> Arc<Place> {
    let place = Arc::default();
    let mut places = PLACES.lock();
    places.retain(|place| place.strong_count() > 0);
    places.push(Arc::downgrade(&place));
    place
}

fn address(bench: &Bench) -> usize {
    std::ptr::from_ref(bench).addr()
}
