//! Scenarios of several processes on Redis: what every broker must survive, and what can happen to its servers.
//!
//! Every scenario has servers of its own, on disk before they answer unless it says otherwise. After each of them the
//! broker must find its own data in order. `GOOSE_LONG_SCENARIOS=1` makes those long that are about time.
//! With `GOOSE_REDIS_URL` they are all skipped: it names a server that must not be hurt.

#![expect(clippy::print_stderr, reason = "figures for whoever reads the output")]

mod failover;
mod flushed;
mod load;
mod reshard;
mod server_killed;
mod server_paused;

use std::process::ExitCode;
use std::time::Duration;

use goose_tests::brokers::Kind;
use goose_tests::scenario::{blocked, flow, is_long, killed, on_servers_to_hurt, paused, poison};
use goose_tests::servers::Topology::{Cluster, Sentinel, Standalone};
use goose_tests::trials;
use libtest_mimic::Arguments;

const ONE: Kind = Kind::Redis(Standalone);

/// Workers go on this soon after a broker is back.
const BACK_WITHIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let trials = trials![
        // The longest first.
        blocked::handlers_that_block_every_thread_keep_their_claims(ONE),
        server_killed::for_twenty_seconds_and_workers_go_on_at_once(),
        poison::a_job_that_kills_its_workers_dies_and_the_others_live(ONE),
        server_paused::for_longer_than_calls_wait_under_load(),
        "cluster": failover::from_a_paused_primary(Cluster),
        "sentinel": failover::from_a_paused_primary(Sentinel),
        "cluster": failover::from_a_killed_primary(Cluster),
        "sentinel": failover::from_a_killed_primary(Sentinel),
        "cluster": flow::five_thousand_jobs_with_faults(Kind::Redis(Cluster)),
        "sentinel": flow::five_thousand_jobs_with_faults(Kind::Redis(Sentinel)),
        flow::five_thousand_jobs_with_faults(ONE),
        reshard::of_the_slot_of_the_queue(),
        server_killed::for_longer_than_the_lease_recovers_nobody(),
        killed::a_worker_with_one_job_in_flight(ONE),
        killed::a_worker_with_fifty_jobs_in_flight(ONE),
        paused::a_worker_that_slept_longer_than_its_lease(ONE),
        server_killed::with_every_write_on_disk_loses_nothing(),
        server_killed::with_a_flush_each_second_loses_nothing_older_than_two_seconds(),
        server_killed::for_three_seconds_and_workers_go_on_at_once(),
        server_paused::for_three_seconds_under_load(),
        flushed::under_load_and_workers_go_on(),
        flow::twenty_thousand_jobs_on_two_workers(ONE),
        flow::fifteen_graceful_stops(ONE),
        killed::a_producer_in_mid_bulk(ONE),
    ];
    libtest_mimic::run(&arguments, on_servers_to_hurt("GOOSE_REDIS_URL", trials)).exit_code()
}
