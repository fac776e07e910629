//! Scenarios of several processes on RabbitMQ, on classic and on quorum queues: what every broker must survive,
//! and what can happen to its server, or to the nodes of a cluster.
//!
//! Every scenario has a server or a cluster of its own. With `GOOSE_RABBITMQ_URL` they are all skipped: it names a server that must not be
//! hurt.

mod cluster;
mod leases;
mod links;
mod load;
mod server;

use std::process::ExitCode;

use goose_rmq::QueueType::{Classic, Quorum};
use goose_tests::brokers::Kind;
use goose_tests::scenario::{flow, killed, on_servers_to_hurt, paused, poison};
use goose_tests::trials;
use libtest_mimic::Arguments;

const CLASSIC: Kind = Kind::Rabbit(Classic);
const QUORUM: Kind = Kind::Rabbit(Quorum);
const CLUSTER: Kind = Kind::RabbitCluster;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = trials![
        // The longest first.
        "classic": flow::twenty_thousand_jobs_on_two_workers(CLASSIC),
        "quorum": flow::twenty_thousand_jobs_on_two_workers(QUORUM),
        cluster::a_node_paused(),
        cluster::a_node_cut_off(),
        cluster::a_node_cut_off_that_goes_on(),
        cluster::its_leader_killed(),
        cluster::all_nodes_killed(),
        cluster::the_writers_of_its_streams_killed(),
        "cluster": flow::five_thousand_jobs_with_faults(CLUSTER),
        "classic": flow::five_thousand_jobs_with_faults(CLASSIC),
        "quorum": flow::five_thousand_jobs_with_faults(QUORUM),
        "classic": server::killed_twice(CLASSIC),
        "quorum": server::killed_twice(QUORUM),
        "classic": server::paused_for_longer_than_heartbeats(CLASSIC),
        "quorum": server::paused_for_longer_than_heartbeats(QUORUM),
        "classic": links::cut_again_and_again(CLASSIC),
        "quorum": links::cut_again_and_again(QUORUM),
        "classic": links::closed_by_the_server_again_and_again(CLASSIC),
        "quorum": links::closed_by_the_server_again_and_again(QUORUM),
        "classic": links::down_for_longer_than_heartbeats(CLASSIC),
        "quorum": links::down_for_longer_than_heartbeats(QUORUM),
        "classic": links::without_answers(CLASSIC),
        "quorum": links::without_answers(QUORUM),
        "classic": links::slow(CLASSIC),
        "quorum": links::slow(QUORUM),
        "classic": leases::whose_worker_is_killed_again_and_again(CLASSIC),
        "quorum": leases::whose_worker_is_killed_again_and_again(QUORUM),
        "classic": leases::being_made_when_the_worker_is_killed(CLASSIC),
        "quorum": leases::being_made_when_the_worker_is_killed(QUORUM),
        "classic": leases::that_run_out_while_the_server_takes_nothing_in(CLASSIC),
        "quorum": leases::that_run_out_while_the_server_takes_nothing_in(QUORUM),
        "classic": server::out_of_memory(CLASSIC),
        "quorum": server::out_of_memory(QUORUM),
        "classic": server::out_of_disk(CLASSIC),
        "quorum": server::out_of_disk(QUORUM),
        "classic": server::its_queue_deleted(CLASSIC),
        "quorum": server::its_queue_deleted(QUORUM),
        "classic": poison::a_job_that_kills_its_workers_dies_and_the_others_live(CLASSIC),
        "quorum": poison::a_job_that_kills_its_workers_dies_and_the_others_live(QUORUM),
        "classic": killed::a_worker_with_one_job_in_flight(CLASSIC),
        "quorum": killed::a_worker_with_one_job_in_flight(QUORUM),
        "classic": killed::a_worker_with_twenty_five_jobs_in_flight(CLASSIC),
        "quorum": killed::a_worker_with_twenty_five_jobs_in_flight(QUORUM),
        "classic": paused::a_worker_that_slept_longer_than_its_lease(CLASSIC),
        "quorum": paused::a_worker_that_slept_longer_than_its_lease(QUORUM),
        "classic": flow::fifteen_graceful_stops(CLASSIC),
        "quorum": flow::fifteen_graceful_stops(QUORUM),
    ];
    libtest_mimic::run(&arguments, on_servers_to_hurt("GOOSE_RABBITMQ_URL", trials)).exit_code()
}
