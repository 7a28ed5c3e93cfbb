"""A sandbox's network beyond its policy: where tunnels listen and by what certificate, name servers, budgets; what a
policy says of an address; the doctor and the library's log."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import threading
import urllib.request
from support import python, sbx, serve, top, unittest

PEM = (top / "tests" / "bindings" / "certificate.pem").read_text()
CHAIN, KEY = PEM[: PEM.index("-----BEGIN PRIVATE KEY")], PEM[PEM.index("-----BEGIN PRIVATE KEY") :]


def free_port(address):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


def run(program, *arguments, **settings):
    """What a program in Python prints in a sandbox of these settings."""
    with sbx.Sandbox.create("python3", "-c", program, *arguments, **settings) as sb:
        return sb.stdout.read() + sb.stderr.read()


@contextlib.contextmanager
def name_server():
    """Where one is asked that has one address for every name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer():
            while True:
                question, peer = server.recvfrom(512)
                end = question.index(b"\0", 12) + 5
                is_a = question[end - 4 : end - 2] == b"\0\1"
                head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([93, 184, 216, 34]) if is_a else b""
                server.sendto(head + question[12:end] + record, peer)

        threading.Thread(target=answer, daemon=True).start()
        yield "127.0.0.1:%d" % server.getsockname()[1]


class Tunnels(unittest.TestCase):
    def test_where_they_listen(self):
        number = free_port("127.0.0.2")
        places = {8000: ("127.0.0.2", number), 8001: "127.0.0.3"}
        with serve(encrypted_ports=[8000], unencrypted_ports=[8001], bind_ports=places, tls_names=["127.0.0.2"]) as sb:
            tunnels = sb.tunnels()
            self.assertEqual(tunnels[8000].tls_socket, ("127.0.0.2", number))
            self.assertEqual(tunnels[8001].tcp_socket[0], "127.0.0.3")
            self.assertGreater(tunnels[8001].tcp_socket[1], 0)
            with urllib.request.urlopen(tunnels[8000].url, context=tunnels[8000].ssl_context()) as page:
                self.assertIn("Directory listing", page.read().decode())

    def test_a_session_is_resumed_by_its_own_sandbox_only(self):
        def connect(tunnel, session=None):
            with socket.create_connection(tunnel.tls_socket, 30) as plain:
                with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                    tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    # A ticket of TLS 1.3 comes before the answer.
                    self.assertTrue(tls.recv(100).startswith(b"HTTP/1.0 200"))
                    return tls.session_reused, tls.session

        # The same certificate for both: only their keys for tickets differ.
        context = ssl.create_default_context(cadata=CHAIN)
        context.check_hostname = False
        own = {"encrypted_ports": [8000], "tls_certificate": (CHAIN, KEY)}
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            context.minimum_version = context.maximum_version = version
            with serve(**own) as sb, serve(**own) as other:
                ours, theirs = sb.tunnels()[8000], other.tunnels()[8000]
                reused, session = connect(ours)
                self.assertFalse(reused)
                self.assertTrue(connect(ours, session)[0], version)
                self.assertFalse(connect(theirs, session)[0], version)

    def test_a_certificate_of_ones_own(self):
        with serve(encrypted_ports=[8000], tls_certificate=(CHAIN, KEY)) as sb:
            tunnel = sb.tunnels()[8000]
            with urllib.request.urlopen(tunnel.url, context=ssl.create_default_context(cadata=CHAIN)) as page:
                self.assertIn("Directory listing", page.read().decode())

    def test_a_connection_without_a_tunnel(self):
        request = b"GET / HTTP/1.0\r\n\r\n"
        with serve(unencrypted_ports=[8000]) as sb:
            with sb.connect(8000) as connection:
                connection.sendall(request)
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.0 200"))

            async def main():
                reader, writer = await asyncio.open_connection(sock=await sb.connect.aio(8000))
                writer.write(request)
                first = await reader.readline()
                writer.close()
                return first

            self.assertTrue(asyncio.run(main()).startswith(b"HTTP/1.0 200"))
            with self.assertRaises(sbx.exception.ConnectionError):
                sb.connect(1)


