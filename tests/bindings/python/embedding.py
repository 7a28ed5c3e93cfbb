"""The embedding contract under Python hosts: forks, children, signals, sudden ends, bad handles, missing parts.

What is left over is looked for by whoever runs this: processes, mounts, namespaces, files.
"""

import ctypes
import functools
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from support import examples, python, sbx, unittest

from libsbx import native


def sleeper(**settings):
    return sbx.Sandbox.create("sleep", "1000", **settings)


def in_child(queue):
    try:
        queue.put(sbx.Sandbox.create("true").wait())
    except sbx.Error as error:
        queue.put(type(error).__name__)


def in_fresh_process(queue):
    sb = sbx.Sandbox.create("sh", "-c", "exit 5")
    sb.wait()
    queue.put(sb.returncode)


class Forks(unittest.TestCase):
    def goes_on(self, program, line, child):
        """Once the child has ended well, the parent's program, which echoes, is none the worse."""
        _, status = os.waitpid(child, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        program.stdin.write(line)
        program.stdin.write_eof()
        program.stdin.drain()
        self.assertEqual(program.stdout.read(), line)

    def test_a_forked_child_is_refused_and_harms_nothing(self):
        with sbx.Sandbox.create("sh", "-c", "read line; echo $line") as sb:
            child = os.fork()
            if child == 0:
                try:
                    refused = 0
                    read = functools.partial(sb.filesystem.read_bytes, "/etc/passwd")
                    calls = (
                        sleeper, sb.tunnels, sb.wait, sb.terminate, sb.close, sb.stdout.read, lambda: sb.stdin, read,
                        sb.stats, sb.get_network_policy, sb.set_network_policy, sb.stop,
                    )  # fmt: skip
                    for call in calls:
                        try:
                            call()
                        except sbx.ForkedError as error:
                            refused += error.code == -1015
                    del sb
                    os._exit(0 if refused == len(calls) else 1)
                finally:
                    os._exit(2)
            self.goes_on(sb, "still here\n", child)

    def test_what_a_child_loses_is_nobodys(self):
        with sleeper() as sb:
            process, hub = sb.exec("cat"), sb._hub
            child = os.fork()
            if child == 0:
                # It may have closed this one, and have something else in its place.
                os.dup2(os.open("/dev/full", os.O_WRONLY), hub._asking)
                del process
                gc.collect()
                os._exit(len(hub._asked))
            self.goes_on(process, "on\n", child)

    def test_multiprocessing(self):
        with sleeper() as sb:
            for how, target, expected in (("fork", in_child, "ForkedError"), ("spawn", in_fresh_process, 5)):
                with self.subTest(how=how):
                    context = multiprocessing.get_context(how)
                    queue = context.SimpleQueue()
                    process = context.Process(target=target, args=[queue])
                    process.start()
                    self.assertEqual(queue.get(), expected)
                    process.join()
            self.assertIsNone(sb.poll())

    def test_workers_forked_before_the_first_use_are_free(self):
        program = """
import os, libsbx as sbx
for number in range(3):
    if os.fork() == 0:
        sb = sbx.Sandbox.create("sh", "-c", f"exit {number + 5}")
        sb.wait()
        os._exit(sb.returncode)
print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(3)))
"""
        done = python("-X", "dev", "-c", program)
        self.assertEqual(done.stdout.strip(), "[5, 6, 7]", done.stderr)

    def test_gunicorn(self):
        try:
            import gunicorn  # noqa: F401
        except ImportError:
            self.skipTest("gunicorn is not installed")
        application = """
import libsbx as sbx
def app(environ, start_response):
    with sbx.Sandbox.create("sh", "-c", "echo from the sandbox") as sb:
        page = sb.stdout.read().encode()
    start_response("200 OK", [("Content-Length", str(len(page)))])
    return [page]
"""
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "application.py"), "w") as file:
                file.write(application)
            server = subprocess.Popen(
                [sys.executable, "-B", "-m", "gunicorn", "--preload", "--workers", "2", "--timeout", "60",
                 "--worker-tmp-dir", directory, "--no-control-socket", "--bind", "127.0.0.1:0", "application:app"],
                cwd=directory, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(examples), *sys.path])},
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            said = []
            try:
                for line in server.stderr:
                    said.append(line)
                    if "Listening at: " in line:
                        address = line.split("Listening at: ")[1].split()[0]
                        break
                else:
                    self.fail("".join(said))
                for _ in range(4):
                    with urllib.request.urlopen(address, timeout=60) as page:
                        self.assertEqual(page.read(), b"from the sandbox\n")
            finally:
                server.terminate()
                server.communicate(timeout=60)


