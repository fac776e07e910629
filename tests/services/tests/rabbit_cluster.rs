//! A cluster of RabbitMQ nodes: quorum queues outlive one node of three, whether it is killed, cut off or silent.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::time::Duration;

use goose_services::rabbit::{Rabbit, RabbitCluster};
use goose_services::within;

/// A node that says nothing is missed after some seconds, and comes back after some more.
const PATIENCE: Duration = Duration::from_secs(120);

/// Publishes a message to a quorum queue, which is declared where it is missing, and says whether it was confirmed.
/// RabbitMQ brings a client.
fn publish(node: &Rabbit) -> bool {
    let program = format!(
        "{{module, _}} = code:ensure_loaded(amqp_auth_mechanisms),
        {{ok, Address}} = amqp_uri:parse(\"{}\"), {{ok, Connection}} = amqp_connection:start(Address),
        try
            {{ok, Channel}} = amqp_connection:open_channel(Connection),
            amqp_channel:call(Channel, {{'queue.declare', 0, <<\"jobs\">>, false, true, false, false, false,
                [{{<<\"x-queue-type\">>, longstr, <<\"quorum\">>}}]}}),
            amqp_channel:call(Channel, {{'confirm.select', false}}),
            amqp_channel:register_return_handler(Channel, self()),
            amqp_channel:call(Channel, {{'basic.publish', 0, <<>>, <<\"jobs\">>, true, false}},
                {{amqp_msg, list_to_tuple(['P_basic' | lists:duplicate(14, undefined)]), <<>>}}),
            {{amqp_channel:wait_for_confirms(Channel, 10), receive Returned -> Returned after 0 -> kept end}}
        after amqp_connection:close(Connection)
        end",
        node.url()
    );
    node.try_eval(&program).is_ok_and(|answer| answer == "{true,kept}")
}

/// The queue goes on without the node that leads it.
fn goes_on_without(cluster: &mut RabbitCluster, what: &str, lose: fn(&mut RabbitCluster, usize)) {
    let wait =
        |condition: &str, is_met: &mut dyn FnMut() -> bool| within(PATIENCE, &format!("{what}: {condition}"), is_met);
    let mut leader = None;
    wait("there is a leader", &mut || {
        leader = cluster.leader("jobs", 0);
        leader.is_some()
    });
    let leader = leader.unwrap();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    lose(cluster, leader);
    wait("a message is confirmed", &mut || publish(&cluster.nodes[others[0]]));
    wait("it has another leader", &mut || {
        cluster.leader("jobs", others[0]).is_some_and(|leader| others.contains(&leader))
    });
    wait("the others miss it", &mut || others.iter().all(|node| !cluster.running(*node).contains(&leader)));
    // It has paused, or, from 4.3 on, goes on alone as far as that goes.
    wait("it misses the others", &mut || !others.iter().any(|node| cluster.running(leader).contains(node)));
}

#[test]
fn quorum_queues_outlive_one_node_of_three() {
    let mut cluster = RabbitCluster::start(3);
    assert_eq!((0..3).map(|node| cluster.running(node)).collect::<Vec<_>>(), vec![vec![0, 1, 2]; 3]);
    assert_eq!(cluster.urls().len(), 3);
    assert!(publish(&cluster.nodes[0]));

    goes_on_without(&mut cluster, "killed", |cluster, node| cluster.nodes[node].kill());
    cluster.nodes.iter_mut().filter(|node| node.try_eval("ok").is_err()).for_each(Rabbit::restart);
    cluster.wait_until_whole();

    goes_on_without(&mut cluster, "cut off", |cluster, node| cluster.cut_off(node));
    cluster.mend();
    cluster.wait_until_whole();

    goes_on_without(&mut cluster, "silent", |cluster, node| cluster.silence(node));
    cluster.mend();
    cluster.wait_until_whole();

    cluster.restart();
    within(PATIENCE, "the leader is there", || cluster.nodes[0].queue("jobs").is_some());
    let queue = cluster.nodes[0].queue("jobs").unwrap();
    assert!(queue.messages >= 4 && queue.kind == "quorum", "{queue:?}");
}
