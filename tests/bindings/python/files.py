"""Files of a sandbox under Modal's names: Sandbox.filesystem."""

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import pickle
import signal
import socket
import stat
import tarfile
import tempfile
import threading
from pathlib import Path
from unittest import mock
from support import most_at_once, python, sbx, unittest

from libsbx import FileType, FileWatchEventType
from libsbx.filesystem import copying, files


class Files(unittest.TestCase):
    def setUp(self):
        self.sb = sbx.Sandbox.create()
        self.addCleanup(self.sb.close)
        self.fs = self.sb.filesystem
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def run_inside(self, script, *arguments):
        process = self.sb.exec("python3", "-c", script, *arguments)
        self.assertEqual(process.wait(), 0, process.stderr.read())
        return process.stdout.read()

    def stop_init(self):
        # Not before init has said that this was started: else the start would fail.
        program = self.sb.exec("sh", "-c", "read -r never; kill -STOP 1")
        program.stdin.write_eof()
        program.stdin.drain()


class One(Files):
    def test_bytes_and_text_go_in_and_come_out(self):
        for data in (b"", b"hello\0\xff", bytearray(b"array"), memoryview(b"view"), os.urandom(20 << 20)):
            self.fs.write_bytes(data, "/tmp/made/above/file")
            self.assertEqual(self.fs.read_bytes("/tmp/made/above/file"), bytes(data))
        self.fs.write_text("grüße\n", "/tmp/text")
        self.assertEqual(self.fs.read_text("/tmp/text"), "grüße\n")
        self.assertEqual(self.run_inside("print(ascii(open('/tmp/text').read()))"), "'gr\\xfc\\xdfe\\n'\n")
        for write, data in ((self.fs.write_bytes, "text"), (self.fs.write_bytes, 5), (self.fs.write_text, b"bytes")):
            with self.assertRaises(TypeError):
                write(data, "/tmp/text")

    def test_what_files_are(self):
        self.run_inside(
            "import os; os.mkdir('/tmp/d'); os.mkfifo('/tmp/d/fifo'); os.symlink('/etc', '/tmp/d/link');"
            "open('/tmp/d/f', 'w').write('12345'); os.chown('/tmp/d/f', 12, 34); os.chmod('/tmp/d/f', 0o4751);"
            "os.utime('/tmp/d/f', (1e9, 1e9)); open(b'/tmp/d/\\xff\\n', 'w')"
        )
        found = {entry.name: entry for entry in self.fs.list_files("/tmp/d")}
        self.assertEqual(set(found), {"fifo", "link", "f", "\udcff\n"})
        file = self.fs.stat("/tmp/d/f")
        self.assertEqual(found["f"], file)
        self.assertEqual((file.name, file.path, file.type, file.size), ("f", "/tmp/d/f", FileType.FILE, 5))
        self.assertEqual((file.mode, file.permissions, file.owner, file.group), (0o4751, "rwsr-x--x", "12", "34"))
        self.assertEqual((file.modified_time, file.symlink_target), (1e9, None))
        self.assertTrue(file.is_file() and not file.is_dir() and not file.is_symlink())
        link = self.fs.stat("/tmp/d/link")
        self.assertEqual((link.is_symlink(), link.symlink_target), (True, "/etc"))
        self.assertEqual((found["fifo"].type, self.fs.stat("/tmp/d").is_dir()), (FileType.FIFO, True))
        self.assertEqual(self.fs.read_bytes("/tmp/d/\udcff\n"), b"")

    def test_directories_and_names(self):
        self.fs.make_directory("/tmp/a/b")
        self.fs.make_directory("/tmp/a/b")
        self.fs.write_text("x", "/tmp/a/b/c")
        self.fs.rename("/tmp/a/b/c", "/tmp/a/d")
        self.assertEqual({entry.name for entry in self.fs.list_files("/tmp/a")}, {"b", "d"})
        self.fs.remove("/tmp/a/b")
        self.fs.remove("/tmp/a", recursive=True)
        self.assertEqual(self.fs.list_files("/tmp"), [])

    def test_errors_are_modals(self):
        error = sbx.exception
        self.fs.write_text("x", "/tmp/file")
        self.fs.make_directory("/tmp/full/of/it")
        self.run_inside("import os; os.mkfifo('/tmp/fifo')")
        cases = (
            (error.SandboxFilesystemNotFoundError, self.fs.read_bytes, "/tmp/none"),
            (error.SandboxFilesystemNotFoundError, self.fs.remove, "/tmp/none"),
            (error.SandboxFilesystemNotFoundError, self.fs.copy_to_local, "/tmp/none", self.scratch / "none"),
            (error.SandboxFilesystemNotFoundError, self.fs.copy_tree_to_local, "/tmp/none", self.scratch / "none"),
            (error.SandboxFilesystemNotFoundError, self.fs.watch, "/tmp/none"),
            (error.SandboxFilesystemIsADirectoryError, self.fs.read_text, "/tmp/full"),
            (error.SandboxFilesystemIsADirectoryError, self.fs.write_text, "x", "/tmp/full"),
            (error.SandboxFilesystemIsADirectoryError, self.fs.copy_from_local, __file__, "/tmp/full"),
            (error.SandboxFilesystemNotADirectoryError, self.fs.list_files, "/tmp/file"),
            (error.SandboxFilesystemNotADirectoryError, self.fs.write_text, "x", "/tmp/file/below"),
            (error.SandboxFilesystemDirectoryNotEmptyError, self.fs.remove, "/tmp/full"),
            (error.SandboxFilesystemPathAlreadyExistsError, self.fs.make_directory, "/tmp/file"),
            (error.SandboxFilesystemPermissionError, self.fs.write_text, "x", "/proc/version"),
            (error.SandboxFilesystemError, self.fs.read_bytes, "/tmp/fifo"),
            (error.InvalidError, self.fs.read_bytes, "relative"),
            (error.InvalidError, self.fs.read_bytes, "/tmp/\0"),
            (FileNotFoundError, self.fs.copy_from_local, self.scratch / "none", "/tmp/none"),
            (IsADirectoryError, self.fs.copy_from_local, self.scratch, "/tmp/none"),
            (NotADirectoryError, self.fs.copy_tree_from_local, __file__, "/tmp/none"),
            (IsADirectoryError, self.fs.copy_to_local, "/tmp/file", self.scratch),
        )
        for kind, function, *arguments in cases:
            with self.subTest(kind=kind, arguments=arguments):
                with self.assertRaises(kind) as caught:
                    function(*arguments)
                if issubclass(kind, error.SandboxFilesystemError):
                    self.assertIn(self.sb.object_id, caught.exception.message)
        self.assertEqual(os.listdir(self.scratch), [], "nothing half made is left")
        self.run_inside("open('/tmp/large', 'w').truncate(200 << 20)")
        with self.assertRaises(error.SandboxFilesystemFileTooLargeError):
            self.fs.read_bytes("/tmp/large")
        self.sb.terminate(wait=True)
        with self.assertRaises(error.ConflictError):
            self.fs.read_bytes("/tmp/file")

    def test_errors_are_pythons_too(self):
        self.fs.write_text("x", "/tmp/file")
        self.fs.make_directory("/tmp/full/of/it")
        for kind, number, function, *arguments in (
            (FileNotFoundError, errno.ENOENT, self.fs.read_bytes, "/tmp/none"),
            (IsADirectoryError, errno.EISDIR, self.fs.read_bytes, "/tmp/full"),
            (NotADirectoryError, errno.ENOTDIR, self.fs.list_files, "/tmp/file"),
            (FileExistsError, errno.EEXIST, self.fs.make_directory, "/tmp/file"),
            (PermissionError, errno.EPERM, self.fs.write_text, "x", "/proc/version"),
            (OSError, errno.ENOTEMPTY, self.fs.remove, "/tmp/full"),
        ):
            with self.subTest(kind=kind), self.assertRaises(kind) as caught:
                function(*arguments)
            error = caught.exception
            self.assertIsInstance(error, sbx.SandboxFilesystemError)
            self.assertIn(error.errno, (number, errno.EACCES))
            self.assertEqual((error.errno, error.strerror, str(error)), (error.os_error, error.message, error.message))
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(again), again.errno, str(again)), (type(error), error.errno, str(error)))

    def test_a_users_rights(self):
        self.fs.write_text("root's", "/tmp/secret")
        self.run_inside("import os; os.chmod('/tmp/secret', 0o600); os.chmod('/tmp', 0o1777)")
        mine = {"user": "1234:1234"}
        for call in (
            lambda: self.fs.read_bytes("/tmp/secret", **mine), lambda: self.fs.read_text("/tmp/secret", **mine),
            lambda: self.fs.write_text("", "/tmp/secret", **mine), lambda: self.fs.write_bytes(b"", "/etc/x", **mine),
            lambda: self.fs.list_files("/root", **mine), lambda: self.fs.remove("/tmp/secret", **mine),
            lambda: self.fs.make_directory("/etc/x", **mine), lambda: self.fs.rename("/tmp/secret", "/tmp/x", **mine),
            lambda: self.fs.copy_to_local("/tmp/secret", self.scratch / "x", **mine),
            lambda: self.fs.copy_from_local(__file__, "/etc/x", **mine),
        ):  # fmt: skip
            with self.assertRaises(sbx.SandboxFilesystemPermissionError):
                call()
        self.fs.write_text("mine", "/tmp/mine", **mine)
        found = self.fs.stat("/tmp/mine", **mine)
        self.assertEqual((found.owner, found.group), ("1234", "1234"))
        self.assertEqual(self.fs.read_text("/tmp/mine"), "mine")
        with self.assertRaises(sbx.Error):
            self.fs.stat("/tmp", user="no such user")
        with self.assertRaisesRegex(sbx.InvalidError, "user must be a string"):
            self.fs.stat("/tmp", user=0)

    def test_limits_of_what_is_read(self):
        self.fs.write_text("12345", "/tmp/five")
        self.assertEqual(self.fs.read_bytes("/tmp/five", limit=5), b"12345")
        for read in (self.fs.read_bytes, self.fs.read_text):
            with self.assertRaises(sbx.SandboxFilesystemFileTooLargeError):
                read("/tmp/five", limit=4)
            with self.assertRaisesRegex(sbx.InvalidError, "limit must be"):
                read("/tmp/five", limit=0)
        self.assertGreater(len(self.fs.list_files("/", limit=1000)), 3)
        with self.assertRaises(sbx.SandboxFilesystemFileTooLargeError):
            self.fs.list_files("/", limit=3)

    def test_large_files_are_streamed(self):
        size = 64 << 20
        with open(self.scratch / "large", "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        self.fs.copy_from_local(self.scratch / "large", "/tmp/new/large")
        self.assertEqual(self.fs.stat("/tmp/new/large").size, size)
        self.fs.copy_to_local("/tmp/new/large", self.scratch / "there" / "again")
        digests = set()
        for path in ("large", "there/again"):
            with open(self.scratch / path, "rb") as file:
                digest = hashlib.sha256()
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
            digests.add(digest.digest())
        self.assertEqual(len(digests), 1)
        self.assertEqual(os.listdir(self.scratch / "there"), ["again"])

    def test_an_upload_that_fails_ends_no_host_for_which_sigpipe_does(self):
        with open(self.scratch / "large", "wb") as file:
            file.truncate(64 << 20)
        program = """
import signal, sys
import libsbx as sbx
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
with sbx.Sandbox.create() as sb:
    for copy, path in ((sb.filesystem.copy_from_local, "large"), (sb.filesystem.copy_tree_from_local, "")):
        try:
            copy(sys.argv[1] + "/" + path, "/proc/version")
        except sbx.exception.SandboxFilesystemError as error:
            print(type(error).__name__)
"""
        done = python("-c", program, str(self.scratch))
        self.assertEqual(len(done.stdout.splitlines()), 2, (done.returncode, done.stdout, done.stderr))

    def test_asyncio(self):
        async def one(number):
            await self.fs.write_text.aio(str(number), f"/tmp/{number}")
            return await self.fs.read_text.aio(f"/tmp/{number}")

        async def main():
            texts = await asyncio.gather(*map(one, range(20)))
            self.assertEqual(texts, [str(number) for number in range(20)])
            await self.fs.copy_to_local.aio("/tmp/3", self.scratch / "3")
            await self.fs.copy_tree_to_local.aio("/tmp", self.scratch / "tree")
            await self.fs.copy_tree_from_local.aio(self.scratch / "tree", "/tmp/tree")
            with self.assertRaises(sbx.exception.SandboxFilesystemNotFoundError):
                await self.fs.stat.aio("/tmp/none")
            return len(await self.fs.list_files.aio("/tmp/tree"))

        self.assertEqual(asyncio.run(main()), 20)
        self.assertEqual((self.scratch / "3").read_text(), "3")

    def test_a_copy_that_is_cancelled_ends_and_leaves_nothing_here(self):
        async def main():
            copy = asyncio.ensure_future(self.fs.copy_to_local.aio("/tmp/large", self.scratch / "large"))
            while not os.listdir(self.scratch):
                await asyncio.sleep(0.001)
            copy.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await copy

        self.run_inside("open('/tmp/large', 'w').truncate(8 << 30)")
        asyncio.run(main())
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join(60)
        self.assertEqual(os.listdir(self.scratch), [])

    def test_a_long_list_leaves_others_on_the_loop_their_turn(self):
        turns = []

        async def turn():
            turns.append(None)

        self.run_inside("import os; os.mkdir('/tmp/many')\nfor n in range(2000): open(f'/tmp/many/{n}', 'w')")
        with mock.patch.object(files, "turn", turn):
            self.assertEqual(len(self.fs.list_files("/tmp/many")), 2000)
        self.assertGreaterEqual(len(turns), 2000 // 256)

    def copies(self, **bounds):
        """Each way to copy something of the name."""
        return (
            lambda name: self.fs.copy_to_local(f"/tmp/{name}/file", self.scratch / "file", **bounds),
            lambda name: self.fs.copy_tree_to_local(f"/tmp/{name}", self.scratch / "tree", **bounds),
            lambda name: self.fs.copy_tree_from_local(self.scratch / name, "/tmp/tree", **bounds),
            lambda name: self.fs.copy_from_local(self.scratch / name / "file", "/tmp/file", **bounds),
        )

    def make_both(self, name, size):
        self.run_inside(f"import os; os.mkdir('/tmp/{name}'); open('/tmp/{name}/file', 'w').truncate({size})")
        (self.scratch / name).mkdir()
        with open(self.scratch / name / "file", "w") as file:
            file.truncate(size)

    def test_a_copy_has_a_limit(self):
        self.make_both("some", 20_000)
        for copy in self.copies(limit=19_999)[:3]:
            with self.assertRaises(sbx.exception.SandboxFilesystemFileTooLargeError):
                copy("some")
        self.assertEqual(os.listdir(self.scratch), ["some"])
        self.copies(limit=20_000)[0]("some")
        self.copies(limit=20_000)[2]("some")
        self.copies(limit=30_000)[1]("some")  # with its headers
        self.assertEqual((self.scratch / "tree" / "file").stat().st_size, 20_000)
        for limit in (0, -1, 1.5, "1", 1 << 64):
            for copy in self.copies(limit=limit)[:3]:
                with self.assertRaises(sbx.InvalidError) as caught:
                    copy("some")
                self.assertIn("limit", caught.exception.message)

    def test_a_copy_has_a_time(self):
        # So much is not copied in a tenth of a second anywhere.
        self.make_both("endless", 8 << 30)
        for copy in self.copies(timeout=0.1):
            with self.assertRaises(sbx.TimeoutError):
                copy("endless")
        self.assertEqual(os.listdir(self.scratch), ["endless"])
        for timeout in (0, -1, float("nan"), "1"):
            for copy in self.copies(timeout=timeout):
                with self.assertRaises(sbx.InvalidError) as caught:
                    copy("endless")
                self.assertIn("timeout", caught.exception.message)
        self.make_both("little", 5)
        everything = [
            lambda **more: self.fs.read_bytes("/etc/hosts", **more),
            lambda **more: self.fs.read_text("/etc/hosts", **more),
            lambda **more: self.fs.write_bytes(b"", "/tmp/new", **more),
            lambda **more: self.fs.write_text("", "/tmp/new", **more),
            lambda **more: self.fs.list_files("/", **more),
            lambda **more: self.fs.stat("/", **more),
            lambda **more: self.fs.make_directory("/tmp/d", **more),
            lambda **more: self.fs.rename("/tmp/d", "/tmp/e", **more),
            lambda **more: self.fs.remove("/tmp/e", **more),
        ]
        for call in everything:
            call(timeout=60)
            for timeout in (0, -1, float("nan"), "1"):
                with self.assertRaisesRegex(sbx.InvalidError, "timeout must be a positive number"):
                    call(timeout=timeout)
        for copy in self.copies(timeout=60):
            copy("little")

    def test_a_copy_has_a_time_also_when_init_is_stopped(self):
        # The thread that copies sees the stream's end, which init holds on to.
        self.make_both("endless", 8 << 30)
        self.stop_init()
        for copy in self.copies(timeout=1):
            with self.assertRaises(sbx.TimeoutError):
                copy("endless")
        self.assertEqual(os.listdir(self.scratch), ["endless"])


class Silent(Files):
    """A sandbox whose init has stopped, so that it answers nothing."""

    def setUp(self):
        super().setUp()
        self.stop_init()
        with contextlib.suppress(sbx.TimeoutError):
            while True:
                self.fs.stat("/", timeout=1)

    def test_every_call_has_a_time(self):
        fs = self.fs
        (self.scratch / "file").write_text("x")
        calls = [
            (fs.read_bytes, "/f"), (fs.read_text, "/f"), (fs.write_bytes, b"", "/f"), (fs.write_text, "", "/f"),
            (fs.list_files, "/"), (fs.stat, "/"), (fs.make_directory, "/d"), (fs.remove, "/f"), (fs.rename, "/f", "/g"),
            (fs.copy_from_local, self.scratch / "file", "/f"), (fs.copy_to_local, "/f", self.scratch / "g"),
            (fs.copy_tree_from_local, self.scratch, "/d"), (fs.copy_tree_to_local, "/d", self.scratch / "d"),
        ]  # fmt: skip
        threads, ends = [], {}
        for call, *arguments in calls:

            def check(call=call, arguments=arguments):
                try:
                    call(*arguments, timeout=0.2)
                    ends[call.aio.func.__name__] = None
                except sbx.Error as error:
                    ends[call.aio.func.__name__] = type(error)

            threads.append(threading.Thread(target=check))
            threads[-1].start()
        for thread in threads:
            thread.join(20)
        self.maxDiff = None
        self.assertEqual(ends, {call.aio.func.__name__: sbx.TimeoutError for call, *_ in calls})

    def test_in_asyncio_too(self):
        async def main():
            with self.assertRaises(sbx.TimeoutError):
                await asyncio.wait_for(self.fs.list_files.aio("/", timeout=0.2), 20)

        asyncio.run(main())


class Trees(Files):
    def make_tree(self, root):
        (root / "sub" / ("long" * 60)).mkdir(parents=True)
        (root / "empty").mkdir()
        (root / "plain").write_text("plain")
        (root / "program").write_text("#!/bin/sh\n")
        (root / "program").chmod(0o755)
        (root / "sub" / ("long" * 60) / "deep").write_bytes(os.urandom(300_000))
        (root / "link").symlink_to("sub/" + "long" * 60 + "/deep")
        (root / "sub" / "up").symlink_to("../plain")
        os.utime(root / "plain", (1e9, 1e9))

    def listed(self, root):
        found = {}
        for directory, _, files in os.walk(root):
            found[os.path.relpath(directory, root)] = "directory"
            for name in files:
                path = Path(directory, name)
                if path.is_symlink():
                    found[os.path.relpath(path, root)] = os.readlink(path)
                else:
                    status = path.stat()
                    found[os.path.relpath(path, root)] = (path.read_bytes(), status.st_mode & 0o111)
        return found

    def test_a_tree_goes_in_and_comes_out(self):
        here, again = self.scratch / "here", self.scratch / "deeper" / "again"
        self.make_tree(here)
        self.fs.copy_tree_from_local(here, "/tmp/new/tree")
        self.assertEqual(self.run_inside("print(open('/tmp/new/tree/plain').read())"), "plain\n")
        self.fs.copy_tree_to_local("/tmp/new/tree", again)
        self.assertEqual(self.listed(here), self.listed(again))
        self.assertEqual((again / "plain").stat().st_mtime, 1e9)
        self.assertEqual(os.listdir(again.parent), ["again"])
        with self.assertRaises(OSError):
            self.fs.copy_tree_to_local("/tmp/new/tree", again)
        self.assertEqual(self.listed(here), self.listed(again))

    def test_permissions_and_owners_of_the_sandbox_mean_nothing_here(self):
        self.run_inside(
            "import os; os.mkdir('/tmp/t'); open('/tmp/t/f', 'w'); os.chown('/tmp/t/f', 1234, 1234);"
            "os.chmod('/tmp/t/f', 0o6777); os.mkdir('/tmp/t/closed', 0)"
        )
        self.fs.copy_tree_to_local("/tmp/t", self.scratch / "t")
        file = (self.scratch / "t" / "f").stat()
        self.assertEqual((stat.S_IMODE(file.st_mode), file.st_uid), (0o755, os.geteuid()))
        self.assertEqual(os.listdir(self.scratch / "t" / "closed"), [])

    def test_links_of_a_tree_that_lead_outside_are_refused(self):
        for target in ("/etc/passwd", "../../../etc/passwd", "sub/../../outside", "through/../../x"):
            with self.subTest(target=target):
                self.run_inside(
                    "import os, shutil, sys; shutil.rmtree('/tmp/t', True); os.makedirs('/tmp/t/sub/deep');"
                    "os.symlink('.', '/tmp/t/through'); os.symlink(sys.argv[1], '/tmp/t/link')",
                    target,
                )
                with self.assertRaises(sbx.exception.SandboxFilesystemError) as caught:
                    self.fs.copy_tree_to_local("/tmp/t", self.scratch / "t")
                self.assertIn("refused", str(caught.exception))
                self.assertEqual(os.listdir(self.scratch), [])

    def test_a_tree_that_grows_while_it_is_copied_is_whole_or_not_there(self):
        grow = """
import itertools, os
os.mkdir("/tmp/g")
for n in itertools.count():
    open(f"/tmp/g/{n % 500}", "a").write("x" * 999)
"""
        process = self.sb.exec("python3", "-c", grow)
        while not any(entry.name == "g" for entry in self.fs.list_files("/tmp")):
            pass
        try:
            self.fs.copy_tree_to_local("/tmp/g", self.scratch / "g")
        except sbx.Error:
            self.assertEqual(os.listdir(self.scratch), [])
        process.send_signal(signal.SIGKILL)


class Unpacking(unittest.TestCase):
    """What a sandbox can say that no tar program would: its end of the stream is all that the library passes on."""

    PROGRAM = """
import io, pathlib, socket, sys, tarfile, threading
from libsbx.filesystem import copying
from libsbx.exception import SandboxFilesystemError

def entry(name, kind=tarfile.REGTYPE, target="", data=b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data

LINK, DIRECTORY, HARD = tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE
cases = {
    "absolute": [entry("/tmp/evil")],
    "dot dot": [entry("../evil")],
    "dot dot within": [entry("a/../../evil")],
    "hard link": [entry("evil", HARD, "/etc/passwd")],
    "hard link inside": [entry("a", data=b"x"), entry("b", HARD, "a")],
    "device": [entry("evil", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "fifo": [entry("evil", tarfile.FIFOTYPE)],
    "through a link": [entry("a", LINK, "/tmp"), entry("a/evil", data=b"x")],
    "through a link inside": [entry("d", DIRECTORY), entry("a", LINK, "d"), entry("a/evil", data=b"x")],
    "a link through a link": [entry("a", LINK, ".."), entry("a/evil", LINK, "x")],
    "over a link": [entry("a", LINK, "b"), entry("a", data=b"x")],
    "twice": [entry("a", data=b"x"), entry("a", data=b"y")],
    "a file as a directory": [entry("a", data=b"x"), entry("a/b", data=b"y")],
    "the root as a file": [entry(".", data=b"x")],
    "the root as a link": [entry(".", LINK, "/tmp")],
    "a link up": [entry("a", LINK, "..")],
    "a link far up": [entry("d/a", LINK, "../../x")],
    "links that add up": [entry("d/e", DIRECTORY), entry("up", LINK, "d/.."), entry("a", LINK, "up/../x")],
    "a name guessed": [entry("d", DIRECTORY), entry("a", LINK, "../tree/x")],
    "an impossible time": [entry("a", mtime=1e300, pax_headers={"mtime": "1e300"})],
    "no archive": b"x" * 20000,
}
root = pathlib.Path(sys.argv[1])
for name, entries in cases.items():
    if isinstance(entries, list):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for info, data in entries:
                archive.addfile(info, io.BytesIO(data))
        entries = made.getvalue()
    ours, theirs = socket.socketpair()
    def say():
        with theirs:
            try:
                theirs.sendall(entries)
            except OSError:
                pass
    speaker = threading.Thread(target=say)
    speaker.start()
    try:
        with ours, copying.beside(root / "tree") as whole:
            copying.unpack(ours, whole)
        print("unpacked:", name)
    except (SandboxFilesystemError, EOFError) as error:
        pass
    speaker.join()
    left = list(root.iterdir())
    if left:
        print("left:", name, left)
"""

    def test_what_leads_outside_or_is_no_file_is_refused(self):
        with tempfile.TemporaryDirectory() as scratch:
            done = python("-c", self.PROGRAM, scratch)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("", "", 0))

    def unpack(self, pieces, **bounds):
        """What becomes of an archive of these pieces; how many bytes of it were taken."""
        ours, theirs = socket.socketpair()
        sent = 0

        def say():
            nonlocal sent
            with theirs, contextlib.suppress(OSError):
                for piece in pieces:
                    theirs.sendall(piece)
                    sent += len(piece)

        speaker = threading.Thread(target=say)
        speaker.start()
        try:
            with tempfile.TemporaryDirectory() as scratch:
                with ours, copying.beside(Path(scratch, "tree")) as whole:
                    copying.unpack(ours, whole, **bounds)
                return {path.name for path in Path(scratch, "tree").iterdir()}
        except sbx.exception.SandboxFilesystemError as error:
            return error
        finally:
            speaker.join()
            self.taken = sent

    def entry(self, name, kind=tarfile.REGTYPE, size=0, **more):
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, size
        for key, value in more.items():
            setattr(info, key, value)
        return info.tobuf(tarfile.GNU_FORMAT)

    def pax(self, kind, size, text=b"%d comment=%s\n"):
        """A header of that size, and what it says."""
        said = text % (size, b"x" * (size - len(text % (size, b""))))
        return self.entry("header", kind, len(said)) + said + bytes(-len(said) % 512)

    def refused(self, *pieces, **bounds):
        error = self.unpack(pieces, **bounds)
        self.assertIsInstance(error, sbx.exception.SandboxFilesystemError)
        return str(error)

    def test_headers_take_no_memory(self):
        block, end = bytes(1 << 16), bytes(1024)
        for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            with self.subTest(kind=kind):
                self.assertIn("headers", self.refused(self.entry("header", kind, 8 << 30), *[block] * 256))
                self.assertLess(self.taken, 2 << 20)  # the rest is what sockets hold
                if kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                    self.refused(self.pax(kind, 1 << 20), self.entry("a"), end)
                    self.assertEqual(self.unpack([self.pax(kind, 50_000), self.entry("a"), end]), {"a"})
        # Not one of them is large.
        self.refused(*[self.pax(tarfile.XHDTYPE, 512)] * 10_000, self.entry("a"), end)
        self.refused(*[self.pax(tarfile.XHDTYPE, 60_000)] * 10, self.entry("a"), end)
        # Maps of sparse files, which go on for as long as they say.
        extended = bytearray(self.entry("a", tarfile.GNUTYPE_SPARSE))
        extended[482] = 1
        extended[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(extended[:512]))[0]
        more = bytearray((b"%011o\0" % 1) * 42 + bytes(8))
        more[504] = 1
        self.assertIn("headers", self.refused(bytes(extended), *[bytes(more) * 128] * 256))
        self.assertLess(self.taken, 2 << 20)
        said = b"".join(b"%d GNU.sparse.%s\n" % (15 + len(text), text) for text in (b"major=1", b"minor=0"))
        sparse = self.entry("header", tarfile.XHDTYPE, len(said)) + said + bytes(-len(said) % 512)
        numbers = b"9999999999999\n" + b"1\n" * 249
        self.assertIn("headers", self.refused(sparse + self.entry("a", size=512), numbers, *[b"1\n" * 32768] * 256))
        self.assertLess(self.taken, 2 << 20)

    def test_no_list_of_what_was_unpacked_is_kept(self):
        made, kept = tarfile.open, []

        def opened(**settings):
            archive = made(**settings)
            step = archive.next

            def counted():
                kept.append((len(archive.members), len(archive.pax_headers)))
                return step()

            archive.next = counted
            return archive

        def pieces():
            for number in range(1000):
                text = b"%d " + b"key%d" % number + b"=%s\n"
                yield self.pax(tarfile.XGLTYPE, 100, text) + self.entry(f"f{number}", size=5) + b"hello" + bytes(507)
            yield bytes(1024)

        with mock.patch.object(copying.tarfile, "open", opened):
            self.assertEqual(len(self.unpack(pieces())), 1000)
        self.assertEqual((len(kept), *map(max, zip(*kept))), (1001, 1, 1))

    def test_entries_links_and_depth_are_bounded(self):
        end = bytes(1024)
        files = [self.entry(f"f{number}") for number in range(100)]
        links = [self.entry(f"l{number}", tarfile.SYMTYPE, linkname="f") for number in range(100)]
        self.assertEqual(len(self.unpack([*files, *links, end])), 200)
        with mock.patch.object(copying, "_MOST_ENTRIES", 150):
            self.assertEqual(len(self.unpack([*links, end])), 100)
            self.assertIn("too many", self.refused(*files, *links, end))
        with mock.patch.object(copying, "_MOST_LINKS", 300):
            self.assertEqual(len(self.unpack([*files, end])), 100)
            self.assertIn("too many", self.refused(*links, end))
        steps = [self.entry("d/" * depth, tarfile.DIRTYPE) for depth in range(1, 700)]
        self.assertIn("too deep", self.refused(*steps, end))
        self.assertEqual(self.unpack([*steps[:400], end]), {"d"})

    def test_the_limit_is_held_here_too(self):
        archive = [self.entry("a", size=1 << 20), bytes(1 << 20), bytes(1024)]
        self.assertEqual(self.unpack(archive, limit=2 << 20), {"a"})
        self.assertIn("limit", self.refused(*archive, limit=1 << 20))
        self.assertIn("limit", self.refused(self.entry("a", size=1 << 40), *[bytes(1 << 16)] * 256, limit=1 << 20))
        self.assertLess(self.taken, 3 << 20)
        ours, theirs = socket.socketpair()
        theirs.sendall(b"12345")
        theirs.close()
        with ours, self.assertRaises(sbx.exception.SandboxFilesystemFileTooLargeError):
            copying.receive(ours, io.BytesIO(), 4)


class Watching(Files):
    def test_changes_are_told(self):
        with self.assertRaises(StopIteration):
            next(self.fs.watch("/tmp", timeout=0.2))
        changes = self.fs.watch("/tmp", recursive=True)
        self.fs.write_text("x", "/tmp/sub/a")
        self.fs.rename("/tmp/sub/a", "/tmp/b")
        self.fs.remove("/tmp/b")
        told = []
        for change in changes:
            told.append((change.type.name, *change.paths))
            if change.type is FileWatchEventType.Remove:
                break
        self.assertIn(("Create", "/tmp/sub"), told)
        self.assertIn(("Modify", "/tmp/sub/a", "/tmp/b"), told)
        self.assertEqual(told[-1], ("Remove", "/tmp/b"))
        changes.close()
        self.assertEqual(list(changes), [])

    def test_a_filter_and_the_end_of_the_directory(self):
        self.fs.make_directory("/tmp/w")
        changes = self.fs.watch("/tmp/w", filter=[FileWatchEventType.Create])
        for name in "abc":
            self.fs.write_text(name, "/tmp/w/" + name)
        self.fs.remove("/tmp/w", recursive=True)
        self.assertEqual([change.paths for change in changes], [["/tmp/w/a"], ["/tmp/w/b"], ["/tmp/w/c"]])

    def test_asyncio(self):
        async def main():
            changes = await self.fs.watch.aio("/tmp")
            await self.fs.write_text.aio("x", "/tmp/a")
            async for change in changes:
                return change.paths
            self.fail("it ended")

        async def modals():
            return [change async for change in self.fs.watch.aio("/tmp", timeout=0.2)]

        self.assertEqual(asyncio.run(main()), ["/tmp/a"])
        self.assertEqual(asyncio.run(modals()), [])

    def test_many_changes_leave_others_on_the_loop_their_turn(self):
        async def main(**settings):
            changes = await self.fs.watch.aio("/tmp", recursive=True, **settings)
            process = await self.sb.exec.aio(
                "python3", "-c", "for n in range(1500): open(f'/tmp/{n}', 'w')\nimport os; os.mkdir('/tmp/last')"
            )
            await process.wait.aio()

            async def until_the_last():
                async for change in changes:
                    yield change
                    if change.paths == ["/tmp/last"] or change.type is FileWatchEventType.Unknown:
                        break

            most = await most_at_once(until_the_last())
            await self.fs.remove.aio("/tmp/last")
            return most

        self.assertLessEqual(asyncio.run(main()), 256)

    def test_changes_that_are_left_out_count_too(self):
        turns = []

        async def main():
            changes = self.fs.watch.aio("/tmp", filter=[FileWatchEventType.Remove])
            await changes
            self.run_inside("for n in range(1500): open(f'/tmp/{n}', 'w')\nimport os; os.remove('/tmp/0')")
            with mock.patch.object(sbx.waiting, "turn", turn):
                return (await changes.__anext__()).paths

        async def turn():
            turns.append(None)

        self.assertEqual(asyncio.run(main(), debug=False), ["/tmp/0"])
        self.assertGreaterEqual(len(turns), 1500 // 256)

    def test_it_ends_with_the_sandbox(self):
        changes = self.fs.watch("/tmp")
        self.sb.terminate()
        self.assertEqual(list(changes), [])


if __name__ == "__main__":
    unittest.main()
