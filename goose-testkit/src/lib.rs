//! Prove a broker; test your own jobs.
//!
//! Two doors, for two kinds of reader:
//! - `testing`: you write jobs. A broker in memory, a clock you move, assertions on what was enqueued, and a worker
//!   that runs everything and ends.
//! - [`conformance`]: you write a broker. One list of scenarios that every broker must pass, and how to run it on yours.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `memory` | yes | `testing`: the in-memory broker (SQLite) and the tools around it |
//! | `libtest` | no | the suite as a test binary, one test per scenario |

pub mod conformance;
#[cfg(feature = "memory")]
pub mod testing;
