//! Dead jobs: a stream of the whole jobs, and an index of it in memory.
