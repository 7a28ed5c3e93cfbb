"""A sandbox's life under Modal's names: settings, waiting, ends, errors."""

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from unittest import mock
from support import held_hub, sbx, serve, unittest


def sleeper(**settings):
    return sbx.Sandbox.create("sleep", "1000", **settings)


def until_ready(count, **settings):
    deadline = time.monotonic() + 60
    while (found := sbx.warm_stats(**settings)).ready != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


class Warm(unittest.TestCase):
    def test_a_sandbox_that_was_kept_warm_is_taken(self):
        like = dict(hostname="warm", max_processes=100)
        sbx.keep_warm(1, **like)
        self.addCleanup(sbx.keep_warm, 0, **like)
        self.assertEqual(until_ready(1, **like).wanted, 1)
        with sbx.Sandbox.create("sh", "-c", "hostname; echo $A", env={"A": "b"}, **like) as sb:
            self.assertEqual(sb.stdout.read(), "warm\nb\n")
        found = until_ready(1, **like)
        self.assertEqual((found.hits, found.misses_empty, found.last_miss), (1, 0, ""))
        with sbx.Sandbox.create("true", hostname="other") as sb:
            sb.wait()
        found = sbx.warm_stats()
        self.assertEqual((found.hits, found.misses_different), (1, 1))
        self.assertRegex(found.last_miss, "^different from the template: hostname")
        sbx.keep_warm(0, **like)
        until_ready(0)

    def test_bad_values(self):
        for count in (-1, 257, "1", None):
            with self.assertRaisesRegex(sbx.InvalidError, "count"):
                sbx.keep_warm(count)
        with self.assertRaisesRegex(sbx.InvalidError, "mtu"):
            sbx.keep_warm(1, mtu=1)
        with self.assertRaises(sbx.InvalidError):
            sbx.warm_stats(mtu=1)

    def test_only_so_many_sandboxes_start_at_once(self):
        by_default = sbx.max_starts()
        self.assertGreaterEqual(by_default, 4)
        self.addCleanup(sbx.set_max_starts, 0)
        sbx.set_max_starts(1)
        self.assertEqual(sbx.max_starts(), 1)

        async def ended(code):
            sb = await sbx.Sandbox.create.aio("sh", "-c", f"exit {code}")
            await sb.wait.aio(raise_on_termination=False)
            return sb.returncode

        async def all_of_them():
            return await asyncio.gather(*(ended(code) for code in range(3)))

        self.assertEqual(asyncio.run(all_of_them()), [0, 1, 2])
        sbx.set_max_starts(0)
        self.assertEqual(sbx.max_starts(), by_default)
        for count in (-1, 257, "1", None):
            with self.assertRaisesRegex(sbx.InvalidError, "count"):
                sbx.set_max_starts(count)

    def test_spares(self):
        self.assertEqual(sbx.spares(), 0)
        self.addCleanup(sbx.set_spares, 0)
        sbx.set_spares(2)
        self.assertEqual(sbx.spares(), 2)
        for code in range(3):
            sb = sbx.Sandbox.create("sh", "-c", f"exit {code}")
            sb.wait(raise_on_termination=False)
            self.assertEqual(sb.returncode, code)
        for count in (-1, 17, "1", None):
            with self.assertRaisesRegex(sbx.InvalidError, "count"):
                sbx.set_spares(count)

    def test_aio(self):
        async def warm():
            await sbx.keep_warm.aio(0)
            return await sbx.warm_stats.aio()

        self.assertEqual(asyncio.run(warm()).wanted, 0)


