//! Dead jobs: a stream of the whole jobs, and an index of it in memory.
use crate::amqp::Table;
use crate::stream;
/// How the stream is declared, also by queues that send here what they give up.
pub(crate) fn stream_arguments() -> Table {
    stream::arguments(1 << 30, 64 << 20)
}
