//! Which job each thread is running at this moment: asked when a stop finds handlers that do not yield.
//!
//! A thread notes the job before it calls into a handler and forgets it afterwards, in a place of its own that nobody
//! else touches meanwhile: jobs are many, and stops are few.

use std::cell::OnceCell;
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

/// Runs code of the application, for a job.
pub(super) fn during<T>(bench: &Bench, job: &Arc<Job>, run: impl FnOnce() -> T) -> T {
    let polled = Polled { bench: address(bench), job: Arc::clone(job) };
    // Where thread-locals are gone, the thread ends.
    let place = PLACE.try_with(|place| Arc::clone(place.get_or_init(new_place))).ok();
    // A handler may run a worker of its own on this thread.
    let before = place.as_ref().and_then(|place| place.lock().replace(polled));
    let _restored = Restore { place, before };
    run()
}

struct Restore {
    place: Option<Arc<Place>>,
    before: Option<Polled>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            *place.lock() = self.before.take();
        }
    }
}

/// The jobs of a pool that are on a thread now.
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