class Ends(unittest.TestCase):
    def test_the_programs_own_code(self):
        sb = sbx.Sandbox.create("sh", "-c", "exit 3")
        self.assertIsNone(sb.wait())
        self.assertEqual((sb.returncode, sb.poll(), sb.exit_reason), (3, 3, "exited"))

    def test_a_signals_code(self):
        sb = sleeper()
        sb.send_signal(signal.SIGTERM)
        sb.wait()
        self.assertEqual((sb.returncode, sb.exit_reason), (128 + signal.SIGTERM, "signalled"))

    def test_a_lifetime_that_runs_out(self):
        sb = sleeper(timeout=1)
        with self.assertRaises(sbx.SandboxTimeoutError):
            sb.wait(raise_on_termination=False)
        self.assertEqual((sb.returncode, sb.exit_reason), (124, "timedOut"))

    def test_terminated(self):
        sb = sleeper()
        self.assertEqual((sb.poll(), sb.returncode, sb.exit_reason), (None, None, None))
        self.assertIsNone(sb.terminate())
        with self.assertRaisesRegex(sbx.SandboxTerminatedError, f"^sandbox {sb.object_id} was terminated$"):
            sb.wait()
        self.assertEqual(sb.exit_reason, "terminated")
        self.assertIsNone(sb.wait(raise_on_termination=False))
        self.assertEqual(sb.returncode, 137)
        self.assertEqual(sb.terminate(wait=True), 137)

    def test_stopped_at_once(self):
        with sbx.Sandbox.create("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done") as sb:
            next(sb.stdout)
            for grace in (-1, "1", None, float("nan")):
                with self.assertRaises(sbx.InvalidError) as caught:
                    sb.stop(grace=grace)
                self.assertIn("grace must", caught.exception.message)
            self.assertEqual(sb.stop(grace=0, wait=True), 137)

    def test_a_programs_own_137_is_no_termination(self):
        sb = sbx.Sandbox.create("sh", "-c", "exit 137")
        sb.wait()
        self.assertEqual(sb.returncode, 137)

    def test_leaving_a_with_block_ends_it_and_frees_it(self):
        with sleeper() as sb:
            self.assertIsNone(sb.poll())
        self.assertEqual(sb.returncode, 137)
        with self.assertRaises(sbx.ClientClosed):
            sb.tunnels()
        sb.close()

    def test_a_lost_sandbox_ends_with_a_warning(self):
        sb = sleeper()
        life = sb._life
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del sb
            gc.collect()
        self.assertEqual([warning.category for warning in caught], [ResourceWarning])
        del caught  # the warning has the sandbox as its source
        self.assertEqual(life.exited.result(60)[0], 137)

    def test_a_detached_sandbox_runs_on_and_can_be_found_again(self):
        sb = sleeper()
        name = sb.object_id
        sb.detach()
        with self.assertRaises(sbx.ClientClosed):
            sb.terminate()
        del sb
        gc.collect()
        again = sbx.Sandbox.from_id(name)
        self.assertIsNone(again.poll())
        self.assertEqual(again.terminate(wait=True), 137)
        with self.assertRaises(sbx.NotFoundError):
            sbx.Sandbox.from_id(name)

    def test_ctrl_c_ends_a_wait(self):
        with sleeper() as sb:
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            with self.assertRaises(KeyboardInterrupt):
                sb.wait()
            self.assertIsNone(sb.poll())


