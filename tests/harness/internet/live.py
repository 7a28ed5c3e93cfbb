"""What leaves a sandbox, tried from inside gVisor against an Internet of our own: live.py INTERNET CASE...

INTERNET is the directory of an internet.py that is ready, in whose host namespace this runs. Without a CASE all of
them are run. Whatever a case says of "nothing", the capture has to say too.
"""

import ctypes
import errno
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from library import (  # noqa: E402
    APPLIED, BLOCKED, DENIED, HOST, LIMIT, NOT_LISTED, PROTECTED, UNREACHABLE, Failure, Sandbox, lib, policy, pointer,
)
from wire import run, same  # noqa: E402

ONE, OTHER, THIRD = "93.184.216.34", "8.8.8.8", "1.1.1.1"
REFUSING = "9.9.9.9"
SIX = "2606:4700:4700::1111"
# The host's own addresses, of which one looks public, and a port on which the host itself listens.
OWN, OWN_PORT = "5.5.5.2", 4242
ECHO = 7


def udp_goes_there_and_back(wire):
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp", ONE, ECHO, [1, 0, 1200, 1472, 1473, 9000, 0, 65507]), 8)
        same(sandbox.ask("udp", OTHER, ECHO, [100]), 1)
        # Many flows to one port of one address, and to others.
        same(sandbox.ask("udp_many", ONE, ECHO, 200, 5), 1000)
        same(sandbox.ask("udp_many", THIRD, ECHO, 20, 50), 1000)
        stats = sandbox.stats()
        # One less than the sockets: a port that the first to ONE gave back may be taken again, for the same flow.
        assert stats.egress_flows_total >= 221, stats.egress_flows_total
        assert stats.egress_bytes_out == stats.egress_bytes_in > 78_000, stats.egress_bytes_out
        assert any(f" {ONE} {ECHO} " in line and line.startswith("udp 5.5.5.2") for line in wire.seen())


def udp_over_ipv6(_wire):
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp", SIX, ECHO, [1, 0, 1232, 5000, 65000]), 5)
        same(sandbox.ask("udp_many", SIX, ECHO, 50, 5), 250)


def many_ports_at_once_are_as_good_as_one(_wire):
    """Each far port has a socket of its own to answer from, which is asked for when it is first used."""
    with Sandbox(policy("open")) as sandbox:
        same(sandbox.ask("udp_ports", ONE, 20000, 100), 100)
        same(sandbox.ask("udp", ONE, ECHO, [1, 100]), 2)
        same([event for event in sandbox.events() if event["kind"] == LIMIT], [])


def a_far_end_without_a_server_ends_the_flow(_wire):
    with Sandbox(policy("open")) as sandbox:
        # What is allowed and isn't there shows as a reset, and the host is told why.
        came = sandbox.ask("connect", "a", REFUSING, 9999)
        same(sandbox.ask("fate", "a", 10) if came == "connected" else came, "ECONNRESET")
        event = sandbox.wait_for(UNREACHABLE)
        same((event["address"], event["port"], event["protocol"]), (REFUSING.encode(), 9999, 6))
        same((event["code"], event["reason"], event["count"]), (errno.ECONNREFUSED, 0, 1))
        same(sandbox.ask("udp_send", REFUSING, 9999, 1), 1)
        event = sandbox.wait_for(UNREACHABLE)
        same((event["protocol"], event["code"]), (17, errno.ECONNREFUSED))
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
        same((event["reason"], event["entry"], event["count"], event["cookie"]), (NOT_LISTED, -1, 1, 77))
        same(sandbox.ask("udp_send", "10.1.2.3", 53, 1), 1)
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["port"], event["protocol"]), (b"10.1.2.3", 53, 17))
        same(event["reason"], PROTECTED)
        same(sandbox.ask("connect", "b", "93.184.216.35", 80), "ECONNREFUSED")
        event = sandbox.wait_for(DENIED)
        same((event["address"], event["reason"], event["entry"]), (b"93.184.216.35", -2, 2))
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


