"""What a sandbox may reach, changed while it runs; what it was denied; what it uses; its end in good order."""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import threading
from support import examples, sbx, unittest

from libsbx import native

# A host of one address, that looks public, in a network namespace of its own.
CUT = '''
import socket, subprocess, threading
import libsbx as sbx
HERE, ECHO = "93.184.216.34", 7
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "add", HERE + "/32", "dev", "lo"], check=True)
server = socket.create_server((HERE, ECHO))
def echo():
    while True:
        connection, _ = server.accept()
        try:
            for data in iter(lambda: connection.recv(100), b""):
                connection.sendall(data)
        except ConnectionResetError:
            pass
threading.Thread(target=echo, daemon=True).start()
client = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), 30) as connection:
    for line in iter(sys.stdin.readline, ""):
        try:
            connection.sendall(line.encode())
            print(connection.recv(100).decode(), end="", flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)
"""
with sbx.Sandbox.create("python3", "-c", client, HERE, outbound_cidr_allowlist=[HERE + "/32"]) as sb:
    def ask(text):
        sb.stdin.write(text + "\\n")
        sb.stdin.drain()
        return next(sb.stdout).strip()
    print(ask("one"))
    print(sb.set_network_policy(outbound_cidr_allowlist=[HERE + "/32", "8.8.8.8/32"]), ask("two"))
    print(sb.set_network_policy(outbound_cidr_allowlist=["8.8.8.8/32"]), ask("three"))
    denial = next(sb.denials)
    print(denial.address, denial.port, denial.protocol, denial.reason)
    stats = sb.stats()
    print(stats.egress_flows, stats.egress_flows_total, stats.egress_bytes_out, stats.egress_bytes_in)
'''


class Policy(unittest.TestCase):
    def setUp(self):
        self.sb = sbx.Sandbox.create(outbound_cidr_denylist=["8.8.8.0/24"])
        self.addCleanup(self.sb.close)

    def test_a_change_cuts_what_it_denies_and_nothing_else(self):
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(examples), *sys.path])}
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-B", "-c", CUT],
            env=variables, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said = ["one", "1 two", "2 ConnectionResetError", "93.184.216.34 7 6 -6", "0 1 8 8"]
        self.assertEqual(done.stdout.splitlines(), said, done.stderr)

    def test_what_is_in_force_is_read_back(self):
        found = self.sb.get_network_policy()
        self.assertEqual((found.mode, found.generation, found.outbound_cidr_denylist), ("open", 0, ("8.8.8.0/24",)))
        settings = dict(
            outbound_cidr_allowlist=["93.184.216.0/24", "2001:db8:1::/48"],
            outbound_domain_allowlist=["example.com", "*.example.org"], outbound_cidr_denylist=["93.184.216.34/32"],
            outbound_tls_ports=[8443, 9443],
        )  # fmt: skip
        self.assertEqual(self.sb.set_network_policy(**settings), 1)
        found = self.sb.get_network_policy()
        self.assertEqual((found.mode, found.generation), ("allowlist", 1))
        for name, entries in settings.items():
            self.assertEqual(getattr(found, name), tuple(entries))
        # Modal's name, and its way to close everything; a network can be closed and opened again.
        closed = self.sb._experimental_set_outbound_network_policy(
            outbound_cidr_allowlist=[], outbound_domain_allowlist=[]
        )
        self.assertEqual((closed, self.sb.get_network_policy().mode), (2, "allowlist"))
        self.assertEqual(self.sb.set_network_policy(block_network=True), 3)
        self.assertEqual(self.sb.get_network_policy().mode, "blocked")
        self.assertEqual(self.sb.set_network_policy(), 4)
        self.assertEqual(self.sb.get_network_policy().mode, "open")
        changed = self.sb.set_network_policy(outbound_local_cidrs=["93.184.216.0/24"], outbound_dns="addresses")
        self.assertEqual(changed, 5)
        found = self.sb.get_network_policy()
        self.assertEqual((found.mode, found.outbound_local_cidrs), ("open", ("93.184.216.0/24",)))
        self.assertEqual(found.outbound_dns, "addresses")
        with self.assertRaisesRegex(sbx.InvalidError, "outbound_dns"):
            self.sb.set_network_policy(outbound_dns="none")
        for other in (dict(outbound_cidr_allowlist=[]), dict(block_network=True)):
            with self.assertRaisesRegex(sbx.InvalidError, "93.184.216.0/24"):
                self.sb.set_network_policy(outbound_local_cidrs=["93.184.216.0/24"], **other)

    def test_what_is_wrong_changes_nothing(self):
        for settings in (
            dict(outbound_cidr_allowlist=["10.0.0.1/8"]),
            dict(outbound_domain_allowlist=["https://example.com"]),
            dict(block_network=True, outbound_cidr_allowlist=[]),
            dict(block_network=True, outbound_cidr_denylist=["10.0.0.0/8"]),
            dict(outbound_cidr_denylist=[5]),
        ):
            with self.subTest(settings=settings), self.assertRaises(sbx.InvalidError):
                self.sb.set_network_policy(**settings)
        self.assertEqual(self.sb.get_network_policy().generation, 0)
        with sbx.Sandbox.create(block_network=True) as blocked:
            with self.assertRaises(sbx.UnimplementedError):
                blocked.set_network_policy()
            found = blocked.get_network_policy()
            self.assertEqual((found.mode, found.generation, found.outbound_cidr_allowlist), ("blocked", 0, ()))
        self.sb.terminate(wait=True)
        with self.assertRaises(sbx.ConflictError):
            self.sb.set_network_policy()

    def test_asyncio(self):
        async def main():
            generations = await asyncio.gather(*(self.sb.set_network_policy.aio() for _ in range(5)))
            return sorted(generations), (await self.sb.get_network_policy.aio()).generation

        self.assertEqual(asyncio.run(main()), ([1, 2, 3, 4, 5], 5))


