"""Four-letter words."""

import re

import wire
from probe import Probes, add_watch, closed, created, eq, exists, get, ok, true

PROBES = probe = Probes()

ALL_WORDS = ["conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "ruok", "srvr", "srst",
             "stat", "wchc", "wchp", "wchs", "mntr", "isro", "hash"]


def ask(env, word):
    return wire.four_letter_word(env.address, word).decode()


def shape(text, *patterns):
    """Each line of the text matches its pattern."""
    lines = text.split("\n")
    for number, pattern in enumerate(patterns):
        true(number < len(lines), f"no line for {pattern!r} in {text!r}")
        true(re.fullmatch(pattern, lines[number]), f"{lines[number]!r} is not {pattern!r}")
    eq(lines[len(patterns):], [""], "what follows")


SRVR = [r"Latency min/avg/max: \d+/\d+(\.\d+)?/\d+", r"Received: \d+", r"Sent: \d+",
        r"Connections: \d+", r"Outstanding: \d+", r"Zxid: 0x[0-9a-f]+", r"Mode: standalone",
        r"Node count: \d+"]
VERSION = r"Zookeeper version: \d+\.\d+\.\d+-\S+, built on .*"


@probe("ruok is answered imok, without a newline")
def _(env):
    eq(ask(env, "ruok"), "imok")


@probe("isro is answered rw, without a newline")
def _(env):
    eq(ask(env, "isro"), "rw")


@probe("srvr has ZooKeeper's nine lines")
def _(env):
    shape(ask(env, "srvr"), VERSION, *SRVR)


@probe("stat has the clients between version and figures")
def _(env):
    env.session()
    text = ask(env, "stat")
    head, _, tail = text.partition("\nClients:\n")
    true(re.fullmatch(VERSION, head), head)
    clients, _, figures = tail.partition("\n\n")
    for line in clients.split("\n"):
        true(re.fullmatch(r" /127\.0\.0\.1:\d+\[\d\]\(queued=\d+,recved=\d+,sent=\d+\)", line),
             line)
    shape(figures, *SRVR)


@probe("mntr is one key, one tab, one value a line, and has the keys that agents read")
def _(env):
    keys = {}
    for line in ask(env, "mntr").rstrip("\n").split("\n"):
        match = re.fullmatch(r"(zk_\S+)\t(.*)", line)
        true(match, line)
        keys[match[1]] = match[2]
    for key in ("zk_version", "zk_server_state", "zk_avg_latency", "zk_max_latency",
                "zk_min_latency", "zk_packets_received", "zk_packets_sent",
                "zk_num_alive_connections", "zk_outstanding_requests", "zk_znode_count",
                "zk_watch_count", "zk_ephemerals_count", "zk_approximate_data_size",
                "zk_open_file_descriptor_count", "zk_max_file_descriptor_count"):
        true(key in keys, f"no {key}")
    eq(keys["zk_server_state"], "standalone")


@probe("conf names port, directories, tick and session limits")
def _(env):
    keys = [line.split("=")[0] for line in ask(env, "conf").rstrip("\n").split("\n")]
    eq(keys, ["clientPort", "secureClientPort", "dataDir", "dataDirSize", "dataLogDir",
              "dataLogSize", "tickTime", "maxClientCnxns", "minSessionTimeout",
              "maxSessionTimeout", "clientPortListenBacklog", "serverId"])


@probe("cons has a line for each connection, with its session, and an empty line")
def _(env):
    connection = env.session(timeout=5000)
    ok(exists(connection, "/"))
    text = ask(env, "cons")
    true(text.endswith("\n\n"), "an empty line at the end")
    own = [line for line in text.split("\n") if f"sid={connection.session:#x}" in line]
    eq(len(own), 1, "lines of our session")
    true(re.fullmatch(
        r" /127\.0\.0\.1:\d+\[\d\]\(queued=0,recved=2,sent=2,sid=0x[0-9a-f]+,lop=\w+,est=\d+,"
        r"to=5000,lcxid=0x1,lzxid=0x[0-9a-f]+,lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,"
        r"maxlat=\d+\)", own[0]), own[0])


@probe("crst and srst say what they reset")
def _(env):
    eq(ask(env, "crst"), "Connection stats reset.\n")
    eq(ask(env, "srst"), "Server stats reset.\n")


@probe("dirs has the two sizes")
def _(env):
    shape(ask(env, "dirs"), r"datadir_size: \d+", r"logdir_size: \d+")


@probe("envi has the version that clients parse")
def _(env):
    lines = ask(env, "envi").split("\n")
    eq(lines[0], "Environment:")
    true(any(re.match(r"zookeeper\.version=\d+\.\d+", line) for line in lines), "the version")
    true(any(line.startswith("host.name=") for line in lines), "host.name")


@probe("dump lists sessions by expiry and their ephemerals")
def _(env):
    connection, root = env.session(), env.root
    created(connection, root + "/e", flags=1)
    text = ask(env, "dump")
    true(re.search(r"^SessionTracker dump:\nSession Sets \(\d+\)/\(\d+\):\n", text), text[:80])
    true(re.search(r"^\d+ expire at .*:$", text, re.M), "an expiry line")
    true(f"\t{connection.session:#x}\n" in text, "our session")
    true(re.search(r"^ephemeral nodes dump:\nSessions with Ephemerals \(\d+\):\n", text, re.M),
         "the ephemerals' heading")
    true(f"{connection.session:#x}:\n\t{root}/e\n" in text, "our ephemeral")
    true("Connections dump:\nConnections Sets (" in text, "the connections' heading")


@probe("wchs, wchc and wchp show the watches")
def _(env):
    connection, root = env.session(), env.root
    ok(get(connection, root, watch=True))
    true(re.fullmatch(r"\d+ connections watching \d+ paths\nTotal watches:\d+\n?",
                      ask(env, "wchs")), ask(env, "wchs"))
    true(f"{connection.session:#x}\n\t{root}\n" in ask(env, "wchc"), "wchc")
    true(f"{root}\n\t{connection.session:#x}\n" in ask(env, "wchp"), "wchp")


@probe("gtmk answers 306")
def _(env):
    eq(ask(env, "gtmk").strip(), "306")


@probe("the closing bytes of telnet are taken as a word")
def _(env):
    connection = env.socket()
    connection.send_bytes(bytes([0xFF, 0xF4, 0xFF, 0xFD]))
    closed(connection.receive())


@probe("an unknown word is closed without a byte")
def _(env):
    for word in ("kill", "reqs", "abcd"):
        eq(ask(env, word), "", word)


@probe("a word may come in pieces, and with a line end behind it")
def _(env):
    connection = env.socket()
    connection.send_bytes(b"ru")
    connection.send_bytes(b"ok\r\n")
    while not connection.closed:
        connection.receive()
    eq(connection.pending, b"imok")


@probe("only srvr is on the whitelist by default; the others get one sentence", server="plain")
def _(env):
    for word in ALL_WORDS:
        if word == "srvr":
            shape(ask(env, word), VERSION, *SRVR)
        else:
            eq(ask(env, word),
               f"{word} is not executed because it is not in the whitelist.\n", word)


@probe("a fresh server counts five nodes", server="plain")
def _(env):
    true("Node count: 5\n" in ask(env, "srvr"), ask(env, "srvr"))