def a_change_cuts_what_it_denies_and_nothing_else(wire):
    both, first, second = f"{THIRD}/32", f"{ONE}/32", f"{OTHER}/32"
    with Sandbox(policy("allowlist", [both, first])) as sandbox:
        for name, address in (("both", THIRD), ("first", ONE)):
            same(sandbox.ask("connect", name, address, ECHO), "connected")
            same(sandbox.ask("echo", name, 100_000), "same")
        same(sandbox.ask("udp", ONE, ECHO, [10]), 1)
        same(sandbox.policy(), (["allow " + both, "allow " + first], 0))
        same(sandbox.set_policy(policy("allowlist", [both, second])), 1)
        # The call has returned: whatever the sandbox sends now on the old flow goes nowhere.
        wire.seen()
        same(sandbox.ask("fate", "first", 5), "ECONNRESET")
        same(sandbox.ask("connect", "first", ONE, ECHO), "ECONNREFUSED")
        same(sandbox.ask("udp_send", ONE, ECHO, 5), 5)
        same(sandbox.ask("echo", "both", 1 << 20), "same")
        same(sandbox.ask("connect", "second", OTHER, ECHO), "connected")
        same(sandbox.ask("echo", "second", 100_000), "same")
        event = sandbox.wait_for(DENIED, lambda event: event["address"] == ONE.encode())
        same((event["port"], event["reason"]), (ECHO, NOT_LISTED))
        same([line for line in wire.seen() if f" {ONE} " in line], [])
        same(sandbox.policy(), (["allow " + both, "allow " + second], 1))
        # One that fails leaves everything as it is, and so does one that is refused.
        bad = policy("allowlist")
        lib.sbx_policy_allow_cidr(bad, b"10.0.0.5/8")
        try:
            sandbox.set_policy(bad)
            raise AssertionError("a bad policy was taken")
        except Failure as failure:
            assert "10.0.0.5/8" in failure.message, failure
        same(sandbox.policy()[1], 1)
        # Blocked closes the way out, and what was open.
        same(sandbox.set_policy(policy("blocked")), 2)
        same(sandbox.ask("fate", "both", 5), "ECONNRESET")
        same(sandbox.ask("fate", "second", 5), "ECONNRESET")
        same(sandbox.ask("connect", "x", THIRD, ECHO), "ECONNREFUSED")
        event = sandbox.wait_for(DENIED, lambda event: event["reason"] == BLOCKED)
        same(sandbox.policy(), ([], 2))
        same(sandbox.set_policy(policy("open", deny=[first])), 3)
        same(sandbox.ask("connect", "x", THIRD, ECHO), "connected")
        same(sandbox.ask("connect", "y", ONE, ECHO), "ECONNREFUSED")


def changes_are_made_one_after_the_other(_wire):
    with Sandbox(policy("allowlist")) as sandbox:
        policies = [policy("allowlist", [f"{ONE}/32"]), policy("allowlist", [f"{OTHER}/32"])]
        for index in range(50):
            sandbox.begin_to_set_policy(policies[index % 2], 1000 + index)
        seen = [sandbox.wait_for(APPLIED) for _ in range(50)]
        same([(event["cookie"], event["code"], event["value"][0]) for event in seen],
             [(1000 + index, 0, index + 1) for index in range(50)])
        same(sandbox.policy(), ([f"allow {OTHER}/32"], 50))
        # Many entries take a thread of their own; the sandbox's other matters go on meanwhile, and so does another.
        many = policy("allowlist", [f"11.{index >> 8 & 255}.{index & 255}.0/25" for index in range(20_000)])
        sandbox.begin_to_set_policy(many, 1)
        sandbox.begin_to_set_policy(policies[0], 2)
        same([sandbox.wait_for(APPLIED, patience=60)["cookie"] for _ in range(2)], [1, 2])
        same(sandbox.policy(), ([f"allow {ONE}/32"], 52))
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        same(sandbox.ask("echo", "a", 10), "same")
        same(sandbox.set_policy(many), 53)
        same((len(sandbox.policy()[0]), sandbox.ask("fate", "a", 5)), (20_000, "ECONNRESET"))
        for made in policies:
            lib.sbx_policy_free(made)


