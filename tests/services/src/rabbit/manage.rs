//! What tests do to a server and ask of it besides AMQP: a moment each, from inside of the node.
//!
//! The functions of RabbitMQ that are called here are the same from 3.10 to 4.3.

use super::Rabbit;

/// A queue as the node that has it sees it now; `rabbitmqctl list_queues` knows a quorum queue as it was seconds ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its virtual host.
    pub vhost: String,
    /// Its name there.
    pub name: String,
    /// `classic`, `quorum` or `stream`.
    pub kind: String,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages in all: the ready ones and those that consumers have not acknowledged.
    pub messages: u64,
    /// How many consumers it has.
    pub consumers: u64,
}

/// One line for each queue, with tabs between the columns of [`Queue`].
const LIST: &str = r#"
Total = fun(Q, rabbit_quorum_queue) ->
        {ok, {_, N}, _} = ra:leader_query(amqqueue:get_pid(Q), {rabbit_fifo, query_messages_total, []}), N;
    (Q, _) -> [{messages, N}] = rabbit_amqqueue:info(Q, [messages]), N
end,
unicode:characters_to_binary([try
    {resource, VHost, queue, Name} = amqqueue:get_name(Q),
    Type = amqqueue:get_type(Q),
    ["rabbit", Kind, "queue"] = string:split(atom_to_list(Type), "_", all),
    {ok, Ready, Consumers} = rabbit_amqqueue:stat(Q),
    io_lib:format("~ts\t~ts\t~ts\t~b\t~b\t~b\n", [VHost, Name, Kind, Ready, Total(Q, Type), Consumers])
catch
    %% It is being deleted, or elects its leader: there is nothing to say about it.
    _:_ -> []
end || Q <- rabbit_amqqueue:list()])"#;

