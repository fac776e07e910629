//! A panic becomes a value.

use std::any::Any;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use goose_core::BoxFuture;

/// Runs code of the application and answers a panic in it with the panic's message.
///
/// What the code has broken must not be seen afterwards; callers give it values to use up, or to read only.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

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
        Self { state: caught(make).map_or_else(State::Panicked, State::Running) }
    }

    /// Drops the future, at whatever await point it is.
    pub(crate) fn cut(&mut self) -> Result<(), String> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        caught(move || drop(state))
    }
}

impl<T> Future for CatchUnwind<'_, T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = match &mut self.state {
            State::Running(future) => match caught(|| future.as_mut().poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(message) => Err(message),
            },
            State::Panicked(message) => Err(std::mem::take(message)),
            State::Ended => Err("polled after its end".to_owned()),
        };
        Poll::Ready(match (end, self.cut()) {
            (Ok(value), Err(message)) => {
                // The value is the application's too.
                let _ = caught(move || drop(value));
                Err(message)
            }
            (end, _) => end,
        })
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
                // A payload may panic in its destructor too, and so may what it panics with: that one is leaked.
                if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(move || drop(payload))) {
                    std::mem::forget(payload);
                }
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

    /// Each panic in its destructor comes with another one.
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            panic::panic_any(Self);
        }
    }

    #[tokio::test]
    async fn neither_a_value_nor_a_payload_that_panics_gets_out() {
        let both = || {
            let bomb = PanicsOnDrop;
            CatchUnwind::call(move || {
                let mut bomb = Some(bomb);
                // The future keeps one to the end and answers another.
                Box::pin(std::future::poll_fn(move |_| Poll::Ready(bomb.as_mut().map(|_| PanicsOnDrop))))
            })
        };
        assert_eq!(both().await.err(), Some("panicked: in a destructor".into()));
        assert_eq!(caught(|| panic::panic_any(Endless)), Err("panicked: no message".into()));
    }
}
