//! Several nodes in one cluster, with links between them that can be cut.
//!
//! Each node has a name server of its own, which says that another node is where a proxy is: so every node reaches every
//! other by a link of its own.

use super::{Rabbit, RabbitBuilder, START, builder};
use crate::{Mode, Proxy};

/// A cluster of nodes on this machine. Dropping it kills them.
#[derive(Debug)]
pub struct RabbitCluster {
    /// All of them.
    pub nodes: Vec<Rabbit>,
    links: Vec<Link>,
}

/// The way from one node to another.
#[derive(Debug)]
struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

/// Seconds after which a node that says nothing counts as gone, instead of sixty.
const TICK: u8 = 8;

impl RabbitCluster {
    /// So many nodes. Those that find themselves in a minority pause until they are not, on servers before 4.3, which keep
    /// queues in Mnesia; and a node that says nothing counts as gone after eight seconds.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::with(count, &RabbitBuilder::default())
    }

    /// The same with further settings for every node.
    #[must_use]
    pub fn with(count: usize, settings: &RabbitBuilder) -> Self {
        let names: Vec<String> = (0..count).map(|_| builder::unique_name()).collect();
        let first = settings
            .clone()
            .erlang(&format!("-kernel net_ticktime {TICK}"))
            .config_first("cluster_partition_handling = pause_minority");
        let mut others = first.clone().config("cluster_formation.peer_discovery_backend = classic_config");
        for (n, name) in (1..).zip(&names) {
            others = others.config(&format!("cluster_formation.classic_config.nodes.{n} = {name}@localhost"));
        }
        // The first one looks for nobody, and so waits for nobody.
        let settings = [first].into_iter().chain(std::iter::repeat(others));
        let nodes: Vec<Rabbit> = names.iter().zip(settings).map(|(name, settings)| settings.prepare(name)).collect();
        let mut links = Vec::new();
        for (from, node) in nodes.iter().enumerate() {
            builder::write_cookie(node.folder(), names[0].as_bytes()).expect("the cookie");
            for (to, other) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
                let proxy = Proxy::to(other.place.distribution_port);
                node.place.epmd.say(&names[to], proxy.port());
                links.push(Link { from, to, proxy });
            }
        }
        let mut cluster = Self { nodes, links };
        // They join it when it is there. All at once they would lock each other out for seconds.
        let (first, others) = cluster.nodes.split_at_mut(1);
        first[0].restart();
        launch(others);
        cluster.wait_until_whole();
        cluster
    }

    /// Starts all nodes again, after `kill -9` of those that still run. All at once: a node may wait for those that went
    /// after it.
    pub fn restart(&mut self) {
        launch(&mut self.nodes);
        self.wait_until_whole();
    }

    /// Where the nodes are.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Rabbit::url).collect()
    }

    /// Cuts a node off from all others: connections between them break, and new ones are refused. Clients reach it.
    pub fn cut_off(&self, node: usize) {
        self.each_link_of(node, |proxy| {
            proxy.set(Mode::Refuse);
            proxy.reset();
        });
    }

    /// Cuts a node off as a broken cable does: nothing arrives any more, and nobody is told. Clients reach it.
    pub fn silence(&self, node: usize) {
        self.each_link_of(node, |proxy| proxy.set(Mode::Swallow));
    }

    /// Mends all links that are damaged.
    pub fn mend(&self) {
        for Link { proxy, .. } in self.links.iter().filter(|link| link.proxy.mode() != Mode::Pass) {
            // What was swallowed is missing in the connections that are left.
            proxy.reset();
            proxy.set(Mode::Pass);
        }
    }

    fn each_link_of(&self, node: usize, act: impl Fn(&Proxy)) {
        self.links.iter().filter(|link| link.from == node || link.to == node).for_each(|link| act(&link.proxy));
    }

    /// The nodes that a node finds running, itself included; none when it cannot be asked, or has paused.
    #[must_use]
    pub fn running(&self, node: usize) -> Vec<usize> {
        // A node that has paused remembers those that ran. The name of the function changed with 3.11.
        let list = "case rabbit:is_running() of \
            true -> try rabbit_nodes:list_running() catch error:undef -> rabbit_nodes:all_running() end; \
            false -> [] end";
        let text = self.nodes[node].try_eval(list).unwrap_or_default();
        let names: Vec<&str> = text.split(|c: char| "[]',".contains(c)).collect();
        (0..self.nodes.len()).filter(|n| names.contains(&self.nodes[*n].name().as_str())).collect()
    }

    /// Waits until every node finds every other running, and all are there for clients.
    pub fn wait_until_whole(&self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        crate::within(START, "every node finds every other running", || {
            all.iter().all(|node| self.running(*node) == all && super::amqp::answers(self.nodes[*node].port()))
        });
    }

    /// The node with the leader of a quorum queue or stream of the virtual host `/`, or with a classic queue, as another
    /// node knows it. Of a quorum queue that must be one with a part of it.
    #[must_use]
    pub fn leader(&self, queue: &str, asked: usize) -> Option<usize> {
        let answer = self.nodes[asked].try_eval(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, {})), \
             case amqqueue:get_pid(Q) of \
                 {{Name, _}} -> {{ok, _, {{_, Node}}}} = ra:members({{Name, node()}}, 1000), Node; \
                 Pid -> node(Pid) \
             end",
            super::manage::binary(queue)
        ));
        let name = answer.ok()?;
        self.nodes.iter().position(|node| node.name() == name.trim_matches('\''))
    }
}

fn launch(nodes: &mut [Rabbit]) {
    nodes.iter_mut().for_each(Rabbit::launch);
    nodes.iter_mut().for_each(Rabbit::wait_until_up);
}
