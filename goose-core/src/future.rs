//! The one future alias of the contracts.

use std::future::Future;
use std::pin::Pin;

/// A boxed, sendable future. The broker traits use it so that they stay object-safe without a macro;
/// every call is batch-shaped, so one box per call is noise beside the work it stands for.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
