//! What is done to RabbitMQ: to one server, or to a node of a cluster.

use std::time::Duration;

use goose_core::QueueName;
use goose_services::rabbit::{Rabbit, RabbitCluster};

use crate::Result;
use crate::fault::{Fault, Step};
use crate::lab::{Lab, PREFIX};
use crate::ledger::now;

/// How long a node is cut off from the others: until they have missed it, and it has paused.
const CUT_OFF: Duration = Duration::from_secs(2);

/// Plays a fault of a server, and notes the outage; `false` for a fault that is none of RabbitMQ.
pub(super) async fn hurt(lab: &mut Lab, step: Step) -> Result<bool> {
    if matches!(step.fault, Fault::KillWorker | Fault::PauseWorker(_) | Fault::KillProducer) {
        return Ok(false);
    }
    let from = now();
    let what = if let Some(rabbit) = lab.rabbit() {
        hurt_server(rabbit, step.fault).await
    } else if let Some(cluster) = lab.rabbit_cluster() {
        hurt_node(cluster, step).await?
    } else {
        return Ok(false);
    };
    lab.note_outage(what, from)?;
    Ok(true)
}

async fn hurt_server(rabbit: &mut Rabbit, fault: Fault) -> &'static str {
    match fault {
        Fault::KillServer => {
            save_lists(rabbit);
            rabbit.restart();
            "killed"
        }
        Fault::PauseServer(time) => {
            rabbit.pause();
            tokio::time::sleep(time).await;
            rabbit.resume();
            "paused"
        }
        // It has no scripts.
        _ => {
            rabbit.close_connections();
            "cut"
        }
    }
}

/// RabbitMQ writes two lists with a delay: that of all queues in Mnesia, on 3.x, within two seconds, and that
/// of quorum queues and streams within half a second. A queue that was declared later than that before the
/// kill would be gone, with messages that were confirmed. No client can do anything about it.
fn save_lists(rabbit: &Rabbit) {
    rabbit.eval("catch mnesia:sync_log()");
    rabbit.save_names();
}

/// The victim is the node that leads the queue, or the one behind it. It is over when all nodes are there again.
async fn hurt_node(cluster: &mut RabbitCluster, step: Step) -> Result<&'static str> {
    let queue = format!("{PREFIX}/v1/queue/{}", QueueName::default());
    let leader = (0..cluster.nodes.len()).find_map(|node| cluster.leader(&queue, node));
    let node = (leader.ok_or("nobody leads the queue")? + step.victim) % cluster.nodes.len();
    let what = match step.fault {
        Fault::KillServer => {
            // The others know its lists; it does not when it is to lead alone after the next fault.
            save_lists(&cluster.nodes[node]);
            cluster.nodes[node].restart();
            "killed"
        }
        Fault::PauseServer(time) => {
            cluster.nodes[node].pause();
            tokio::time::sleep(time).await;
            cluster.nodes[node].resume();
            "paused"
        }
        // They have no scripts.
        Fault::ForgetScripts => {
            cluster.cut_off(node);
            tokio::time::sleep(CUT_OFF).await;
            cluster.mend();
            "apart"
        }
        _ => {
            cluster.nodes.iter().for_each(Rabbit::close_connections);
            "cut"
        }
    };
    cluster.wait_until_whole();
    Ok(what)
}
