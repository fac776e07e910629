%% A way into a node for tests: it evaluates what it is told on a socket in a folder that only its user can enter.
%% rabbitmqctl can do no more, and takes a second or two of a whole processor each time, for it starts a machine of its own.
%%
%% Both ways a message is a length of four bytes and so many bytes. A request is Erlang expressions. An answer is a byte,
%% 0 for a value and 1 for a failure, and text: that of a binary, or any other term as Erlang writes it.
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(0, [
        {ifaddr, {local, os:getenv("GOOSE_DOOR")}}, binary, {packet, 4}, {active, false}, {backlog, 128}
    ]),
    Answer = fun(Text) ->
        try
            {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
            {ok, Expressions} = erl_parse:parse_exprs(Tokens),
            case erl_eval:exprs(Expressions, erl_eval:new_bindings()) of
                {value, Value, _} when is_binary(Value) -> [0, Value];
                %% Without t: from 4.0 on it would take nearly any list of numbers for text.
                {value, Value, _} -> [0, unicode:characters_to_binary(io_lib:format("~0p", [Value]))]
            end
        catch
            Class:Reason -> [1, unicode:characters_to_binary(io_lib:format("~0tp: ~0tp", [Class, Reason]))]
        end
    end,
    Serve = fun Serve() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        %% Each has a process of its own: one that takes long is in nobody's way.
        Process = spawn(fun() ->
            receive yours -> ok end,
            {ok, Text} = gen_tcp:recv(Socket, 0),
            gen_tcp:send(Socket, Answer(Text))
        end),
        ok = gen_tcp:controlling_process(Socket, Process),
        Process ! yours,
        Serve()
    end,
    Serve()
end).