class Hosts(unittest.TestCase):
    def test_a_host_with_children_of_its_own(self):
        with sleeper():
            for _ in range(5):
                self.assertEqual(subprocess.run(["sh", "-c", "exit 4"]).returncode, 4)
            # Waited for, it is gone: it is no zombie, and no one else waits for it.
            child = subprocess.Popen(["true"])
            self.assertEqual(child.wait(), 0)
            with self.assertRaises(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
            with self.assertRaises(ProcessLookupError):
                os.kill(child.pid, 0)

    def test_a_host_that_ignores_sigchld_or_reaps_everything(self):
        program = """
import os, signal, libsbx as sbx
signal.signal(signal.SIGCHLD, {handler})
sb = sbx.Sandbox.create("sh", "-c", "exit 6")
sb.wait()
print(sb.returncode, sbx.Sandbox.create("sleep", "1000").terminate(wait=True))
"""
        reap = "lambda *_: [None for _ in iter(lambda: reap(), 0)]"
        for handler in ("signal.SIG_IGN", reap):
            with self.subTest(handler=handler):
                before = "def reap():\n    try: return os.waitpid(-1, os.WNOHANG)[0]\n    except OSError: return 0\n"
                done = python("-c", "import os\n" + before + program.format(handler=handler))
                self.assertEqual(done.stdout.strip(), "6 137", done.stderr)

    def test_no_signal_handler_and_no_output_is_ours(self):
        program = """
import signal, libsbx as sbx
before = [signal.getsignal(number) for number in signal.valid_signals()]
sbx.Sandbox.create("true").wait()
assert before == [signal.getsignal(number) for number in signal.valid_signals()]
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""
        done = python("-c", program)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_sudden_ends(self):
        start = (
            'import os, sys, time, sbx\nsb = sbx.Sandbox.create("sleep", "1000", encrypted_ports=[1])\nsb.tunnels()\n'
        )
        for end, code in (
            ("sys.exit(3)", 3),
            ("os._exit(4)", 4),
            ("raise SystemExit(5)", 5),
            ("os.kill(os.getpid(), 9)", -9),
            ("os.abort()", -6),
            ("sb.detach()", 0),
            ("import threading; threading.Thread(target=sb.wait, daemon=True).start()", 0),
            ("import asyncio; asyncio.run(asyncio.wait_for(sb.wait.aio(), 0.1))", 1),
            ("os.execvp('true', ['true'])", 0),
        ):
            with self.subTest(end=end):
                self.assertEqual(python("-c", start + end).returncode, code)

    def test_killed_while_it_creates(self):
        program = 'import libsbx as sbx\nprint("go", flush=True)\nwhile True: sbx.Sandbox.create("sleep", "1000").detach()'
        variables = {**os.environ, "PYTHONPATH": str(examples)}
        for patience in (0.05, 0.2, 0.5):
            host = subprocess.Popen([sys.executable, "-B", "-c", program], stdout=subprocess.PIPE, env=variables)
            host.stdout.readline()
            time.sleep(patience)
            host.kill()
            host.wait()
            host.stdout.close()


class Handles(unittest.TestCase):
    def test_freed_wrong_and_null_handles_are_errors(self):
        library = native.library
        queue = ctypes.c_void_p()
        native.call("queue_new", 1, ctypes.byref(queue))
        for handle in (None, queue, ctypes.c_void_p(12345)):
            for function, *more in (("terminate",), ("signal", 9), ("sandbox_open_fd", 1)):
                with self.assertRaises(sbx.InvalidError) as caught:
                    native.call(function, handle, *more)
                self.assertEqual(caught.exception.code, -1002)
        for free in (library.sbx_queue_free, library.sbx_sandbox_free, library.sbx_config_free):
            free(queue)
            free(queue)
        with self.assertRaises(sbx.InvalidError):
            native.call("queue_open_fd", queue)
        with sleeper() as sb:
            handle = ctypes.c_void_p(sb._life.handle.value)
            library.sbx_queue_free(handle)
            self.assertIsNone(sb.poll())
        library.sbx_sandbox_free(handle)
        with self.assertRaises(sbx.InvalidError):
            native.call("terminate", handle)

    def test_two_copies_of_the_library(self):
        program = """
import ctypes, importlib.util, os, shutil, sys, libsbx as sbx
from libsbx import native
spec = importlib.util.spec_from_file_location("other", sbx.__file__)
os.environ["SBX_LIBRARY"] = sys.argv[1]
other = sys.modules["other"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(other)
assert other.native.library._handle != native.library._handle
with sbx.Sandbox.create("sh", "-c", "exit 1") as one, other.Sandbox.create("sh", "-c", "exit 2") as two:
    one.wait(), two.wait()
    try:
        other.native.call("terminate", one._life.handle)
    except other.InvalidError as error:
        print(one.returncode, two.returncode, error.code)
"""
        with tempfile.TemporaryDirectory() as directory:
            copy = shutil.copy(native.library._name if "/" in native.library._name else loaded_from(), directory)
            done = python("-c", program, copy)
            self.assertEqual(done.stdout.strip(), "1 2 -1002", done.stderr)


def loaded_from():
    with open("/proc/self/maps") as maps:
        return next(line.split()[-1] for line in maps if "libsbx.so" in line)


class Missing(unittest.TestCase):
    def test_no_library(self):
        done = python("-c", "import libsbx", SBX_LIBRARY="/nonexistent/libsbx.so")
        self.assertIn("ImportError: libsbx was not found. Build it (cargo build --release)", done.stderr)
        self.assertIn("SBX_LIBRARY", done.stderr)
        self.assertIn("/nonexistent/libsbx.so", done.stderr)
        with tempfile.TemporaryDirectory() as directory:
            shutil.copytree(examples / "libsbx", os.path.join(directory, "libsbx"))
            alone = ("-c", f"import sys; sys.path.insert(0, {directory!r}); import libsbx; print(libsbx.__file__)")
            done = python(*alone, LD_LIBRARY_PATH="", SBX_LIBRARY="")
            self.assertIn("libsbx.so.0: ", done.stderr)
            # Beside the package it is found.
            shutil.copy(loaded_from(), os.path.join(directory, "libsbx.so"))
            done = python(*alone, LD_LIBRARY_PATH="", SBX_LIBRARY="")
            self.assertEqual(done.stdout.strip(), os.path.join(directory, "libsbx", "__init__.py"), done.stderr)

    def test_no_runsc(self):
        program = """
import libsbx as sbx
for _ in range(2):
    try:
        sbx.Sandbox.create("true")
    except sbx.HostError as error:
        print(error.code, error)
"""
        done = python("-c", program, SBX_RUNSC="/nonexistent/runsc")
        for line in done.stdout.splitlines():
            self.assertIn("/nonexistent/runsc", line)
        self.assertEqual(len(done.stdout.splitlines()), 2, done.stderr)


class Descriptors(unittest.TestCase):
    PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 900))
import libsbx as sbx
before = resource.getrlimit(resource.RLIMIT_NOFILE)
sbx.Sandbox.create("true").wait()
print(before, resource.getrlimit(resource.RLIMIT_NOFILE))
"""

    def test_the_soft_limit_is_raised_once_the_library_is_used(self):
        done = python("-c", self.PROGRAM)
        self.assertEqual(done.stdout, "(300, 900) (900, 900)\n", done.stderr)

    def test_unless_it_is_switched_off(self):
        done = python("-c", self.PROGRAM, SBX_RAISE_NOFILE="0")
        self.assertEqual(done.stdout, "(300, 900) (300, 900)\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