class Denials(unittest.TestCase):
    TRY = """
import socket
for port in (80, 443):
    socket.socket().connect_ex(("10.1.2.3", port))
"""

    def test_they_are_told_and_end_with_the_sandbox(self):
        with sbx.Sandbox.create("python3", "-c", self.TRY) as sb:
            told = list(sb.denials)
            self.assertEqual([(denial.address, denial.port) for denial in told], [("10.1.2.3", 80), ("10.1.2.3", 443)])
            self.assertEqual({(denial.protocol, denial.reason, denial.entry) for denial in told}, {(6, -4, -1)})
            self.assertIn("denied", told[0].detail)

    def test_asyncio(self):
        async def main():
            async with await sbx.Sandbox.create.aio("python3", "-c", self.TRY) as sb:
                return [denial.port async for denial in sb.denials]

        self.assertEqual(asyncio.run(main()), [80, 443])


class Stats(unittest.TestCase):
    def test_what_a_sandbox_uses(self):
        with sbx.Sandbox.create("python3", "-m", "http.server", "8000", unencrypted_ports=[8000]) as sb:
            sb.wait_until_ready()
            with socket.create_connection(sb.tunnels()[8000].tcp_socket, 30) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while connection.recv(4096):
                    pass
            stats = sb.stats()
            self.assertEqual(stats, sbx.SandboxStats(**vars(stats)))
            self.assertGreater(stats.uptime_ms, 0)
            self.assertEqual((stats.tunnel_connections_total, stats.tunnel_bytes_in), (1, 18))
            self.assertGreater(stats.tunnel_bytes_out, 100)
            self.assertEqual((stats.egress_denied, stats.dns_queries), (0, 0))
            sb.terminate(wait=True)
            self.assertGreaterEqual(asyncio.run(sb.stats.aio()).tunnel_bytes_out, stats.tunnel_bytes_out)

    def test_what_is_not_known_is_none(self):
        with sbx.Sandbox.create("sleep", "1000", block_network=True) as sb:
            raw = native.new("stats")
            native.call("sandbox_stats", sb._life.handle, ctypes.byref(raw))
            stats = vars(sb.stats())
            known = {"cpu_us": 1, "memory_bytes": 2, "memory_peak_bytes": 4, "processes": 8}
            known.update({name: 16 for name in stats if name.startswith(("egress_", "dns_"))})
            for name, value in stats.items():
                self.assertEqual(value is None, name in known and not raw.known & known[name], name)


class Stop(unittest.TestCase):
    def test_a_program_ends_in_its_own_way(self):
        script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
        with sbx.Sandbox.create("sh", "-c", script) as sb:
            self.assertEqual(next(sb.stdout), "ready\n")
            self.assertEqual(sb.stop(grace=60, wait=True), 9)
            self.assertEqual(sb.stdout.read(), "bye\n")

    def test_one_that_does_not_is_killed(self):
        with sbx.Sandbox.create("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done") as sb:
            next(sb.stdout)
            self.assertIsNone(sb.stop(grace=0.2))
            with self.assertRaises(sbx.SandboxTerminatedError):
                sb.wait()
            self.assertEqual(sb.returncode, 137)


class HostServices(unittest.TestCase):
    def test_a_service_of_the_host_is_reached_whatever_the_policy(self):
        client = """
import socket, sys
with socket.create_connection(("192.0.0.1", 8080), 30) as connection:
    print(connection.recv(100).decode())
try:
    socket.create_connection(("192.0.0.1", 8081), 30).recv(1)
except OSError:
    print("nothing else")
"""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer():
                with server.accept()[0] as connection:
                    connection.sendall(b"from the host")

            threading.Thread(target=answer, daemon=True).start()
            services = {8080: "127.0.0.1:%d" % server.getsockname()[1]}
            with sbx.Sandbox.create(
                "python3", "-c", client, host_services=services, outbound_cidr_allowlist=[]
            ) as sb:  # fmt: skip
                self.assertEqual((sb.stdout.read(), sb.stderr.read()), ("from the host\nnothing else\n", ""))

    def test_what_is_refused(self):
        for services, part in (
            (["127.0.0.1:80"], "host_services must be a dict of ports inside to addresses"),
            ("127.0.0.1:80", "host_services must be a dict"),
            ({"80": "127.0.0.1:80"}, "a port of host_services must be an integer"),
            ({80: 80}, "host_services[80] must be an address"),
            ({80: "localhost"}, "localhost"),
            ({53: "127.0.0.1:53"}, "53"),
        ):
            with self.subTest(services=services), self.assertRaises(sbx.InvalidError) as caught:
                sbx.Sandbox.create("true", host_services=services)
            self.assertIn(part, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
