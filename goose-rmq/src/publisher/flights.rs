//! Many futures of the same kind that one task polls, each only when it has been woken.
//!
//! Why not a set of some library: what is ready can be taken out to the last one at a given moment, which is what tells
//! returned messages from stored ones ([`collect`](Flights::collect)); a slot, with its waker, serves one message after
//! the other; and it is one dependency less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use goose_core::BoxFuture;
use parking_lot::Mutex;

/// What is under way: futures with what belongs to each.
pub(super) struct Flights<T, O> {
    slots: Vec<Option<Flight<T, O>>>,
    /// Of the slots that are empty.
    free: Vec<Arc<Bell>>,
    alarm: Arc<Alarm>,
    len: usize,
    serial: u64,
}

struct Flight<T, O> {
    ticket: Ticket,
    payload: T,
    future: BoxFuture<'static, O>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Names one flight for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    slot: usize,
    serial: u64,
}

/// Where woken flights say so.
#[derive(Default)]
struct Alarm {
    woken: Mutex<Vec<usize>>,
    task: Mutex<Option<Waker>>,
}

/// The waker of one slot.
struct Bell {
    slot: usize,
    /// It is in the list of the woken.
    rung: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.alarm.woken.lock().push(self.slot);
            if let Some(task) = &*self.alarm.task.lock() {
                task.wake_by_ref();
            }
        }
    }
}

impl<T, O> Flights<T, O> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), alarm: Arc::default(), len: 0, serial: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Polls a future for the first time, and keeps it unless it is ready at once.
    ///
    /// # Errors
    /// It was ready: here is everything back.
    pub(super) fn insert(&mut self, payload: T, mut future: BoxFuture<'static, O>) -> Result<Ticket, (T, O)> {
        let bell = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Arc::new(Bell { slot: self.slots.len() - 1, rung: AtomicBool::new(false), alarm: Arc::clone(&self.alarm) })
        });
        // The flight before may have rung it after its end.
        bell.rung.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&bell));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                self.free.push(bell);
                Err((payload, output))
            }
            Poll::Pending => {
                self.serial += 1;
                let ticket = Ticket { slot: bell.slot, serial: self.serial };
                if let Some(slot) = self.slots.get_mut(bell.slot) {
                    *slot = Some(Flight { ticket, payload, future, bell, waker });
                    self.len += 1;
                }
                Ok(ticket)
            }
        }
    }

    /// Waits until at least one has ended, and takes out all that have.
    pub(super) fn poll(&mut self, context: &Context<'_>, ended: &mut Vec<(T, O)>) -> Poll<()> {
        {
            let mut task = self.alarm.task.lock();
            if !task.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *task = Some(context.waker().clone());
            }
        }
        self.collect(ended);
        if ended.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Takes out all that have ended at this moment.
    pub(super) fn collect(&mut self, ended: &mut Vec<(T, O)>) {
        loop {
            let woken = std::mem::take(&mut *self.alarm.woken.lock());
            if woken.is_empty() {
                return;
            }
            for index in woken {
                let Some(slot) = self.slots.get_mut(index) else { continue };
                // Rung by the flight before, after its end.
                let Some(flight) = slot else { continue };
                // Before the poll, so that a wake during it counts.
                flight.bell.rung.store(false, Ordering::Release);
                if let Poll::Ready(output) = flight.future.as_mut().poll(&mut Context::from_waker(&flight.waker))
                    && let Some(flight) = slot.take()
                {
                    self.free.push(flight.bell);
                    self.len -= 1;
                    ended.push((flight.payload, output));
                }
            }
        }
    }

    /// What belongs to a flight, if it is still under way.
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let flight = self.slots.get_mut(ticket.slot)?.as_mut()?;
        (flight.ticket == ticket).then_some(&mut flight.payload)
    }

    /// Gives up those for which this holds.
    pub(super) fn take_where(&mut self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let mut payloads = Vec::new();
        for slot in &mut self.slots {
            if let Some(flight) = slot.take_if(|flight| is_meant(&flight.payload)) {
                self.free.push(flight.bell);
                payloads.push(flight.payload);
            }
        }
        self.len -= payloads.len();
        payloads
    }

    /// Gives up everything that is under way.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        let mut payloads = Vec::with_capacity(self.len);
        for flight in self.slots.iter_mut().filter_map(Option::take) {
            self.free.push(flight.bell);
            payloads.push(flight.payload);
        }
        self.len = 0;
        payloads
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn flights() -> Flights<u32, u32> {
        Flights::new()
    }

    fn answer(receiver: oneshot::Receiver<u32>) -> BoxFuture<'static, u32> {
        Box::pin(async { receiver.await.unwrap() })
    }

    #[test]
    fn what_is_ready_at_once_is_not_kept() {
        let mut flights = flights();
        let (payload, output) = flights.insert(1, Box::pin(async { 2 })).unwrap_err();
        assert_eq!((payload, output, flights.len()), (1, 2, 0));
    }

    #[tokio::test]
    async fn those_that_end_wake_the_task_and_are_taken_out_together() {
        let mut flights = flights();
        let mut senders = Vec::new();
        for payload in 0..100 {
            let (sender, receiver) = oneshot::channel();
            flights.insert(payload, answer(receiver)).unwrap();
            senders.push(sender);
        }
        let (last, rest) = (senders.pop().unwrap(), senders);
        let thread = std::thread::spawn(move || {
            for (number, sender) in (0..).zip(rest) {
                sender.send(number * 2).unwrap();
            }
        });
        let mut ended = Vec::new();
        while flights.len() > 1 {
            std::future::poll_fn(|context| flights.poll(context, &mut Vec::new()).map(|()| ())).await;
            flights.collect(&mut ended);
        }
        thread.join().unwrap();
        last.send(7).unwrap();
        let mut end = Vec::new();
        std::future::poll_fn(|context| flights.poll(context, &mut end)).await;
        assert_eq!(end, [(99, 7)]);
    }

    #[test]
    fn slots_are_used_again_and_old_tickets_name_nothing() {
        let mut flights = flights();
        let mut ended = Vec::new();
        let mut old = None;
        for round in 0..1000 {
            let (sender, receiver) = oneshot::channel();
            let ticket = flights.insert(round, answer(receiver)).unwrap();
            assert_eq!(flights.get_mut(ticket), Some(&mut round.clone()));
            assert!(old.is_none_or(|old| flights.get_mut(old).is_none()));
            sender.send(round).unwrap();
            flights.collect(&mut ended);
            old = Some(ticket);
        }
        assert_eq!((ended.len(), flights.slots.len(), flights.len()), (1000, 1, 0));
        let (_sender, receiver) = oneshot::channel();
        flights.insert(5, answer(receiver)).unwrap();
        assert_eq!((flights.take_all(), flights.len()), (vec![5], 0));
    }
}