impl Rabbit {
    /// Every queue there is; without those that cannot be asked at the moment.
    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        self.eval(LIST).lines().map(|line| Queue::read(line).unwrap_or_else(|| panic!("a queue: {line:?}"))).collect()
    }

    /// A queue of the virtual host `/`, if it is there.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.queues().into_iter().find(|queue| queue.vhost == "/" && queue.name == name)
    }

    /// Deletes a queue of the virtual host `/` with all that is in it, as an operator may; panics when there is none.
    pub fn delete_queue(&self, name: &str) {
        let name = binary(name);
        self.eval(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, {name})), \
             {{ok, _}} = rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)"
        ));
    }

    /// Whether the server finds that it has too little memory: it reads no more from connections that publish.
    pub fn memory_alarm(&self, is_on: bool) {
        let limit = if is_on { "0.0" } else { "element(2, application:get_env(rabbit, vm_memory_high_watermark))" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({limit})"));
        crate::eventually("the alarm is as it should be", || {
            self.eval("rabbit_alarm:get_alarms()").contains("memory") == is_on
        });
    }

    /// Has it believe that its disk is full, or not any more: it takes in nothing then, either.
    pub fn disk_alarm(&self, is_on: bool) {
        let limit: u64 = if is_on { 1 << 60 } else { 1 };
        self.eval(&format!("rabbit_disk_monitor:set_disk_free_limit({limit})"));
        crate::eventually("the alarm is as it should be", || {
            self.eval("rabbit_alarm:get_alarms()").contains("disk") == is_on
        });
    }

    /// Makes a virtual host, in which `guest` may do everything, and says where it is.
    #[must_use]
    pub fn add_vhost(&self, name: &str) -> String {
        self.eval(&format!("rabbit_vhost:add({}, <<\"test\">>)", binary(name)));
        self.permit("guest", name, [".*"; 3]);
        format!("{}{}", self.url().trim_end_matches("%2f"), percent_encoded(name))
    }

    /// Makes a user who may configure, write and read what these patterns match in the virtual host `/`.
    pub fn add_user(&self, name: &str, password: &str, permissions: [&str; 3]) {
        let (user, password) = (binary(name), binary(password));
        self.eval(&format!("ok = rabbit_auth_backend_internal:add_user({user}, {password}, <<\"test\">>)"));
        self.permit(name, "/", permissions);
    }

    /// Says what a user may configure, write and read in a virtual host.
    pub fn permit(&self, user: &str, vhost: &str, permissions: [&str; 3]) {
        let arguments = [user, vhost].into_iter().chain(permissions).chain(["test"]).map(binary).collect::<Vec<_>>();
        self.eval(&format!("ok = rabbit_auth_backend_internal:set_permissions({})", arguments.join(", ")));
    }

    /// Gives queues of the virtual host `/` whose names match a pattern the settings of a policy, in JSON.
    pub fn set_policy(&self, name: &str, pattern: &str, settings: &str) {
        let [name, pattern, settings] = [name, pattern, settings].map(binary);
        self.eval(&format!(
            "ok = rabbit_policy:parse_set(<<\"/\">>, {name}, {pattern}, {settings}, 0, <<\"queues\">>, <<\"test\">>)"
        ));
    }

    /// Has it write to disk which queues and streams of Raft it has. By itself it does that half a second late: of
    /// a server that is killed sooner after its first stream was made, no stream comes back, and no quorum queue that is
    /// younger does.
    pub fn save_names(&self) {
        self.eval(
            "[begin #{names := #{directory_rev := Names}} = ra_system:fetch(System), ok = dets:sync(Names) end || \
             System <- [quorum_queues, coordination]]",
        );
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.eval("length(rabbit_networking:local_connections())").parse().expect("a number")
    }

    /// What clients call their connections to this node, of those that give them names.
    #[must_use]
    pub fn clients(&self) -> Vec<String> {
        let names = self.eval(
            "unicode:characters_to_binary([[Name, 10] || Connection <- rabbit_networking:local_connections(), \
             {client_properties, Said} <- try rabbit_reader:info(Connection, [client_properties]) catch _:_ -> [] end, \
             {<<\"connection_name\">>, _, Name} <- Said])",
        );
        names.lines().map(str::to_owned).collect()
    }

    /// Closes all connections of clients, as an operator does: with a reason, `CONNECTION_FORCED`. Waits a while until the
    /// clients have understood.
    pub fn close_connections(&self) {
        self.eval(
            "Connections = rabbit_networking:local_connections(), \
             [rabbit_networking:close_connection(Connection, \"test\") || Connection <- Connections], \
             Ends = [monitor(process, Connection) || Connection <- Connections], \
             [receive {'DOWN', End, _, _, _} -> ok after 1000 -> late end || End <- Ends]",
        );
    }
}

impl Queue {
    fn read(line: &str) -> Option<Self> {
        let mut columns = line.split('\t');
        let mut text = || columns.next().map(str::to_owned);
        let (vhost, name, kind) = (text()?, text()?, text()?);
        let mut number = || text()?.parse().ok();
        Some(Self { vhost, name, kind, ready: number()?, messages: number()?, consumers: number()? })
    }
}

/// Text as Erlang writes a binary.
pub(super) fn binary(text: &str) -> String {
    format!("<<{}>>", text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(","))
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reaches_the_node_and_the_url_whatever_is_in_it() {
        assert_eq!(binary("a\"\n"), "<<97,34,10>>");
        assert_eq!(percent_encoded("a/b é"), "a%2fb%20%c3%a9");
    }

    #[test]
    fn a_line_is_a_queue() {
        let queue = Queue::read("/\tgoose:mail\tquorum\t1\t3\t2").unwrap();
        assert_eq!((queue.vhost.as_str(), queue.name.as_str(), queue.kind.as_str()), ("/", "goose:mail", "quorum"));
        assert_eq!((queue.ready, queue.messages, queue.consumers), (1, 3, 2));
        assert_eq!(Queue::read("/\tgoose:mail"), None);
    }
}