class Settings(unittest.TestCase):
    def test_host_name_and_mtu(self):
        program = """
import fcntl, socket, struct
found = fcntl.ioctl(socket.socket(), 0x8921, struct.pack("16sI12x", b"eth0", 0))
print(socket.gethostname(), struct.unpack("16sI12x", found)[1])
"""
        self.assertEqual(run(program, hostname="crate-7", mtu=1400), "crate-7 1400\n")

    def test_name_servers(self):
        program = 'import socket; print(socket.gethostbyname("some.example.com"))'
        with name_server() as server:
            self.assertEqual(run(program, nameservers=[server]), "93.184.216.34\n")

    def test_budgets(self):
        program = """
import socket
first = socket.create_connection(("192.0.0.1", 8080), 30)
print(first.recv(5).decode())
try:
    print(socket.create_connection(("192.0.0.1", 8080), 30).recv(5))
except OSError as error:
    print(type(error).__name__)
"""
        with socket.create_server(("127.0.0.1", 0)) as server:
            held = []

            def answer():
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    connection.sendall(b"hello")

            threading.Thread(target=answer, daemon=True).start()
            services = {8080: "127.0.0.1:%d" % server.getsockname()[1]}
            said = run(program, host_services=services, egress_limits=sbx.EgressLimits(max_flows=1))
            self.assertRegex(said, r"hello\nConnection(Reset|Refused)Error\n")

    def test_ports_of_domains(self):
        program = """
import socket, sys
socket.gethostbyname("example.com")
for port in map(int, sys.argv[1:]):
    try:
        with socket.create_connection(("93.184.216.34", port), 30) as connection:
            connection.sendall(b"no handshake\\n")
            connection.recv(1)
    except OSError:
        pass
"""
        settings = dict(outbound_domain_allowlist=["example.com"], outbound_tls_ports=[8443])
        command = ("python3", "-c", program, "8443", "9443")
        with name_server() as server, sbx.Sandbox.create(*command, nameservers=[server], **settings) as sb:
            told = {denial.port: denial.reason for denial in sb.denials}
            self.assertEqual(told, {8443: sbx.PolicyReason.NOT_TLS, 9443: sbx.PolicyReason.NOT_LISTED})
            self.assertEqual({reason.name for reason in told.values()}, {"NOT_TLS", "NOT_LISTED"})

    def test_what_is_refused(self):
        for settings, part in (
            (dict(bind_ports=[8000]), "bind_ports must be a dict of ports inside"),
            (dict(bind_ports={8000: 80}), "bind_ports[8000] must be an address"),
            (dict(bind_ports={8000: ("127.0.0.1", 70000)}), "the port of bind_ports[8000] must be an integer"),
            (dict(bind_ports={8000: "localhost"}, encrypted_ports=[8000]), "bind_ports[8000]: "),
            (dict(bind_ports={8000: "127.0.0.1"}), "bind_ports[8000]: port 8000: is not listed"),
            (dict(tls_certificate=CHAIN), "tls_certificate must be a pair of texts"),
            (dict(tls_certificate=(CHAIN, "hunter2")), "tls_certificate: "),
            (dict(nameservers="127.0.0.1"), "nameservers must be a list"),
            (dict(nameservers=["dns.example"]), "nameservers: "),
            (dict(egress_limits=5), "egress_limits must be EgressLimits"),
            (dict(egress_limits=sbx.EgressLimits(max_flows=-1)), "egress_limits.max_flows must be an integer"),
            (dict(hostname="-"), "hostname: "),
            (dict(hostname=7), "hostname must be a string"),
            (dict(tunnel_rate=-2), "tunnel_rate must be an integer from -1 to 1000000"),
            (dict(tunnel_rate=None), "tunnel_rate must be an integer"),
            (dict(mtu=100), "mtu must be an integer from 1280 to 9000"),
            (dict(outbound_tls_ports=[8443]), "outbound_tls_ports"),
            (dict(outbound_tls_ports=[0], outbound_domain_allowlist=["example.com"]), "outbound_tls_ports"),
        ):
            with self.subTest(settings=settings), self.assertRaises(sbx.InvalidError) as caught:
                sbx.Sandbox.create("true", **settings)
            self.assertIn(part, str(caught.exception))
            self.assertNotIn("hunter2", str(caught.exception))


