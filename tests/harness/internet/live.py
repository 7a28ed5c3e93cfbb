"""What leaves a sandbox, tried from inside gVisor against an Internet of our own: live.py INTERNET CASE...

INTERNET is the directory of an internet.py that is ready, in whose host namespace this runs. Without a CASE all of
them are run. Whatever a case says of "nothing", the capture has to say too.
"""

import itertools
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from library import (  # noqa: E402
    APPLIED, BLOCKED, DENIED, HOST, LIMIT, NOT_LISTED, PROTECTED, Failure, Sandbox, call, lib, policy, pointer,
)

ONE, OTHER, THIRD = "93.184.216.34", "8.8.8.8", "1.1.1.1"
REFUSING = "9.9.9.9"
SIX = "2606:4700:4700::1111"
# The host's own addresses, of which one looks public, and a port on which the host itself listens.
OWN, OWN_PORT = "5.5.5.2", 4242
ECHO = 7


class Wire:
    """What the capture has seen since it was last asked."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "packets")
        self.at = os.path.getsize(self.path)

    def seen(self):
        # The capture is a thread of another process: a moment until it has written what it has.
        time.sleep(0.3)
        with open(self.path, encoding="ascii") as packets:
            packets.seek(self.at)
            text = packets.read()
        self.at += len(text)
        return text.splitlines()


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")


def udp_goes_there_and_back(wire):
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp", ONE, ECHO, [1, 0, 1200, 1472, 1473, 9000, 0, 65507]), 8)
        same(sandbox.ask("udp", OTHER, ECHO, [100]), 1)
        # Many flows to one port of one address, and to others.
        same(sandbox.ask("udp_many", ONE, ECHO, 200, 5), 1000)
        same(sandbox.ask("udp_many", THIRD, ECHO, 20, 50), 1000)
        stats = sandbox.stats()
        assert stats.egress_flows_total >= 222, stats.egress_flows_total
        assert stats.egress_bytes_out == stats.egress_bytes_in > 78_000, stats.egress_bytes_out
        assert any(f" {ONE} {ECHO} " in line and line.startswith("udp 5.5.5.2") for line in wire.seen())


def udp_over_ipv6(_wire):
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp", SIX, ECHO, [1, 0, 1232, 5000, 65000]), 5)
        same(sandbox.ask("udp_many", SIX, ECHO, 50, 5), 250)


def a_far_end_without_a_server_ends_the_flow(_wire):
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp_send", REFUSING, 9999, 1), 1)
        until = time.monotonic() + 10
        while sandbox.stats().egress_flows:
            assert time.monotonic() < until, "the flow is still there"
            time.sleep(0.05)


def what_is_denied_is_told(wire):
    with Sandbox(policy("allowlist", [f"{ONE}/32", "5.5.5.0/24"], ["93.184.216.35/32"])) as sandbox:
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        same(sandbox.ask("echo", "a", 100_000), "same")
        wire.seen()
        same(sandbox.ask("connect", "b", OTHER, 443), "ECONNREFUSED")
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["port"], event["protocol"]), (OTHER.encode(), 443, 6))
        same((event["reason"], event["rule"], event["count"], event["cookie"]), (NOT_LISTED, -1, 1, 77))
        same(sandbox.ask("udp_send", "10.1.2.3", 53, 1), 1)
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["port"], event["protocol"]), (b"10.1.2.3", 53, 17))
        same(event["reason"], PROTECTED)
        same(sandbox.ask("connect", "b", "93.184.216.35", 80), "ECONNREFUSED")
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["reason"], event["rule"]), (b"93.184.216.35", -2, 2))
        # The kernel's set lets this through: only the library knows that it is the host itself.
        came = sandbox.ask("connect", "b", OWN, OWN_PORT)
        same(sandbox.ask("fate", "b", 10) if came == "connected" else came, "ECONNRESET")
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["port"], event["reason"]), (OWN.encode(), OWN_PORT, HOST))
        # Repeated, it is one event with its number.
        for _ in range(50):
            same(sandbox.ask("connect", "b", OTHER, 80), "ECONNREFUSED")
        count = 0
        while count < 50:
            event = sandbox.wait_for(DENIED)
            same((event["address"], event["port"]), (OTHER.encode(), 80))
            count += event["count"]
        same(count, 50)
        assert sandbox.stats().egress_denied >= 54, sandbox.stats().egress_denied
        same(wire.seen(), [])


def a_flood_of_denials_is_counted_and_costs_nothing(wire):
    with Sandbox(policy("allowlist", [f"{ONE}/32"])) as sandbox:
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        wire.seen()
        before = sandbox.stats().egress_denied
        sandbox.ask("udp_send", OTHER, 9, 20_000)
        same(sandbox.ask("scan", OTHER, 1, 2000), {"ECONNREFUSED": 2000})
        same(sandbox.ask("echo", "a", 100_000), "same")
        time.sleep(1.5)
        told = [event for event in sandbox.events() if event["kind"] == DENIED]
        assert 1 <= len(told) < 1000, len(told)
        assert any(event["address"] == b"" and event["count"] > 1 for event in told), "no overflow was told"
        denied = sandbox.stats().egress_denied - before
        assert denied >= 2001, denied
        same([line for line in wire.seen() if ONE not in line], [])


CASES = {name: case for name, case in list(globals().items()) if getattr(case, "__code__", None)
         and case.__code__.co_varnames[:1] in (("wire",), ("_wire",)) and case.__code__.co_argcount == 1}


def main():
    internet, *wanted = sys.argv[1:]
    for name in wanted or CASES:
        CASES[name](Wire(internet))
        print("ok", name, flush=True)


main()