class Settings(unittest.TestCase):
    def test_environment_directory_and_user(self):
        secret = sbx.Secret.from_dict({"TOKEN": "hidden", "NAME": "secret's", "NONE": None})
        with sbx.Sandbox.create(
            "sh", "-c", "echo $NAME $TOKEN ${NONE-none}; pwd; id -u",
            app=sbx.App.lookup("tests", create_if_missing=True),
            env={"NAME": "env's", "LEFT_OUT": None}, secrets=[secret], workdir="/tmp", user="1234",
        ) as sb:  # fmt: skip
            self.assertEqual(sb.stdout.read(), "env's hidden none\n/tmp\n1234\n")

    def test_an_executed_program_takes_what_linux_takes(self):
        with sbx.Sandbox.create() as sb:
            process = sb.exec("sh", "-c", 'echo $# "${#16}"', "sh", *["x" * 65536] * 16)
            self.assertEqual(process.stdout.read(), "16 65536\n")
            with self.assertRaisesRegex(sbx.InvalidError, "131072"):
                sb.exec("true", "x" * 131072)

    def test_mounts(self):
        with sbx.Sandbox.create("ls", "/somewhere", mounts={"/somewhere": os.path.dirname(__file__)}) as sb:
            self.assertIn(os.path.basename(__file__), sb.stdout.read())

    def test_packages_of_a_directory(self):
        with tempfile.TemporaryDirectory() as packages:
            os.chmod(packages, 0o755)
            with open(f"{packages}/ours.py", "w") as module:
                module.write("word = 'hello'")
            os.chmod(module.name, 0o644)
            with sbx.Sandbox.create(mounts={"/opt/pkgs": packages}, env={"PYTHONPATH": "/opt/pkgs"}) as sb:
                process = sb.exec("python3", "-c", "import ours; print(ours.word)")
                self.assertEqual((process.stdout.read(), process.stderr.read()), ("hello\n", ""))

    def test_python_in_a_root_directory_is_its_own(self):
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o755)
            for directory in ("bin", "usr"):
                os.mkdir(f"{root}/{directory}")
            for directory in ("lib", "lib64"):
                os.symlink(f"usr/{directory}", f"{root}/{directory}")
            with open(f"{root}/bin/python", "w") as program:
                program.write("#!/usr/bin/sh\necho its own\n")
            os.chmod(program.name, 0o755)
            settings = {"rootfs": root, "mounts": {"/usr": "/usr"}, "env": {"PATH": "/bin"}}
            with sbx.Sandbox.create("python", **settings) as sb:
                self.assertEqual(sb.stdout.read(), "its own\n")
            with sbx.Sandbox.create(**settings) as sb:
                self.assertEqual(sb.exec("python").stdout.read(), "its own\n")

    def test_names_are_taken_once(self):
        with sleeper(name="one", tags={"kind": "a", "size": "b"}) as sb:
            with self.assertRaises(sbx.AlreadyExistsError) as caught:
                sleeper(name="one")
            self.assertEqual(caught.exception.code, -1007)
            self.assertIs(sbx.Sandbox.from_name("any", "one"), sb)
            self.assertEqual(sbx.Sandbox.list(tags={"kind": "a"}), [sb])
            self.assertEqual(sbx.Sandbox.list(tags={"kind": "b"}), [])
            sb.set_tags({"kind": "b"})
            self.assertEqual(sb.get_tags(), {"kind": "b"})
        sleeper(name="one").terminate(wait=True)

    def test_what_modal_refuses_is_refused(self):
        cases = [
            (
                dict(block_network=True, encrypted_ports=[1]),
                "Cannot specify open ports when `block_network` is enabled",
            ),
            (dict(block_network=True, unencrypted_ports=[1]), "Cannot specify open ports"),
            (dict(block_network=True, outbound_cidr_allowlist=[]), "`outbound_cidr_allowlist` cannot be used when"),
            (dict(block_network=True, cidr_allowlist=[]), "`outbound_cidr_allowlist` cannot be used when"),
            (dict(block_network=True, outbound_domain_allowlist=[]), "`outbound_domain_allowlist` cannot be used when"),
            (dict(block_network=True, inbound_cidr_allowlist=[]), "`inbound_cidr_allowlist` cannot be used when"),
            (dict(cidr_allowlist=[], outbound_cidr_allowlist=[]), "Cannot specify both"),
            (dict(outbound_cidr_allowlist=["10.0.0.1/8"]), "10.0.0.1/8"),
            (dict(workdir="relative"), "relative"),
            (dict(timeout=0), "timeout"),
            (dict(timeout=None), "timeout"),
            (dict(idle_timeout=0), "idle_timeout"),
            (dict(encrypted_ports=[0]), "1 to 65535"),
            (dict(encrypted_ports=[2**32 + 80]), "1 to 65535"),
            (dict(encrypted_ports=[80], h2_ports=[80]), "80"),
            (dict(env={"NOT-A-NAME": "x"}), "NOT-A-NAME"),
            (dict(env={"A": "x\0y"}), "NUL"),
            (dict(env={"A": "\udcff"}), "UTF-8"),
            (dict(env={"A": 1}), "env['A'] must be a string, got int"),
            (dict(env=[("A", "b")]), "env must be a dict"),
            (dict(env={1: "b"}), "env must be a dict whose keys are strings, got int"),
            (dict(secrets={"A": "hidden"}), "secrets must be a list of Secrets, as Secret.from_dict() makes them, got dict"),
            (dict(secrets=[{"A": "hidden"}]), "secrets must be a list of Secrets"),
            (dict(secrets=sbx.Secret.from_dict({})), "secrets must be a list of Secrets"),
            (dict(secrets=[sbx.Secret.from_dict({"A": "hidden\0"})]), "secrets['A'] contains a NUL"),
            (dict(mounts=["/usr"]), "mounts must be a dict"),
            (dict(mounts={"/usr": 1}), "mounts['/usr'] must be a path on this machine, got int"),
            (dict(writable_mounts="/usr"), "writable_mounts must be a dict"),
            (dict(tags=["a"]), "tags must be a dict"),
            (dict(readiness_probe=8080), "readiness_probe must be a Probe"),
            (dict(readiness_probe=sbx.Probe.with_tcp("8080")), "readiness_probe's port must be an integer"),
            (dict(readiness_probe=sbx.Probe.with_tcp(80, interval_ms="1")), "interval_ms must be an integer"),
            (dict(name=5), "name must be a string, got: 5"),
            (dict(user=0), "user must be a string, got: 0"),
            (dict(workdir=b"/tmp"), "workdir must be a string"),
        ]
        # A string is a list of letters: that is never meant.
        for name in (
            "outbound_cidr_allowlist", "outbound_domain_allowlist", "inbound_cidr_allowlist", "outbound_cidr_denylist",
            "tls_names", "encrypted_ports", "h2_ports", "unencrypted_ports",
        ):  # fmt: skip
            for wrong in ("localhost", b"localhost", 8080, {"a": "b"}, [None]):
                cases.append(({name: wrong}, f"{name} must be a list of "))
        cases.append((dict(cidr_allowlist="10.0.0.0/8"), "outbound_cidr_allowlist must be a list of strings"))
        for settings, part in cases:
            with self.subTest(settings=settings):
                with self.assertRaises(sbx.InvalidError) as caught:
                    sleeper(**settings)
                self.assertIn(part, str(caught.exception))
                self.assertNotIn("hidden", str(caught.exception))
        with self.assertRaisesRegex(sbx.InvalidError, "at most 65536"):
            sbx.Sandbox.create("true", *["x" * 4096] * 16)
        for command in (("sleep", 1000), (["sleep", "1000"],)):
            with self.assertRaisesRegex(sbx.InvalidError, "command must be a list of strings"):
                sbx.Sandbox.create(*command)
        for wrong in ("HOME", {"HOME": "x"}, [1]):
            with self.assertRaisesRegex(sbx.InvalidError, "env_keys must be a list of strings"):
                sbx.Secret.from_local_environ(wrong)
        with self.assertRaisesRegex(sbx.InvalidError, r"env_dict\['A'\] must be a string, got int"):
            sbx.Secret.from_dict({"A": 1})

    def test_what_calls_on_a_sandbox_refuse(self):
        with sbx.Sandbox.create() as sb:
            process = sb.exec("sleep", "1000")
            files = sb.filesystem
            cases = [
                (lambda: sb.exec("true", env={"A": 1}), "env['A'] must be a string"),
                (lambda: sb.exec("true", secrets={"A": "b"}), "secrets must be a list of Secrets"),
                (lambda: sb.exec("true", user=0), "user must be a string"),
                (lambda: sb.exec("sleep", 1), "command must be a list of strings"),
                (lambda: sb.send_signal("TERM"), "signal must be a signal's number from 1 to 64"),
                (lambda: sb.stop(signal="TERM"), "signal must be a signal's number"),
                (lambda: process.send_signal("TERM"), "signal must be a signal's number"),
                (lambda: process.send_signal(2**32 + 9), "signal must be a signal's number"),
                (lambda: process.resize(24, "80"), "columns must be an integer from 1 to 65535"),
                (lambda: sb.set_tags(["a"]), "tags must be a dict"),
                (lambda: sb.set_network_policy(outbound_domain_allowlist="localhost"), "must be a list of strings"),
                (lambda: sb.set_network_policy(outbound_cidr_denylist="10.0.0.0/8"), "must be a list of strings"),
                (lambda: files.stat(5), "remote_path must be a string, got: 5"),
                (lambda: files.rename("/tmp", None), "new_path must be a string, got: None"),
                (lambda: sb.wait_until_ready(timeout="5"), "timeout must be a positive number of seconds, got: '5'"),
                (lambda: files.watch("/tmp", timeout="5"), "timeout must be a number of seconds"),
                (lambda: files.watch("/tmp", filter="Create"), "filter must be a list of FileWatchEventType"),
            ]
            for call, part in cases:
                with self.subTest(part=part), self.assertRaises(sbx.InvalidError) as caught:
                    call()
                self.assertIn(part, str(caught.exception))
            self.assertEqual(sb.get_network_policy().mode, "open")
            self.assertIsNone(process.poll())

    def test_what_is_not_here_says_so(self):
        for settings in (dict(gpu="any"), dict(network_file_systems={"/v": object()}), dict(region="eu")):
            with self.subTest(settings=settings), self.assertRaises(sbx.UnimplementedError) as caught:
                sleeper(**settings)
            self.assertIn(next(iter(settings)), str(caught.exception))
        with self.assertRaises(TypeError):
            sleeper(colour="red")
        sleeper(gpu=None, volumes={}, verbose=False).terminate(wait=True)
        sleeper(verbose=True).terminate(wait=True)

    def test_secrets_of_a_file(self):
        text = """# comment
PLAIN = value # comment
export EXPORTED=a#b

QUOTED='single # $HOME \\' \\n'
DOUBLE="first\\nsecond \\"x\\"
third" # comment
EMPTY=
NOTHING
'ODD NAME'=x
REFERS=${PLAIN}-${HOME_OF_NONE:-default}${HOME_OF_NONE}-$PLAIN"""
        wanted = {
            "PLAIN": "value", "EXPORTED": "a#b", "QUOTED": "single # $HOME ' \\n",
            "DOUBLE": 'first\nsecond "x"\nthird', "EMPTY": "", "ODD NAME": "x", "REFERS": "value-default-$PLAIN",
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as directory:
            below = os.path.join(directory, "one", "two")
            os.makedirs(below)
            for ending in ("\n", "\r\n"):
                with open(f"{directory}/.env", "w", newline=ending) as file:
                    file.write(text)
                self.assertEqual(sbx.Secret.from_dotenv(below)._values, wanted)
            with open(f"{directory}/one/other", "w") as file:
                file.write("TOKEN=hidden")
            script = "import libsbx as sbx; print(sbx.Secret.from_dotenv(filename='other')._values)"
            library = os.path.dirname(os.path.dirname(sbx.__file__))
            found = subprocess.run(
                [sys.executable, "-B", "-c", script], cwd=below, env={**os.environ, "PYTHONPATH": library},
                capture_output=True, text=True,
            )  # fmt: skip
            self.assertEqual(found.stdout, "{'TOKEN': 'hidden'}\n", found.stderr)
            secret = sbx.Secret.from_dotenv(below, filename="other")
            with sbx.Sandbox.create("sh", "-c", "echo $TOKEN", secrets=[secret]) as sb:
                self.assertEqual(sb.stdout.read(), "hidden\n")
            for wrong in ("A=1\nhidden 'x", "A=1\n=hidden", "A=1\nB='hidden"):
                with open(f"{directory}/wrong", "w") as file:
                    file.write(wrong)
                with self.assertRaisesRegex(sbx.InvalidError, "wrong, line 2: must be NAME=value") as caught:
                    sbx.Secret.from_dotenv(directory, filename="wrong")
                self.assertNotIn("hidden", str(caught.exception))
        with self.assertRaisesRegex(sbx.NotFoundError, "there is no no-such.env in "):
            sbx.Secret.from_dotenv(filename="no-such.env")

    def test_a_program_that_is_not_there(self):
        with self.assertRaises(sbx.exception.ExecutionError) as caught:
            sbx.Sandbox.create("no-such-program")
        error = caught.exception
        self.assertEqual((error.code, error.os_error), (-1019, 2))
        self.assertIn("no-such-program", error.message)


    def test_errors_are_imported_as_modals_are(self):
        from libsbx.exception import SandboxTimeoutError

        self.assertIs(SandboxTimeoutError, sbx.exception.SandboxTimeoutError)
        self.assertIs(SandboxTimeoutError, sbx.SandboxTimeoutError)


class Tunnels(unittest.TestCase):
    def test_each_kind(self):
        # The port that is asked for readiness comes last.
        server = """
import http.server, threading
for port in (1003, 1002, 1001):
    listening = http.server.ThreadingHTTPServer(("", port), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=listening.serve_forever).start()
"""
        with sbx.Sandbox.create(
            "python3", "-c", server, encrypted_ports=[1001], h2_ports=[1002], unencrypted_ports=[1003],
            tls_names=["sandbox.test"],
        ) as sb:  # fmt: skip
            sb.wait_until_ready()
            tunnels = sb.tunnels()
            self.assertEqual(sorted(tunnels), [1001, 1002, 1003])
            for port, agreed in ((1001, "http/1.1"), (1002, "h2")):
                tunnel = tunnels[port]
                self.assertEqual(tunnel.url, "https://{}:{}".format(*tunnel.tls_socket))
                with self.assertRaises(sbx.InvalidError):
                    tunnel.tcp_socket
                context = tunnel.ssl_context()
                context.set_alpn_protocols(["h2", "http/1.1"] if agreed == "h2" else ["http/1.1"])
                with socket.create_connection(tunnel.tls_socket, 30) as plain:
                    with context.wrap_socket(plain, server_hostname="sandbox.test") as tls:
                        self.assertIn(tls.selected_alpn_protocol(), (agreed, None))
            plain = tunnels[1003]
            for attribute in ("url", "tls_socket"):
                with self.assertRaises(sbx.InvalidError):
                    getattr(plain, attribute)
            with socket.create_connection(plain.tcp_socket, 30) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.0 200"))

    def test_nothing_of_the_library_is_kept_for_them(self):
        maps = []

        def read(found, _exited):
            maps.append(found)
            if len(maps) == 1:
                raise MemoryError
            return {}

        with sleeper(encrypted_ports=[1]) as sb, mock.patch.object(sbx.sandbox, "read_tunnels", read):
            with self.assertRaises(MemoryError):
                sb.tunnels()
            sb.tunnels()
        counts = [sbx.native.library.sbx_tunnel_map_count(found) for found in maps]
        self.assertEqual(counts, [-1002, -1002])  # freed handles

    def test_an_empty_inbound_allowlist_lets_nobody_in(self):
        with serve(unencrypted_ports=[8000], inbound_cidr_allowlist=[]) as sb:
            with self.assertRaises(OSError):
                with socket.create_connection(sb.tunnels()[8000].tcp_socket, 30) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if not connection.recv(100):
                        raise ConnectionResetError

    def test_probes(self):
        with sleeper(readiness_probe=sbx.Probe.with_tcp(9)) as sb:
            with self.assertRaises(sbx.TimeoutError):
                sb.wait_until_ready(timeout=0.3)
        with sleeper(readiness_probe=sbx.Probe.with_exec("true", interval_ms=50)) as sb:
            sb.wait_until_ready()
            sb.wait_until_ready()
        with sleeper(readiness_probe=sbx.Probe.with_exec("false")) as sb:
            threading.Timer(0.3, sb.terminate).start()
            with self.assertRaisesRegex(sbx.ConflictError, "has ended: terminated$"):
                sb.wait_until_ready()
        with sleeper() as sb, self.assertRaisesRegex(sbx.InvalidError, "no readiness probe and no port"):
            sb.wait_until_ready()


class Exec(unittest.TestCase):
    def setUp(self):
        self.sb = sbx.Sandbox.create(env={"A": "sandbox", "B": "sandbox"})
        self.addCleanup(self.sb.close)

    def test_a_sandbox_without_a_command_waits_for_programs(self):
        self.assertIsNone(self.sb.poll())
        process = self.sb.exec("sh", "-c", "cat; echo err >&2; exit 3")
        self.assertIsNone(process.poll())
        with self.assertRaises(sbx.InvalidError):
            process.returncode
        process.stdin.write("in\n")
        process.stdin.write_eof()
        process.stdin.drain()
        self.assertEqual((process.stdout.read(), process.stderr.read(), process.wait()), ("in\n", "err\n", 3))
        self.assertEqual((process.poll(), process.returncode), (3, 3))

    def test_settings(self):
        secret = sbx.Secret.from_dict({"B": "secret", "C": "secret"})
        script = "echo $A $B $C; pwd; id -u"
        process = self.sb.exec("sh", "-c", script, env={"C": "own"}, secrets=[secret], workdir="/tmp", user="99")
        self.assertEqual(process.stdout.read(), "sandbox secret own\n/tmp\n99\n")

    def test_pieces_lines_and_bytes(self):
        script = "printf 'a\\nb'"
        self.assertEqual(list(self.sb.exec("sh", "-c", script, bufsize=1).stdout), ["a\n", "b"])
        self.assertEqual(self.sb.exec("sh", "-c", script, text=False).stdout.read(), b"a\nb")
        self.assertEqual("".join(self.sb.exec("sh", "-c", script).stdout), "a\nb")
        thrown_away = self.sb.exec("sh", "-c", script, stdout=sbx.StreamType.DEVNULL)
        self.assertEqual((thrown_away.stdout.read(), thrown_away.wait()), ("", 0))
        with self.assertRaises(sbx.UnimplementedError):
            self.sb.exec("true", stdout=sbx.StreamType.STDOUT)

    def test_streams_by_subprocess_s_numbers(self):
        script = "echo out; echo err >&2"
        for stdout, stderr, shown in (
            (subprocess.PIPE, subprocess.PIPE, ("out\n", "err\n")),
            (subprocess.PIPE, subprocess.DEVNULL, ("out\n", "")),
            (subprocess.DEVNULL, subprocess.PIPE, ("", "err\n")),
            (subprocess.PIPE, subprocess.STDOUT, ("out\nerr\n", "")),
            (sbx.StreamType.PIPE, sbx.StreamType.STDOUT, ("out\nerr\n", "")),
            (subprocess.DEVNULL, subprocess.STDOUT, ("", "")),
        ):
            with self.subTest(stdout=stdout, stderr=stderr):
                process = self.sb.exec("sh", "-c", script, stdout=stdout, stderr=stderr)
                self.assertEqual((process.stdout.read(), process.stderr.read(), process.wait()), (*shown, 0))
        for wrong in (None, "pipe", 1, [], sys.stdout):
            for name in ("stdout", "stderr"):
                with self.subTest(wrong=wrong, name=name):
                    with self.assertRaisesRegex(sbx.InvalidError, f"{name} must be StreamType.PIPE"):
                        self.sb.exec("true", **{name: wrong})

    def test_both_ends_of_an_output_are_captured(self):
        script = "printf 'begin '; head -c 1000000 /dev/zero; printf ' end'; echo err >&2"
        capture = sbx.Capture(head=6, tail=4)
        process = self.sb.exec("sh", "-c", script, stdout=capture, stderr=sbx.Capture())
        self.assertEqual(process.wait(), 0)
        found = process.captured()
        self.assertEqual((found.head, found.tail, found.dropped), (b"begin ", b" end", 1_000_000))
        self.assertEqual(found.text, "begin \n[1000000 bytes dropped]\n end")
        self.assertEqual(process.captured("stderr").text, "err\n")
        with self.assertRaisesRegex(sbx.InvalidError, "this output is captured"):
            process.stdout.read()
        both = self.sb.exec("sh", "-c", "echo a; echo b >&2; echo c", stdout=sbx.Capture(), stderr=subprocess.STDOUT)
        both.wait()
        self.assertEqual(both.captured().text, "a\nb\nc\n")
        self.assertEqual(both.stderr.read(), "")
        with self.assertRaises(sbx.NotFoundError):
            both.captured("stderr")
        with self.assertRaisesRegex(sbx.InvalidError, "stream must be 'stdout' or 'stderr'"):
            both.captured("stdin")
        for wrong in (dict(head=-1), dict(head="1"), dict(head=0, tail=0), dict(tail=(16 << 20) + 1)):
            with self.subTest(wrong=wrong), self.assertRaises(sbx.InvalidError):
                sbx.Capture(**wrong)

    def test_ends(self):
        process = self.sb.exec("sleep", "1000", timeout=0.3)
        self.assertEqual((process.wait(), process.exit_reason), (-1, "timedOut"))
        process = self.sb.exec("sleep", "1000")
        self.assertIsNone(process.exit_reason)
        process.send_signal(signal.SIGKILL)
        self.assertEqual((process.wait(), process.exit_reason), (137, "signalled"))
        with self.assertRaises(sbx.ExecutionError) as caught:
            self.sb.exec("no-such-program")
        self.assertIn("no-such-program", str(caught.exception))
        with self.assertRaises(sbx.InvalidError):
            self.sb.exec()
        last = self.sb.exec("sleep", "1000")
        self.sb.terminate(wait=True)
        self.assertEqual(last.wait(), 137)
        with self.assertRaises(sbx.ConflictError):
            self.sb.exec("true")

    def test_a_start_that_is_cancelled_leaves_no_program(self):
        lives = []

        class Known(sbx.hub.Life):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                lives.append(self)

        async def main():
            with held_hub(), mock.patch.object(sbx.hub, "Life", Known):  # nobody hears that it was started
                start = asyncio.ensure_future(self.sb.exec.aio("sleep", "1000"))
                while not lives or not lives[0].handle:
                    await asyncio.sleep(0)
                start.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await start

        asyncio.run(main())
        self.assertEqual(lives[0].exited.result(60)[0], 137)
        self.assertEqual(self.sb.exec("true").wait(), 0)

    def test_a_terminal(self):
        # What is typed may overtake the new size.
        resized = "until stty size | grep '33 111'; do sleep 0.05; done"
        process = self.sb.exec("sh", "-c", f"tty >/dev/null && read line && {resized}; echo got $line; cat", pty=True)
        process.resize(33, 111)
        process.stdin.write("typed\n")
        process.stdin.write_eof()
        process.stdin.drain()
        shown = process.stdout.read()
        self.assertIn("33 111", shown)
        self.assertIn("got typed", shown)
        self.assertEqual((process.stderr.read(), process.wait()), ("", 0))

    def test_asyncio(self):
        async def one(number):
            process = await self.sb.exec.aio("sh", "-c", f"echo {number}; exit {number}")
            return [piece async for piece in process.stdout], await process.wait.aio()

        async def main():
            return await asyncio.gather(*map(one, range(20)))

        self.assertEqual(asyncio.run(main()), [([f"{number}\n"], number) for number in range(20)])


class Limits(unittest.TestCase):
    def test_processes_and_files(self):
        with sbx.Sandbox.create("sh", "-c", "ulimit -n", max_open_files=123, max_processes=50) as sb:
            self.assertEqual(sb.stdout.read(), "123\n")

    def test_idle(self):
        sb = sbx.Sandbox.create(idle_timeout=0.5)
        with self.assertRaisesRegex(sbx.SandboxTerminatedError, "was terminated: idle$"):
            sb.wait()
        self.assertEqual((sb.returncode, sb.exit_reason), (124, "idle"))

    def test_memory(self):
        # Held by the kernel where that is possible, else by the keeper's own eyes: the sandbox ends in any case.
        program = "data = []\nwhile True: data.append(bytearray(b'x' * (8 << 20)))"
        sb = sbx.Sandbox.create("python3", "-c", program, memory=(64, 128), memory_watchdog=True)
        with self.assertRaisesRegex(sbx.SandboxTerminatedError, "was terminated: out of memory$"):
            sb.wait()
        self.assertEqual(sb.exit_reason, "outOfMemory")

    def test_a_limit_that_can_not_be_held_names_the_watchdog(self):
        try:
            with sbx.Sandbox.create("true", memory=512):
                self.skipTest("this user has control groups")
        except sbx.HostError as error:
            self.assertIn("Or give memory_watchdog=True", error.message)
            self.assertEqual(error.message, str(error))
        with sbx.Sandbox.create("true", memory=512, memory_watchdog=True) as sb:
            sb.wait()

    def test_what_is_no_limit(self):
        for settings in (dict(memory=0), dict(memory="1G"), dict(cpu=-1), dict(cpu=(1, 2, 3)), dict(max_processes=0)):
            with self.subTest(settings=settings), self.assertRaises(sbx.InvalidError):
                sleeper(**settings)


class Many(unittest.TestCase):
    def test_threads(self):
        codes = [None] * 12

        def work(number):
            sb = sbx.Sandbox.create("sh", "-c", f"exit {number}")
            sb.wait()
            codes[number] = sb.returncode

        threads = [threading.Thread(target=work, args=[number]) for number in range(len(codes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(codes, list(range(len(codes))))

    def test_asyncio_on_one_loop(self):
        async def one(number):
            async with await sbx.Sandbox.create.aio("sh", "-c", f"echo {number}; exit {number}") as sb:
                output = await sb.stdout.read.aio()
                await sb.wait.aio()
                return output, sb.returncode

        async def main():
            return await asyncio.gather(*map(one, range(12)))

        self.assertEqual(asyncio.run(main()), [(f"{number}\n", number) for number in range(12)])

    def test_a_loop_that_is_held_up_is_warned_of(self):
        async def main():
            sbx.Sandbox.create("true").close()

        with self.assertWarnsRegex(UserWarning, r"use `await Sandbox.create.aio\(...\)`") as caught:
            asyncio.run(main())
        self.assertEqual(caught.filename, __file__)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            sbx.Sandbox.create("true").close()

    def test_another_library_s_loop_is_told_what_to_do(self):
        # As trio runs a coroutine: without a loop of asyncio's.
        names = {sandbox.object_id for sandbox in sbx.Sandbox.list()}
        with sbx.Sandbox.create("sleep", "1000") as sb:
            for begin in (
                lambda: sbx.Sandbox.create.aio("sleep", "1000"), lambda: sb.exec.aio("sleep", "1000"), sb.wait.aio,
                sb.stdout.read.aio, sb.stdout.__anext__, sb.denials.__anext__, sb.stats.aio,
                lambda: sb.filesystem.stat.aio("/"), lambda: sb.filesystem.list_files.aio("/"),
            ):  # fmt: skip
                with self.assertRaisesRegex(sbx.exception.UnimplementedError, "trio.to_thread.run_sync"):
                    begin().send(None)
            self.assertEqual({each.object_id for each in sbx.Sandbox.list()}, names | {sb.object_id})
            self.assertEqual(sb.stats().processes or 1, 1)

    def test_a_loop_is_not_held_up_while_sandboxes_start(self):
        async def main():
            beats = 0

            async def beat():
                nonlocal beats
                while True:
                    beats += 1
                    await asyncio.sleep(0.001)

            heart = asyncio.create_task(beat())
            sb = await sbx.Sandbox.create.aio("true")
            await sb.wait.aio()
            heart.cancel()
            return beats

        self.assertGreater(asyncio.run(main()), 5)

    def test_a_sandbox_is_waited_for_on_several_loops_and_threads(self):
        with sleeper() as sb:
            ends = []

            def plain():
                ends.append(sb.wait(raise_on_termination=False))

            def loop():
                ends.append(asyncio.run(sb.wait.aio(raise_on_termination=False)))

            threads = [threading.Thread(target=target) for target in (plain, loop, loop, plain)]
            for thread in threads:
                thread.start()
            sb.terminate()
            for thread in threads:
                thread.join(60)
            self.assertEqual(len(ends), 4)

    def test_a_creation_that_is_cancelled_leaves_nothing(self):
        async def main():
            for patience in (0.0, 0.01, 0.05, 0.1):
                task = asyncio.ensure_future(sbx.Sandbox.create.aio("sleep", "1000", name="cancelled"))
                await asyncio.sleep(patience)
                task.cancel()
                try:
                    (await task).terminate(wait=True)
                except asyncio.CancelledError:
                    pass

        asyncio.run(main())
        deadline = time.monotonic() + 60
        while True:
            try:
                sleeper(name="cancelled").terminate(wait=True)
                break
            except sbx.AlreadyExistsError:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)

    def test_a_cancelled_wait_is_not_everybodys(self):
        async def main():
            async with await sbx.Sandbox.create.aio("sleep", "1000") as sb:
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(sb.wait.aio(), 0.1)
                other = asyncio.ensure_future(sb.wait.aio(raise_on_termination=False))
                await sb.terminate.aio(wait=True)
                await other
                return sb.returncode

        self.assertEqual(asyncio.run(main()), 137)


if __name__ == "__main__":
    unittest.main()