class Policies(unittest.TestCase):
    def test_what_a_policy_says_of_an_address(self):
        reason = sbx.PolicyReason
        for address, settings, allowed, why, entry in (
            ("93.184.216.34", {}, True, reason.OPEN, -1),
            ("10.0.0.1", {}, False, reason.PROTECTED, -1),
            ("169.254.169.254", {}, False, reason.METADATA, -1),
            ("93.184.216.34", dict(block_network=True), False, reason.BLOCKED, -1),
            ("93.184.216.34", dict(outbound_cidr_denylist=["8.8.8.0/24", "93.184.216.0/24"]), False, reason.DENIED, 1),
            ("93.184.216.34", dict(outbound_cidr_allowlist=["93.184.216.0/24"]), True, reason.LISTED, 0),
            ("8.8.8.8", dict(outbound_cidr_allowlist=["93.184.216.0/24"]), False, reason.NOT_LISTED, -1),
        ):
            with self.subTest(address=address, settings=settings):
                verdict = sbx.check_network_policy(address, **settings)
                self.assertEqual((verdict.allowed, verdict.reason, verdict.entry), (allowed, why, entry))
                self.assertIn("allowed" if allowed else "denied", verdict.detail)
        self.assertEqual(sbx.check_network_policy("8.8.8.8", 53, "udp").reason, reason.OPEN)
        self.assertEqual(sbx.check_network_policy("8.8.8.8", protocol=1).reason, reason.PROTOCOL)
        for arguments, settings, part in (
            (("example.com",), {}, "example.com"),
            ((7,), {}, "address must be a string"),
            (("8.8.8.8", 0), {}, "port must be an integer"),
            (("8.8.8.8", 53, "quic"), {}, "protocol must be"),
            (("8.8.8.8",), dict(outbound_cidr_allowlist=["10.0.0.1/8"]), "10.0.0.1/8"),
        ):
            with self.subTest(arguments=arguments), self.assertRaises(sbx.InvalidError) as caught:
                sbx.check_network_policy(*arguments, **settings)
            self.assertIn(part, str(caught.exception))

    def test_a_reason_of_a_later_library(self):
        reason = sbx.PolicyReason(-99)
        self.assertEqual((reason, reason.name), (-99, "UNKNOWN"))


class Checks(unittest.TestCase):
    def test_the_doctor(self):
        report = sbx.doctor()
        self.assertTrue(report.usable, report)
        self.assertIn("runsc", {finding.name for finding in report.findings})
        self.assertLessEqual({finding.status for finding in report.findings}, {"ok", "limited"})
        self.assertTrue(all(finding.detail for finding in report.findings))
        self.assertEqual(asyncio.run(sbx.doctor.aio()).usable, True)
        done = python("-m", "libsbx")
        self.assertIn("Sandboxes can be created here.", done.stdout)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = python("-m", "libsbx", "doctor", "--json")
        read = json.loads(done.stdout)
        self.assertEqual((read["usable"], len(read["findings"]), done.returncode), (True, len(report.findings), 0))
        self.assertEqual(json.loads(report.json)["findings"][1]["status"], report.findings[1].status)

    def test_the_doctor_where_something_is_missing(self):
        done = python("-m", "libsbx", SBX_RUNSC="/nonexistent/runsc")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stdout, "(?s)missing  runsc: .*/nonexistent/runsc.*cannot be created")

    def test_the_log(self):
        lines = "import sys, libsbx as sbx; sbx.log_to(%s, %r); sbx.Sandbox.create('true').wait(); sbx.log_to(None)"
        for file, level, wanted in (("sys.stdout", "info", True), ("1", "debug", True), ("sys.stdout", "off", False)):
            done = python("-c", lines % (file, level))
            self.assertEqual(("sbx::" in done.stdout, done.stderr), (wanted, ""), done.stdout)
        with open(os.devnull, "w") as file:
            for arguments, part in (
                ((file, "loud"), "level must be one of off, error"), (("name",), "file must be a file"), ((99999,), "file: "),
            ):  # fmt: skip
                with self.subTest(arguments=arguments), self.assertRaises(sbx.Error) as caught:
                    sbx.log_to(*arguments)
                self.assertIn(part, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
