//! Errors that more than one part of this crate answers. What the server says is put into our words in
//! `amqp::lapin::classify`.

use goose_core::{Error, ErrorKind};

/// What every call answers after [`Broker::close`](goose_core::broker::Broker::close).
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker is closed")
}
