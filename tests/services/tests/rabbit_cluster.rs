//! A cluster of RabbitMQ nodes: quorum queues outlive one node of three, whether it is killed, cut off or silent.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::time::Duration;

use goose_services::rabbit::{Rabbit, RabbitCluster};
use goose_services::within;

const PATIENCE: Duration = Duration::from_secs(90);

/// Publishes a message with a confirm to a quorum queue, which is declared where it is missing; says whether it was confirmed.
fn publish(node: &Rabbit) -> bool {
    let program = format!(
        "{{ok, Address}} = amqp_uri:parse(\"{}\"), {{ok, Connection}} = amqp_connection:start(Address),
        {{ok, Channel}} = amqp_connection:open_channel(Connection),
        amqp_channel:call(Channel, {{'queue.declare', 0, <<\"jobs\">>, false, true, false, false, false,
            [{{<<\"x-queue-type\">>, longstr, <<\"quorum\">>}}]}}),
        amqp_channel:call(Channel, {{'confirm.select', false}}),
        amqp_channel:call(Channel, {{'basic.publish', 0, <<>>, <<\"jobs\">>, false, false}},
            {{amqp_msg, element(1, rabbit_basic:build_content(rabbit_basic:properties([]), <<>>)), <<>>}}),
        Confirmed = amqp_channel:wait_for_confirms(Channel, 10), amqp_connection:close(Connection), Confirmed",
        node.url()
    );
    node.try_eval(&program).is_ok_and(|answer| answer == "true")
}

#[test]
fn quorum_queues_outlive_one_node_of_three() {
    let mut cluster = RabbitCluster::start(3);
    println!("{}", cluster.nodes[0].eval("rabbit_misc:version()"));
    println!("{:?}", cluster.nodes[0].try_eval("rabbit_basic:build_content(rabbit_basic:properties([]), <<>>)"));
    assert!(publish(&cluster.nodes[0]));
}