def a_change_that_fails_leaves_the_old_policy(wire):
    with Sandbox(policy("allowlist", [f"{ONE}/32"])) as sandbox:
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        same(sandbox.ask("echo", "a", 10), "same")
        # Somebody with power over the gateway takes away what the switch needs.
        keeper = subprocess.run(
            [sys.executable, "-I", str(HERE / "find.py"), "keeper", str(os.getpid())],
            check=True, capture_output=True, text=True,
        ).stdout.strip()
        into = ["nsenter", "--target", keeper, "--user", "--net", "--preserve-credentials"]
        subprocess.run([*into, "nft", "flush chain inet sbx egress; delete set inet sbx allow4_1"], check=True)
        for attempt in ("set_policy", "policy"):
            try:
                sandbox.set_policy(policy("open")) if attempt == "set_policy" else sandbox.policy()
                raise AssertionError(f"{attempt} has noticed nothing")
            except Failure as failure:
                assert attempt == "policy" or "the old policy stays" in failure.message, failure
        wire.seen()
        same(sandbox.ask("connect", "b", OTHER, ECHO), "ECONNREFUSED")
        same([line for line in wire.seen() if OTHER in line], [])


def many_entries_at_the_start(_wire):
    entries = [f"11.{index >> 8 & 255}.{index & 255}.0/25" for index in range(20_000)] + [f"{ONE}/32"]
    with Sandbox(policy("allowlist", entries)) as sandbox:
        same(len(sandbox.policy()[0]), 20_001)
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        same(sandbox.ask("echo", "a", 10_000), "same")
        same(sandbox.ask("connect", "b", OTHER, ECHO), "ECONNREFUSED")


def a_sandbox_without_a_network_gets_none(_wire):
    with Sandbox(policy("blocked")) as sandbox:
        try:
            sandbox.set_policy(policy("open"))
            raise AssertionError("it has a network now")
        except Failure as failure:
            assert "created without any network" in failure.message, failure
        sandbox.policy()


def changes_under_load(wire):
    """From A to B and back, again and again: what both allow goes on, what neither allows never leaves."""
    swaps = 10_000 if os.environ.get("SBX_LONG") else 500
    a, b = [f"{THIRD}/32", f"{ONE}/32"], [f"{THIRD}/32", f"{OTHER}/32"]
    neither = "93.184.216.99"
    with Sandbox(policy("allowlist", a)) as sandbox:
        same(sandbox.ask("connect", "kept", THIRD, ECHO), "connected")
        wire.seen()
        sandbox.ask("hammer_echo", "steady", "kept")
        sandbox.ask("hammer_connect", "both", THIRD, ECHO)
        sandbox.ask("hammer_connect", "one", ONE, ECHO)
        sandbox.ask("hammer_connect", "neither", neither, ECHO)
        sandbox.ask("hammer_udp", "datagrams", neither, ECHO)
        made = 0
        # On a busy machine the changes are quicker than the load: they go on until there was some of it.
        while made < swaps or min(sandbox.ask("progress", name) for name in ("steady", "both")) < 100:
            for _ in range(100):
                made += 1
                same(sandbox.set_policy(policy("allowlist", a if made % 2 == 0 else b)), made)
            sandbox.events()
        steady, both = sandbox.ask("stop", "steady"), sandbox.ask("stop", "both")
        sandbox.ask("stop", "one")
        count, failures, _ = sandbox.ask("stop", "neither")
        sandbox.ask("stop", "datagrams")
        same((steady[1], both[1]), (0, 0))
        assert count == 0 and failures > 10, (count, failures)
        left = wire.seen()
        same([line for line in left if neither in line], [])
        assert any(f" {THIRD} " in line for line in left)
        # The last one is in force, wherever one looks.
        same(sandbox.policy(), (["allow " + entry for entry in a], made))


def limited(rules, flows=0, begun=0, rate=0, total=0):
    def prepare(config):
        numbers = (ctypes.c_uint32(flows), ctypes.c_uint32(begun), ctypes.c_uint64(rate), ctypes.c_uint64(total))
        same(lib.sbx_config_set_egress_limits(config, *numbers), 0)

    return Sandbox(rules, prepare)


