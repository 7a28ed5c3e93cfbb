"""A cluster of several raylets on this machine, each with an address of its own."""

import os
import threading
import time

import pytest
import ray
from ray._private import services
from ray.cluster_utils import Cluster

# ray.sh gives the loopback interface these: the head's, and those of nodes that come and go. STRANGER is no node's.
HEAD, STRANGER = "10.77.0.1", "10.77.9.9"
SANDBOXES = int(os.environ.get("RAY_SANDBOXES", "16"))
NODES = int(os.environ.get("RAY_NODES", "2"))


def patient(get_node, seconds=60):
    """Ray gives a raylet 30 seconds to start, which is too little on a busy machine: this waits for longer."""

    def wait(*args):
        end = time.monotonic() + seconds
        while True:
            try:
                return get_node(*args)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    return wait


services.get_node = patient(services.get_node)


def persistently(start):
    """A raylet gives its own helpers as little time, and ends without them."""
    for _ in range(9):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


class Nodes:
    """The cluster's nodes but the head, which has no sandboxes."""

    def __init__(self):
        head = dict(num_cpus=1, include_dashboard=False, node_ip_address=HEAD)
        self.cluster = persistently(lambda: Cluster(initialize_head=True, connect=True, head_node_args=head))
        self.of = {}
        self.number = 1

    def add(self):
        self.number += 1
        resources = {"sandboxes": SANDBOXES // NODES}
        options = dict(num_cpus=1, resources=resources, node_ip_address=f"10.77.0.{self.number}")
        # A store of images of its own, as on a machine of its own.
        options["env_vars"] = {"XDG_CACHE_HOME": os.path.expanduser(f"~/cache-{self.number}")}
        node = persistently(lambda: self.cluster.add_node(**options))
        self.of[node.node_id] = node

    def kill(self, node_id):
        """Kills every process of it, as when its machine loses power, but for what its workers have started."""
        self.cluster.remove_node(self.of.pop(node_id), allow_graceful=False)

    def complete(self):
        while len(self.of) < NODES:
            self.add()

    def address(self, node_id):
        return self.of[node_id].node_ip_address


@pytest.fixture(scope="session")
def all_nodes():
    nodes = Nodes()
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()
    assert not until_gone("runsc-sandbox", "runsc-gofer", "runsc --root"), "something of sandboxes is left"


@pytest.fixture
def nodes(all_nodes):
    all_nodes.complete()
    return all_nodes


def processes(words):
    """The command lines in this pid namespace that have one of these words in them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(word in line for word in words):
            found.append(line)
    return found


def until_gone(*words, seconds=30):
    """What is left of them after that time."""
    end = time.monotonic() + seconds
    while (left := processes(words)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def eventually(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it didn't come true in time"
        time.sleep(0.05)
    return found


class Later(threading.Thread):
    """A call in a thread, and when it was over."""

    def __init__(self, work, *args, **kwargs):
        super().__init__()
        self.work, self.result, self.error, self.at = lambda: work(*args, **kwargs), None, None, None
        self.start()

    def run(self):
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error
        self.at = time.monotonic()

    def over(self, seconds=120):
        self.join(seconds)
        assert self.at is not None, "it isn't over"
        return self
