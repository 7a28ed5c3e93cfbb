"""Sandboxes on a host that runs docker: docker.py INTERNET CAPTURE CONTAINER

INTERNET is the directory of an internet.py that is ready. CAPTURE is a directory in which capture.py writes down what
passes docker's bridge; CONTAINER is the address of a container there, with a server at port 80.
"""

import ctypes
import os
import pathlib
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from library import DENIED, HOST, PROTECTED, Sandbox, lib, policy  # noqa: E402
from wire import Wire, same  # noqa: E402

ONE, BRIDGE = "93.184.216.34", "172.17.0.1"
ECHO, HOST_PORT, SERVED = 7, 4242, 7000


def come_in(address):
    with socket.create_connection(address, 10) as connection:
        connection.sendall(b"hello")
        same(connection.recv(64), b"hello")


def contacts(internet):
    return os.path.getsize(os.path.join(internet, "contacts"))


def main():
    internet, captured, container = sys.argv[1:]
    bridge = Wire(captured)

    def to_the_container():
        return [line for line in bridge.seen() if f" {container} " in line]

    def prepare(config):
        same(lib.sbx_config_add_port(config, ctypes.c_uint32(SERVED), 3), 0)

    # The host itself reaches it: what follows means something.
    with socket.create_connection((container, 80), 10) as connection:
        same(connection.recv(64), b"reached\n")
    assert to_the_container(), "the capture sees nothing"

    for rules in (policy("open"), policy("allowlist", ["0.0.0.0/0"])):
        with Sandbox(rules, prepare) as sandbox:
            before = contacts(internet)
            for address, port in ((container, 80), (BRIDGE, 80), (BRIDGE, HOST_PORT)):
                came = sandbox.ask("connect", "a", address, port)
                same(came if came != "connected" else sandbox.ask("fate", "a", 10), "ECONNREFUSED")
                event = sandbox.wait_for(DENIED)
                same((event["address"], event["port"], event["protocol"]), (address.encode(), port, 6))
                assert event["reason"] in (PROTECTED, HOST), event
                same(sandbox.ask("udp_send", address, port, 1), 1)
                same(sandbox.wait_for(DENIED)["protocol"], 17)
            same(to_the_container(), [])
            same(contacts(internet), before)
            # Everything else goes on: out, and in.
            same(sandbox.ask("connect", "b", ONE, ECHO), "connected")
            same(sandbox.ask("echo", "b", 1 << 20), "same")
            same(sandbox.ask("serve", SERVED), "serving")
            come_in(sandbox.tunnel(SERVED))

    # Who names the container may reach it, by the host's own way there.
    with Sandbox(policy("allowlist", [f"{container}/32"])) as sandbox:
        same(sandbox.ask("connect", "a", container, 80), "connected")
        same(sandbox.ask("fate", "a", 10), "data")
        assert to_the_container()


main()
