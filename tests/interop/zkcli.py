#!/usr/bin/env python3
"""ZooKeeper's own command line, driven through every command, on both servers.

The same script goes to a real ZooKeeper and to the server under test; what zkCli prints must be
the same but for times, ports and session ids. Zxids are compared too, as distances from the
script's first write. Prints the first difference of each part.

    zkcli.py --kind quorate:target/release/quorate
    zkcli.py --kind zookeeper        (compares two real ones: proves the comparison itself)
"""

import argparse
import difflib
import re
import subprocess
import sys

import harness

TIMEOUT = 120
PROMPT = re.compile(r"\[zk: [^\]]*\] ?")
# JLine says on a pipe that it has no terminal; these lines are not zkCli's.
NOISE = re.compile(r"^.*org\.jline\.utils\.Log logr$\n^WARNING: .*$\n", re.M)
# An event's two lines: another thread prints them, so they may stand apart.
WATCHER = re.compile(r"^WATCHER::\n|^WatchedEvent (.*)\n", re.M)

# Each part is one zkCli. `{port}` is the server's.
PARTS = {
    "create, get, set, delete": """
        ls /
        create /a hello
        create /a
        create /nope/x
        create /a/b
        create /a/c "two words"
        create /a/d 'single quotes'
        create -s /a/seq- x
        create -s /a/seq- x
        create -e /a/eph x
        create -s -e /a/es- x
        create -e /a/eph/kid
        create -c /a/container
        create -c -e /a/wrong
        create -t 60000 /a/ttl x
        create -s -t 60000 /a/ttls- x
        create -t 0 /a/ttl0 x
        create bad
        create /a/
        create /a//b
        get /a
        get -s /a
        get /a/b
        get -b /a
        get -x /a/c
        get /nope
        stat /a
        stat /nope
        stat /
        set /a world
        set -s /a again
        set -v 1 /a late
        set -v 2 /a good
        set -b /a aGVsbG8=
        set /nope x
        get /a
        ls /a
        ls -s /a
        ls -R /a
        ls -R /
        ls /nope
        getAllChildrenNumber /a
        getAllChildrenNumber /
        getAllChildrenNumber /nope
        getEphemerals
        getEphemerals /a/es
        getEphemerals /other
        sync /a
        sync /nope
        delete /a
        delete -v 5 /a/b
        delete -v 0 /a/b
        delete /nope
        delete /zookeeper
        delete /
        deleteall /a/seq-0000000003
        deleteall /a -b 2
        deleteall /nope
        ls /
    """,
    "watches": """
        create /w 1
        get -w /w
        set /w 2
        set /w 3
        stat -w /w
        set /w 4
        ls -w /w
        create /w/a
        stat -w /w/none
        create /w/none
        addWatch /w
        create /w/b
        set /w/b x
        create /w/b/c
        delete /w/b/c
        removewatches /w
        removewatches /w -a
        set /w/b y
        addWatch -m PERSISTENT /w
        create /w/d
        set /w 5
        set /w/d 6
        addWatch -m NONSENSE /w
        removewatches /w -a
        removewatches /w -d
        get -w /w
        removewatches /w -d
        ls -w /w
        removewatches /w -c
        removewatches /w -c -l
        printwatches
        printwatches off
        get -w /w
        set /w 7
        printwatches on
        config -w
        ls -w /w/d
        delete /w/d
    """,
    "acls and identities": """
        create /acl x
        getAcl /acl
        getAcl -s /acl
        getAcl /nope
        whoami
        addauth digest alice:secret
        whoami
        addauth digest bob:hidden
        whoami
        create /acl/mine x auth::cdrwa
        getAcl /acl/mine
        setAcl /acl world:anyone:cdrwa,ip:10.0.0.0/8:r
        getAcl -s /acl
        setAcl -v 0 /acl world:anyone:cdrwa
        setAcl -v 1 /acl world:anyone:cdrwa
        setAcl -s /acl world:anyone:cdra
        set /acl refused
        setAcl /acl world:anyone:cdrwa
        setAcl -R /acl world:anyone:cdrwa
        getAcl /acl/mine
        setAcl /acl digest:foo:r
        setAcl /acl nosuch:foo:r
        setAcl /acl nonsense
        setAcl /nope world:anyone:r
        create /acl/digest x digest:u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=:ra
        getAcl /acl/digest
        get /acl/digest
        addauth digest u:p
        get /acl/digest
        getAcl /acl/digest
        create /acl/readonly x world:anyone:r
        getAcl /acl/readonly
        set /acl/readonly y
        setAcl /acl/readonly world:anyone:cdrwa
        create /acl/readonly/x
        addauth digest super:test
        whoami
        set /acl/readonly y
        deleteall /acl
    """,
    "quotas": """
        create /q x
        listquota /q
        setquota -n 5 /q
        listquota /q
        setquota -b 100 /q
        setquota -N 6 /q
        setquota -B 200 /q
        listquota /q
        create /q/a 12345
        set /q/a 123
        listquota /q
        setquota -n 3 /q/a
        setquota -n 5 -b 3 /q
        setquota -n 5 /nope
        ls -R /zookeeper/quota
        get /zookeeper/quota/q/zookeeper_limits
        get /zookeeper/quota/q/zookeeper_stats
        delquota -n /q
        listquota /q
        delquota -b /q
        delquota -N /q
        delquota -B /q
        listquota /q
        delquota /q
        listquota /q
        delquota /q
        ls -R /zookeeper/quota
        deleteall /q
    """,
    "configuration": """
        config
        config -s
        config -c
        reconfig -remove 1
        reconfig -add 2=127.0.0.1:2888:3888;2181
        reconfig -members 1=127.0.0.1:2888:3888;2181
        set /zookeeper/config x
        get /zookeeper/config
        stat /zookeeper/config
        getAcl /zookeeper/config
        stat /zookeeper
        stat /zookeeper/quota
    """,
    "the shell itself": """
        help
        version
        history
        redo 1
        redo 77
        nosuch
        ls
        get
        set /x
        create
        delete
        setquota
        addauth
        getAcl
        close
        ls /
        connect 127.0.0.1:{port}
        create /again x
        get /again
        delete /again
        printwatches maybe
        quit
    """,
}

