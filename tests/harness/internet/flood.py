"""Floods of packets that no honest stack sends: flood.py INTERNET CASE...

INTERNET is the directory of an internet.py that is ready, in whose host namespace this runs. Without a CASE all of
them are run. One sandbox's flood may slow another down, by no more than its share of the machine; it may not stop it,
fill the host's memory or its queue of events, or get anywhere that the policy denies.
"""

import ctypes
import os
import pathlib
import re
import select
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

from library import LIMIT, Sandbox, lib, policy  # noqa: E402
from wire import run, same  # noqa: E402

ONE, OTHER, THIRD = "93.184.216.34", "8.8.8.8", "1.1.1.1"
DENIED = (OTHER, "10.1.2.3", "169.254.169.254", "5.5.5.2", "192.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255")
ECHO = 7
SECONDS = 60 if os.environ.get("SBX_LONG") else 5


def find(what, root):
    command = [sys.executable, "-I", str(HERE / "find.py"), what, str(root)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory():
    """What this process has for itself, in KiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


class RawFlood:
    """Frames from the sandbox's interface, from beginning to end, past gVisor."""

    def __init__(self, keeper, sentry):
        into = ["nsenter", "--target", str(keeper), "--user", "--preserve-credentials"]
        into += ["nsenter", f"--net=/proc/{sentry}/ns/net"]
        self.process = subprocess.Popen(
            [*into, sys.executable, "-I", str(HERE / "raw_flood.py"), ONE, *DENIED],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        same(self.process.stdout.readline(), "ready\n")

    def end(self):
        """How many frames went out."""
        said, _ = self.process.communicate(timeout=30)
        same(self.process.returncode, 0)
        return int(said)


def visit(sandbox):
    """All that a sandbox does with the world, once: how long it takes."""
    begun = time.monotonic()
    same(sandbox.ask("echo", "kept", 1 << 16), "same")
    same(sandbox.ask("udp", THIRD, ECHO, [100]), 1)
    same(sandbox.ask("hold_many", "more", THIRD, ECHO, 1), 1)
    return time.monotonic() - begun


def a_raw_flood_is_its_sandboxs_own(wire):
    with Sandbox(policy("allowlist", [f"{ONE}/32"])) as flooding:
        keeper = find("keeper", os.getpid())
        with Sandbox(policy("allowlist", [f"{THIRD}/32"])) as other:
            same(other.ask("connect", "kept", THIRD, ECHO), "connected")
            calm = statistics.median(visit(other) for _ in range(20))
            wire.seen()
            flooding.events()
            before, flood = memory(), RawFlood(keeper, find("sentry", keeper))
            visits, told, most, until = [], 0, before, time.monotonic() + SECONDS
            while time.monotonic() < until or len(visits) < 20:
                visits.append(visit(other))
                told += len(flooding.events())
                flooding.seen.clear()
                most = max(most, memory())
            sent = flood.end()
            stormy = statistics.median(visits)
            print(f"{sent} frames; {len(visits)} visits in {stormy * 1000:.1f} ms, {calm * 1000:.1f} before;",
                  f"{told} events; {most - before} KiB more")
            assert sent > 5000 * SECONDS, sent
            assert stormy < max(20 * calm, 0.5), (stormy, calm)
            assert told < 200 * (SECONDS + 5), told
            assert most < before + (32 << 10), (before, most)
            same([event for event in other.events() if event["kind"] == LIMIT], [])
            # What the capture has before this it has for certain.
            same(other.ask("udp", THIRD, ECHO, [1000]), 1)
            left = wire.seen()
            assert any(f" {THIRD} {ECHO} length 1042" in line for line in left)
            same([line for line in left if line.split()[3] not in (ONE, THIRD)], [])
            # Of what is allowed something came through: the flood was one.
            assert any(f" {ONE} 9 " in line for line in left)
        # Its own way out is open again.
        same(flooding.ask("connect", "a", ONE, ECHO), "connected")
        same(flooding.ask("echo", "a", 1 << 16), "same")


class Siege:
    """Half-open connections to a port of the host, by internet.py, which is root there."""

    def __init__(self, directory, port):
        self.hold, self.done, self.port = os.path.join(directory, "hold"), os.path.join(directory, "done"), port

    def change(self, verb):
        line = f"{verb} {self.port}\n"
        before = self.count(line)
        with open(self.hold, "w", encoding="ascii") as hold:
            hold.write(line)
        eventually(f"{verb} is not done", lambda: self.count(line) > before)

    def count(self, line):
        try:
            with open(self.done, encoding="ascii") as done:
                return done.readlines().count(line)
        except FileNotFoundError:
            return 0

    def half_open(self):
        """How many connections to the port are neither open nor given up."""
        with open("/proc/net/tcp", encoding="ascii") as lines:
            rows = [line.split() for line in lines][1:]
        return sum(row[3] == "03" and row[1].endswith(f":{self.port:04X}") for row in rows)


def eventually(what, holds, patience=60):
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def cookies():
    """How many connections were answered without being remembered, as the queue was full (tcp_syncookies)."""
    with open("/proc/net/netstat", encoding="ascii") as lines:
        names, values = [line.split() for line in lines if line.startswith("TcpExt:")]
    return int(values[names.index("TCPReqQFullDoCookies")])


def come_in(address):
    """A client of the tunnel, from its beginning to its end."""
    with socket.create_connection(address, 10) as connection:
        connection.sendall(b"hello")
        same(connection.recv(64), b"hello")
        connection.shutdown(socket.SHUT_WR)
        same(connection.recv(64), b"")


def half_open_connections_keep_no_client_out(wire):
    def prepare(config):
        same(lib.sbx_config_add_port(config, ctypes.c_uint32(7000), 3), 0)

    with Sandbox(policy("allowlist"), prepare) as sandbox:
        same(sandbox.ask("serve", 7000), "serving")
        address = sandbox.tunnel(7000)
        come_in(address)
        siege = Siege(os.path.dirname(wire.path), address[1])
        descriptors, before, unremembered, clients = len(os.listdir("/proc/self/fd")), memory(), cookies(), 1
        for _ in range(3):
            siege.change("besiege")
            assert siege.half_open() > 1000, siege.half_open()
            for _ in range(50):
                come_in(address)
                clients += 1
        # More came than the listener's queue holds; what is counted as a connection is what was one.
        assert cookies() > unremembered
        same(sandbox.stats().tunnel_connections_total, clients)
        # The library may have a stock of sockets now; half-open connections take none.
        assert len(os.listdir("/proc/self/fd")) < descriptors + 200
        assert memory() < before + (8 << 10), (before, memory())
        siege.change("relieve")
        eventually("connections stay half open", lambda: siege.half_open() == 0)
        come_in(address)


def time_wait(port):
    """How many connections to that port of others the host has in TIME_WAIT."""
    with open("/proc/net/tcp", encoding="ascii") as lines:
        rows = [line.split() for line in lines][1:]
    return sum(row[3] == "06" and row[2].endswith(f":{port:04X}") for row in rows)


def connections_one_after_the_other_leave_the_host_its_ports(wire):
    with Sandbox(policy("open")) as sandbox:
        # Other cases may have left some.
        before, begun = time_wait(ECHO), time.monotonic()
        count = sandbox.ask("churn", ONE, ECHO, SECONDS)
        # Those that wait to be accepted are still to be judged.
        time.sleep(1)
        left = time_wait(ECHO) - before
        # Two thousand at once, and two hundred a second.
        may = 2000 + 200 * (time.monotonic() - begun)
        print(f"{count} connections; {left} in TIME_WAIT, of {may:.0f} that may be")
        assert left <= may + 200, (left, may)
        if count > may + 200:
            sandbox.wait_for(LIMIT, lambda event: b"within a second" in event["detail"])
        # What still waits to be accepted takes the place of the next one; then that is let through again.
        def passes():
            return sandbox.ask("connect", "a", ONE, ECHO) == "connected" and sandbox.ask("echo", "a", 1 << 16) == "same"

        eventually("no connection is let through again", passes)


def memory_of_sockets():
    """What the host's kernel holds for this process's TCP connections."""
    told = subprocess.run(["ss", "-tnmp"], check=True, capture_output=True, text=True).stdout.splitlines()
    held = 0
    for line, memory in zip(told, told[1:]):
        if f"pid={os.getpid()}," in line:
            fields = dict(re.findall(r"\b(rb|tb|r|w|t)(\d+)", memory.partition("skmem:")[2]))
            held += int(fields.get("r", 0)) + int(fields.get("w", 0))
    return held


def budget_of_sockets():
    """What the flows of a single sandbox may hold."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal:"))
    return max(16 << 20, min(256 << 20, memory // 16 // 2 // 2))


def connections_that_nobody_reads_hold_little_of_the_hosts_memory(wire):
    with Sandbox(policy("open")) as sandbox:
        # The server reads no more when its answers aren't read.
        sandbox.begin("fill", "full", ONE, ECHO, 80)
        most, until = 0, time.monotonic() + 120
        while b"\n" not in sandbox.rest and time.monotonic() < until:
            most = max(most, memory_of_sockets())
            if select.select([sandbox.output], [], [], 0.2)[0]:
                break
        taken, left = sandbox.answer(), memory_of_sockets()
        print(f"{taken >> 20} MiB taken; {most >> 20} MiB at most in the host's kernel, then {left >> 20} MiB")
        # 256 MiB where there is memory enough, and what came before that was seen.
        budget = budget_of_sockets()
        if max(most, left) > budget:
            sandbox.wait_for(LIMIT, lambda event: b"small buffers" in event["detail"])
        if max(most, left) > 2 * budget:
            return print("the machine is small: some may be reset")
        # They live, and others are as they were.
        same(sandbox.ask("connect", "a", THIRD, ECHO), "connected")
        same(sandbox.ask("echo", "a", 1 << 20), "same")
        same(sandbox.ask("drain", "full", 80), 80)


def what_holds_twice_the_budget_is_reset(wire):
    with Sandbox(policy("open")) as sandbox:
        # Without a bound they hold 1.7 GiB.
        taken = sandbox.ask("fill", "full", ONE, ECHO, 300)
        left, most = memory_of_sockets(), 2 * budget_of_sockets()
        print(f"{taken >> 20} MiB taken; {left >> 20} MiB are in the host's kernel, of {most >> 20} that may be")
        assert left < most + (most >> 3), (left, most)
        same(sandbox.ask("connect", "a", THIRD, ECHO), "connected")
        same(sandbox.ask("echo", "a", 1 << 16), "same")


run(globals())
