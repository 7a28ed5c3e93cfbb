"""Images in Python: imported, named, run, given up."""

import asyncio
import io
import os
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from support import sbx, unittest

from libsbx import Image
from libsbx.exception import ImageError, InvalidError, NotFoundError, UnimplementedError


# A store of its own: the library reads this when it is first used.
_cache = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _cache.name


def root_tarball(at):
    """A root file system with a shell, the libraries that it names, and a user."""
    with tarfile.open(at, "w") as archive:

        def add(name, data, mode):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))

        named = subprocess.run(["ldd", "/bin/sh"], check=True, capture_output=True, text=True).stdout
        for path in ["/bin/sh", *(word for word in named.split() if word.startswith("/"))]:
            add(path.lstrip("/"), Path(path).read_bytes(), 0o755)
        add("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:7:8::/home:/bin/sh\n", 0o644)
        add("etc/secret", b"of the image's root", 0o600)


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.tarball = Path(cls.scratch.name, "root.tar")
        root_tarball(cls.tarball)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def test_an_image_is_imported_named_listed_run_and_removed(self):
        seen = []
        image = Image.from_path(self.tarball, tag="python/test:one", progress=lambda done, total: seen.append((done, total)))
        with self.assertRaisesRegex(InvalidError, "call its pull"):
            image.object_id
        self.assertIs(image.pull(), image)
        self.assertTrue(all(done <= total for done, total in seen), seen)
        self.assertRegex(image.object_id, "^sha256:[0-9a-f]{64}$")
        self.assertGreater(image.info.size, 0)
        self.assertIsInstance(image.config, dict)
        self.assertEqual(Image.from_id(image.object_id[: len("sha256:") + 12]).pull().object_id, image.object_id)

        script = "read line </etc/passwd; echo $line; exit 7"
        with sbx.Sandbox.create("/bin/sh", "-c", script, image=image, user="app", image_mounts={"/mnt/again": image}) as sb:
            self.assertEqual(sb.stdout.read(), "root:x:0:0::/root:/bin/sh\n")
            sb.wait()
            self.assertEqual(sb.returncode, 7)
        # It says of no program: the sandbox waits for exec(), whose users are the image's.
        with sbx.Sandbox.create(image=image) as sb:
            self.assertNotEqual(sb.exec("/bin/sh", "-c", "read line </etc/secret", user="app").wait(), 0)
            self.assertEqual(sb.exec("/bin/sh", "-c", "read line </etc/secret; [ -n \"$line\" ]").wait(), 0)
        with sbx.Sandbox.create("exit 4", image=image, entrypoint=["/bin/sh", "-c"]) as sb:
            sb.wait()
            self.assertEqual(sb.returncode, 4)

        image.add_tag("python/test:two")
        mine = [info for info in Image.list() if info.object_id == image.object_id]
        self.assertEqual(len(mine), 1)
        self.assertEqual(len(mine[0].tags), 2, mine)
        Image.remove("python/test:one")
        with self.assertRaisesRegex(NotFoundError, "python/test:one"):
            Image.from_name("python/test:one").pull()
        removed, freed = Image.prune()
        self.assertGreaterEqual(removed, 1)
        self.assertGreaterEqual(freed, image.info.size)
        with sbx.Sandbox.create("/bin/sh", "-c", "exit 3", image=image) as sb:
            sb.wait()
            self.assertEqual(sb.returncode, 3, "an image that is removed stays usable")

    def test_a_snapshot_is_an_image(self):
        image = Image.from_path(self.tarball)
        with sbx.Sandbox.create(image=image) as sb:
            self.assertEqual(sb.exec("/bin/sh", "-c", "echo kept >/etc/kept; echo gone >/tmp/gone").wait(), 0)
            snapshot = sb.snapshot_filesystem(tag="python/snapshot")
        self.assertNotEqual(snapshot.object_id, image.object_id)
        with sbx.Sandbox.create("/bin/sh", "-c", "read line </etc/kept; echo $line; [ ! -e /tmp/gone ]", image=snapshot) as sb:
            self.assertEqual(sb.stdout.read(), "kept\n")
            sb.wait()
            self.assertEqual(sb.returncode, 0)
        with sbx.Sandbox.create() as sb, self.assertRaisesRegex(UnimplementedError, "image"):
            sb.snapshot_filesystem()

    def test_a_directory_is_an_image_and_an_image_is_copied(self):
        image = Image.from_path(self.tarball)
        with sbx.Sandbox.create(image=image) as sb:
            self.assertEqual(sb.exec("/bin/sh", "-c", "echo kept >/tmp/kept; cd /tmp; : >.hidden").wait(), 0)
            directory = sb.snapshot_directory("/tmp", tag="python/directory")
            self.assertEqual(directory.info.tags, ("docker.io/python/directory:latest",))
            sb.mount_image("/data/copy", directory)
            self.assertEqual(sb.filesystem.read_text("/data/copy/kept"), "kept\n")
            with self.assertRaisesRegex(NotFoundError, "/none"):
                sb.snapshot_directory("/none")
            with self.assertRaisesRegex(InvalidError, "below the root"):
                sb.mount_image("/", directory)
            with self.assertRaisesRegex(InvalidError, "Image"):
                sb.mount_image("/data", "python:3.12")
        with sbx.Sandbox.create() as sb:  # on the host's root
            sb.mount_image("/tmp/copy", directory)
            self.assertEqual(sb.filesystem.read_text("/tmp/copy/kept"), "kept\n")

    def test_an_exit_snapshot_is_what_a_sandbox_had_at_its_end(self):
        image = Image.from_path(self.tarball)
        for exit_snapshot in (dict(exit_snapshot="python/exit"), dict(experimental_options={"enable_exit_snapshot": True})):
            with sbx.Sandbox.create("/bin/sh", "-c", "echo ended >/etc/ended; exit 3", image=image, **exit_snapshot) as sb:
                kept = sb.get_exit_snapshot(timeout=90)
                self.assertEqual(sb.returncode, 3)
            with sbx.Sandbox.create("/bin/sh", "-c", "read line </etc/ended; echo $line", image=kept) as sb:
                self.assertEqual(sb.stdout.read(), "ended\n")
        self.assertEqual(Image.from_name("python/exit").pull().info.tags, ("docker.io/python/exit:latest",))
        # The end of a `with` block takes it, too; a second terminate() gives it up.
        with sbx.Sandbox.create(image=image, exit_snapshot=True) as sb:
            sb.filesystem.write_text("kept", "/etc/kept")
        with sbx.Sandbox.create(image=sb.get_exit_snapshot()) as again:
            self.assertEqual(again.filesystem.read_text("/etc/kept"), "kept")
        with sbx.Sandbox.create(image=image, exit_snapshot=True) as sb:
            sb.terminate()
            sb.terminate(wait=True)
            with self.assertRaisesRegex(sbx.Error, "terminated again"):
                sb.get_exit_snapshot()
        with sbx.Sandbox.create(image=image) as sb:
            sb.terminate(wait=True)
            with self.assertRaisesRegex(NotFoundError, "without an exit snapshot"):
                sb.get_exit_snapshot()
        with self.assertRaisesRegex(InvalidError, "needs a sandbox on an image"):
            sbx.Sandbox.create(exit_snapshot=True)

    def test_asyncio(self):
        async def both():
            image = Image.from_path(self.tarball)
            one, two = await asyncio.gather(image.pull.aio(), Image.from_path(self.tarball).pull.aio())
            self.assertEqual(one.object_id, two.object_id)
            sb = await sbx.Sandbox.create.aio("/bin/sh", "-c", "echo hello", image=one)
            self.assertEqual(await sb.stdout.read.aio(), "hello\n")
            await sb.wait.aio()
            self.assertIn(one.object_id, [info.object_id for info in await Image.list.aio()])

        asyncio.run(both())

    def test_bad_images_are_clear_errors(self):
        with self.assertRaisesRegex(NotFoundError, "none"):
            Image.from_path(Path(self.scratch.name, "none")).pull()
        garbage = Path(self.scratch.name, "garbage")
        garbage.write_bytes(b"garbage" * 1000)
        with self.assertRaisesRegex(ImageError, "garbage"):
            Image.from_path(garbage).pull()
        with self.assertRaisesRegex(InvalidError, "Not A Reference"):
            Image.from_registry("Not A Reference").pull()
        with self.assertRaisesRegex(InvalidError, "kind must be one of auto, oci"):
            Image.from_path(garbage, kind="zip")
        with self.assertRaisesRegex(InvalidError, "image must be an Image"):
            sbx.Sandbox.create(image="python:3.12")
        with self.assertRaisesRegex(InvalidError, "image_mounts"):
            sbx.Sandbox.create(image_mounts={"/mnt": "python:3.12"})
        for steps in (lambda: Image.micromamba(), lambda: Image.from_path(garbage).run_function(print)):
            with self.assertRaisesRegex(UnimplementedError, "run_commands"):
                steps()

    def test_a_pull_that_is_given_up_ends(self):
        # A registry that never answers.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            image = Image.from_registry(f"127.0.0.1:{listener.getsockname()[1]}/team/app:1")

            async def given_up():
                pulling = asyncio.ensure_future(image.pull.aio())
                connection, _ = await asyncio.to_thread(listener.accept)
                pulling.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await pulling
                with connection:
                    connection.settimeout(30)
                    while connection.recv(4096):
                        pass

            asyncio.run(given_up())

    def test_a_terminal_shows_a_bar_and_nothing_else_does(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        from unittest import mock
        from libsbx.image import _Shown

        for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
            with mock.patch("sys.stderr", stream), _Shown("python:3.12", None) as shown:
                shown.report(5_000_000, 10_000_000)
            self.assertEqual("[###############               ] 5.0 of 10.0 MB" in stream.getvalue(), drawn)
            self.assertEqual(stream.getvalue().endswith("\n"), drawn)


if __name__ == "__main__":
    unittest.main()