# zkCli with a command on its command line: what it prints and its exit status.
SINGLE = [["ls", "/"], ["get", "/nope"], ["create", "/single", "x"], ["create", "/single", "x"],
          ["delete", "/single"], ["nosuch"]]


def cli(server, arguments=(), script=None):
    command = ["java", *harness.JAVA_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
               "-Dorg.jline.terminal.dumb=true", "-cp", harness.classpath(),
               "org.apache.zookeeper.ZooKeeperMain", "-server", server.hosts,
               "-waitforconnection", *arguments]
    return subprocess.run(command, input=script, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT)


def settle(text, server, base):
    """Takes out what may differ: ports, times, ids, and where the zxids begin."""
    text = text.replace(server.hosts, "SERVER").replace(f":{server.port}", ":PORT")

    def zxid(match):
        value = int(match[2], 0)
        if value in (0, -1):
            return match[0]
        base.setdefault("zxid", value)
        return f"{match[1]}first{value - base['zxid']:+d}"

    text = re.sub(r"([cmp]Zxid = )(0x[0-9a-f]+)", zxid, text)
    text = re.sub(r"(zxid: )(-?\d+)", zxid, text)
    text = re.sub(r"([cm]time = )(?!Thu Jan 01 00:00:00).*", r"\1TIME", text)
    text = re.sub(r"(ephemeralOwner = )0x[0-9a-f]{8,}", r"\1SESSION", text)
    # Lists of paths in an order that means nothing.
    text = re.sub(r"^\[(/[^\]]*)\]$",
                  lambda m: "[" + ", ".join(sorted(m[1].split(", "))) + "]", text, flags=re.M)
    text = re.sub(r"(Auth scheme: User\n)((?:\w+: .*\n)+)",
                  lambda m: m[1] + "".join(sorted(m[2].splitlines(True))), text)
    # Each entry of an ACL is two lines; those that came from `auth` have no order.
    text = re.sub(r"(?:^'.*\n: \w*\n)+",
                  lambda m: "".join(sorted(re.findall(r"'.*\n: \w*\n", m[0]))), text, flags=re.M)
    return text


def transcript(server, script, base):
    """What zkCli says to each command, and apart from that the events: they are printed by
    another thread, at any moment."""
    commands = [line.strip().replace("{port}", str(server.port))
                for line in script.strip().splitlines()]
    result = cli(server, script="\n".join(commands + ["quit", ""]))
    text = settle(NOISE.sub("", result.stdout), server, base)
    watchers = [event for event in WATCHER.findall(text) if event]
    said = PROMPT.split(WATCHER.sub("", text))
    answers = []
    for number, part in enumerate(said):
        heading = f"> {commands[number - 1]}" if 0 < number <= len(commands) else "> "
        answers.append(heading.replace(f":{server.port}", ":PORT"))
        answers += [line for line in part.splitlines() if line.strip()]
    return answers, watchers, result.returncode


def difference(real, ours, what):
    diff = list(difflib.unified_diff(real, ours, "zookeeper", "under test", lineterm="", n=3))
    assert not diff, f"{what} differ:\n" + "\n".join(diff[:40])


class Check:
    def __init__(self, real, ours):
        self.real, self.ours = real, ours
        self.bases = {}, {}

    def part(self, script):
        real = transcript(self.real, script, self.bases[0])
        ours = transcript(self.ours, script, self.bases[1])
        assert len(real[0]) > 10, f"zkCli said too little: {real[0]}"
        difference(real[0], ours[0], "answers")
        difference(real[1], ours[1], "events")
        assert real[2] == ours[2], f"exit status {ours[2]}, zookeeper's is {real[2]}"

    def single(self, command):
        results = []
        for server, base in zip((self.real, self.ours), self.bases):
            result = cli(server, command)
            text = WATCHER.sub("", settle(NOISE.sub("", result.stdout), server, base))
            results.append(([line for line in text.splitlines() if line.strip()],
                            result.returncode))
        difference(results[0][0], results[1][0], "outputs")
        assert results[0][1] == results[1][1], \
            f"exit status {results[1][1]}, zookeeper's is {results[0][1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True,
                        help="`zookeeper` or `quorate:<path of the binary>`")
    parser.add_argument("--only", help="parts whose name contains this")
    parser.add_argument("--show", action="store_true", help="print zkCli's answers")
    arguments = parser.parse_args()
    settings = dict(enforce_quota=True, reaper_ms=3_600_000)
    checks = harness.Checks("zkcli")
    with harness.launch("zookeeper", **settings) as real, \
            harness.launch(arguments.kind, **settings) as ours:
        check = Check(real, ours)
        for name, script in PARTS.items():
            if arguments.only and arguments.only not in name:
                continue
            if arguments.show:
                answers, watchers, _ = transcript(ours, script, {})
                print("\n".join(answers + watchers))
                continue
            if not checks.run(name, lambda: check.part(script)) and check.bases:
                # Writes may have gone apart: count distances anew.
                check.bases = {}, {}
        if not arguments.only:
            for command in SINGLE:
                checks.run("one command: " + " ".join(command), lambda: check.single(command))
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
