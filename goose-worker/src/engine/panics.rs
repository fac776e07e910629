//! A panic becomes a value.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use goose_core::BoxFuture;

/// Runs a future and answers a panic in it, at any poll or in its destructor, with the panic's message.
///
/// The future is dropped at its end or with the first panic, and never polled again, so no broken state
/// can be seen through it: that is why asserting unwind safety is right.
pub(crate) struct CatchUnwind<'a, T> {
    state: State<'a, T>,
}

enum State<'a, T> {
    Running(BoxFuture<'a, T>),
    /// Making the future panicked.
    Panicked(String),
    Ended,
}

impl<'a, T> CatchUnwind<'a, T> {
    /// Makes a future and runs it.
    pub(crate) fn call(make: impl FnOnce() -> BoxFuture<'a, T>) -> Self {
        let state = match panic::catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => State::Running(future),
            Err(payload) => State::Panicked(message(payload)),
        };
        Self { state }
    }

    /// Drops the future, at whatever await point it is.
    pub(crate) fn cut(&mut self) -> Result<(), String> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        panic::catch_unwind(AssertUnwindSafe(move || drop(state))).map_err(message)
    }
}

impl<T> Future for CatchUnwind<'_, T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = match &mut self.state {
            State::Running(future) => match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(payload) => Err(message(payload)),
            },
            State::Panicked(message) => Err(std::mem::take(message)),
            State::Ended => Err("polled after its end".to_owned()),
        };
        let dropped = self.cut();
        Poll::Ready(end.and_then(|value| dropped.map(|()| value)))
    }
}

impl<T> Drop for CatchUnwind<'_, T> {
    fn drop(&mut self) {
        if let Err(message) = self.cut() {
            tracing::error!(panic = message, "a job panicked while it was being cut");
        }
    }
}

/// The text of a panic, where it has one.
fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // A payload may panic in its destructor too; there is nothing left to tell about it.
                let _ = panic::catch_unwind(AssertUnwindSafe(move || drop(payload)));
                "no message".to_owned()
            }
        },
    };
    format!("panicked: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }

    #[tokio::test]
    async fn a_value_passes() {
        assert_eq!(CatchUnwind::call(|| Box::pin(async { 7 })).await, Ok(7));
    }

    #[tokio::test]
    async fn panics_are_caught_wherever_they_happen() {
        let making = CatchUnwind::<()>::call(|| panic!("{} it", "making"));
        let polling = CatchUnwind::<()>::call(|| Box::pin(async { panic!("polling it") }));
        let later = CatchUnwind::<()>::call(|| {
            Box::pin(async {
                tokio::task::yield_now().await;
                panic!("later")
            })
        });
        let odd = CatchUnwind::<()>::call(|| Box::pin(async { panic::panic_any(7_u8) }));
        assert_eq!(making.await, Err("panicked: making it".into()));
        assert_eq!(polling.await, Err("panicked: polling it".into()));
        assert_eq!(later.await, Err("panicked: later".into()));
        assert_eq!(odd.await, Err("panicked: no message".into()));
    }

    #[tokio::test]
    async fn a_destructor_that_panics_is_caught_at_the_end_and_when_cut() {
        let captured = || {
            let bomb = PanicsOnDrop;
            CatchUnwind::call(move || {
                Box::pin(async move {
                    let _bomb = bomb;
                    std::future::pending::<()>().await;
                })
            })
        };
        assert_eq!(captured().cut(), Err("panicked: in a destructor".into()));
        drop(captured());
    }
}
