"""Lets kazoo's own tests run on a server that this harness launches.

kazoo's tests build their cluster through `kazoo.testing.common`; this pytest plugin puts a module
of that name in its place before anything imports it. The kind of server comes from
`QUORATE_INTEROP_KIND`, the number of servers from `ZOOKEEPER_CLUSTER_SIZE`, which is 1 unless it
is set. TLS is not offered: tests that need it fail alike on every kind, and so are not in the
baseline.
"""

import os
import sys
import types

import harness

KIND = os.environ.get("QUORATE_INTEROP_KIND", "zookeeper")
os.environ.setdefault("ZOOKEEPER_VERSION", "3.9.5")
os.environ.setdefault("ZOOKEEPER_CLUSTER_SIZE", "1")


class ManagedZooKeeper:
    """What kazoo's tests ask of a server: run, stop, reset, destroy, its address."""

    def __init__(self, server):
        self.server = server
        self.running = False

    @property
    def address(self):
        return self.server.hosts

    @property
    def secure_address(self):
        return "127.0.0.1:1"

    @property
    def client_port(self):
        return self.server.port

    def run(self):
        if not self.running:
            self.server.start()
            self.running = True

    def spawn(self):
        self.server.spawn()
        self.running = True

    def stop(self):
        self.server.stop()
        self.running = False

    def destroy(self):
        self.running = False
        self.server.discard()

    def get_logs(self, num_lines=100):
        return self.server.log_tail(num_lines).splitlines(True)


class ZookeeperCluster:
    def __init__(self, size=1, jaas_config=None, **_options):
        self.size, self.jaas_config = size, jaas_config
        self.servers = []
        self.make()

    def make(self):
        settings = {
            # A second SASL user list is not needed: the tests' user is in ours.
            "sasl": bool(self.jaas_config), "force_sync": False,
            "extra": {"reconfigEnabled": "true",
                      "authProvider.1":
                      "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}}
        if self.size == 1:
            servers = [harness.Server(KIND, **settings)]
        else:
            servers = harness.Ensemble(KIND, self.size, **settings).servers
        self.servers = [ManagedZooKeeper(server) for server in servers]

    def __getitem__(self, index):
        return self.servers[index]

    def __iter__(self):
        return iter(self.servers)

    def start(self):
        if not all(server.server.home.exists() for server in self):
            self.terminate()
            self.make()
        # Side by side: none of several serves alone.
        started = [server for server in self if not server.running]
        for server in started:
            server.spawn()
        for server in started:
            server.server.wait_until_serves()

    def stop(self):
        for server in self:
            server.stop()

    def terminate(self):
        for server in self:
            server.destroy()

    def reset(self):
        self.terminate()
        self.make()

    def get_logs(self):
        return [line for server in self for line in server.get_logs()]

    def get_ssl_client_configuration(self):
        raise RuntimeError("no TLS here")


STAND_IN = types.ModuleType("kazoo.testing.common")
STAND_IN.ManagedZooKeeper = ManagedZooKeeper
STAND_IN.ZookeeperCluster = ZookeeperCluster
sys.modules["kazoo.testing.common"] = STAND_IN
