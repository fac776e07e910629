//! The batteries: scenarios grouped by the part of the contract they check. To add a scenario, write its steps in the
//! battery's file and name it in the `battery!` list there; to add a battery, add it to [`ALL`].

use super::Scenario;

mod concurrency;
mod dead_jobs;
mod enqueued_jobs;
mod fencing;
mod lifecycle;
mod order;
mod paused_queues;
mod payload;
mod recovery;
mod retry;
mod schedule;
mod scheduled_jobs;
mod shutdown;
mod statistics;
mod wakeup;

/// All batteries, the plainest first: a broker author works through them in this order.
pub(super) const ALL: [&[Scenario]; 15] = [
    lifecycle::SCENARIOS,
    payload::SCENARIOS,
    order::SCENARIOS,
    wakeup::SCENARIOS,
    schedule::SCENARIOS,
    retry::SCENARIOS,
    fencing::SCENARIOS,
    shutdown::SCENARIOS,
    recovery::SCENARIOS,
    concurrency::SCENARIOS,
    enqueued_jobs::SCENARIOS,
    scheduled_jobs::SCENARIOS,
    dead_jobs::SCENARIOS,
    paused_queues::SCENARIOS,
    statistics::SCENARIOS,
];