def each_budget_has_its_end(_wire):
    with limited(policy("open"), flows=20) as sandbox:
        same(sandbox.ask("hold_many", "held", ONE, ECHO, 30), 20)
        event = sandbox.wait_for(LIMIT)
        assert b"as many are open as may be" in event["detail"], event
        same(sandbox.ask("close", "held0"), "closed")
        same(sandbox.ask("pause", 0.2), "paused")
        same(sandbox.ask("hold_many", "again", ONE, ECHO, 1), 1)
        same(sandbox.stats().egress_flows, 20)
    with limited(policy("open"), begun=5) as sandbox:
        opened = sandbox.ask("hold_many", "held", ONE, ECHO, 60)
        assert opened < 60, opened
        assert b"within a second" in sandbox.wait_for(LIMIT)["detail"]
        same(sandbox.ask("pause", 1.5), "paused")
        same(sandbox.ask("hold_many", "again", ONE, ECHO, 1), 1)
    with limited(policy("open"), total=300_000) as sandbox:
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        same(sandbox.ask("echo", "a", 1 << 16), "same")
        same(sandbox.ask("connect", "b", ONE, ECHO), "connected")
        came = sandbox.ask("echo", "a", 1 << 20)
        assert came in ("ECONNRESET", "EPIPE"), came
        same(sandbox.ask("fate", "b", 5), "ECONNRESET")
        assert b"used up" in sandbox.wait_for(LIMIT)["detail"]
        same(sandbox.ask("hold_many", "again", ONE, ECHO, 3), 0)
        stats = sandbox.stats()
        assert 300_000 <= stats.egress_bytes_in + stats.egress_bytes_out < 900_000, stats.egress_bytes_out


def a_rate_slows_the_sender_and_loses_nothing(_wire):
    rate = 400_000
    with limited(policy("open"), rate=rate) as sandbox:
        same(sandbox.ask("connect", "a", ONE, ECHO), "connected")
        begun = time.monotonic()
        same(sandbox.ask("echo", "a", 1 << 20), "same")
        # Two megabytes have passed, of which a second's worth at once: it can't have been quicker than this.
        stats = sandbox.stats()
        passed = stats.egress_bytes_in + stats.egress_bytes_out
        assert passed <= rate * (2 + time.monotonic() - begun), (passed, time.monotonic() - begun)
        same(passed, 2 << 20)


def one_sandboxs_flood_is_its_own(_wire):
    """While one opens flows and moves data as fast as it can, another's go on, and nothing of it is refused."""
    with Sandbox(policy("open")) as flooding, Sandbox(policy("open")) as victim:
        same(victim.ask("connect", "a", THIRD, ECHO), "connected")
        for index in range(4):
            same(flooding.ask("connect", f"f{index}", ONE, ECHO), "connected")
            flooding.ask("hammer_echo", f"h{index}", f"f{index}")
        flooding.ask("hammer_udp", "datagrams", OTHER, 9)
        flooding.ask("hammer_connect", "connects", ONE, ECHO)
        rounds = 0
        while rounds < 20 or flooding.ask("progress", "datagrams") < 100:
            same(victim.ask("echo", "a", 1 << 16), "same")
            same(victim.ask("udp", THIRD, ECHO, [100]), 1)
            same(victim.ask("hold_many", "more", THIRD, ECHO, 1), 1)
            rounds += 1
        same([event for event in victim.events() if event["kind"] == LIMIT], [])


def a_service_of_the_host_is_one_port_and_no_other(wire):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve():
        while True:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()

    def prepare(config):
        same(lib.sbx_config_add_host_service(config, 8080, f"127.0.0.1:{port}".encode()), 0)

    with Sandbox(policy("allowlist"), prepare) as sandbox:
        wire.seen()
        same(sandbox.ask("connect", "a", "192.0.0.1", 8080), "connected")
        same(sandbox.ask("echo", "a", 1 << 20), "same")
        # No change of policy concerns it.
        same(sandbox.set_policy(policy("blocked")), 1)
        same(sandbox.ask("echo", "a", 1000), "same")
        same(sandbox.ask("close", "a"), "closed")
        for address, other in (("192.0.0.1", port), ("192.0.0.3", 8080), ("192.0.0.1", 8081), (OWN, 8080)):
            same(sandbox.ask("connect", "b", address, other), "ECONNREFUSED")
        same(sandbox.ask("udp_send", "192.0.0.1", 8080, 1), 1)
        same(wire.seen(), [])


run(globals())
