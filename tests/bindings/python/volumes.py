"""Volumes in Python, and files in Modal's old form."""

import asyncio
import os
import signal
import tempfile
from support import eventually, python, sbx, unittest

from libsbx import Volume
from libsbx.exception import AlreadyExistsError, ConflictError, InvalidError, NotFoundError, UnimplementedError

# A store of its own: the library reads this when it is first used.
_data = tempfile.TemporaryDirectory()
os.environ["XDG_DATA_HOME"] = _data.name


def run(script, **settings):
    with sbx.Sandbox.create("sh", "-c", script, **settings) as sb:
        sb.wait()
        return sb.stdout.read()


class Volumes(unittest.TestCase):
    def test_a_volume_outlives_sandboxes_and_is_shared(self):
        volume = Volume.from_name("data-1", create_if_missing=True)
        self.assertEqual(run("echo hello >/data/file", volumes={"/data": volume}), "")
        again = Volume.from_name("data-1")
        script = "cat /data/file; (echo x >/data/file) 2>/dev/null || echo refused"
        self.assertEqual(run(script, volumes={"/data": again.read_only()}), "hello\nrefused\n")
        part = volume.with_mount_options(sub_path="/a/b", create_sub_path=True)
        self.assertEqual(run("touch /a/new; ls /a /data", volumes={"/a": part, "/data": volume}), "/a:\nnew\n\n/data:\na\nfile\n")
        volume.commit()
        volume.reload()
        info = again.info()
        self.assertEqual((info.name, info.in_use), ("data-1", False))
        self.assertEqual((info.path / "file").read_text(), "hello\n")
        self.assertTrue((info.path / "a/b/new").exists())

    def test_volumes_are_made_listed_and_deleted(self):
        Volume.objects.create("made")
        with self.assertRaises(AlreadyExistsError):
            Volume.objects.create("made")
        Volume.objects.create("made", allow_existing=True)
        self.assertIn("made", [volume.name for volume in Volume.objects.list()])
        with sbx.Sandbox.create(volumes={"/v": Volume.from_name("made")}) as sb:
            with self.assertRaisesRegex(ConflictError, "mounted"):
                Volume.delete("made")
            self.assertTrue(asyncio.run(self.look()).in_use)
            sb.terminate(wait=True)
        Volume.delete("made")
        with self.assertRaises(NotFoundError):
            Volume.objects.delete("made")
        Volume.objects.delete("made", allow_missing=True)

    def test_a_killed_host_leaves_no_lock_even_if_a_child_of_it_lives(self):
        host = """
import os, signal, time, libsbx as sbx
sandbox = sbx.Sandbox.create(volumes={"/v": sbx.Volume.from_name("killed", create_if_missing=True)})
child = os.fork()
if child == 0:
    for fd in range(3):
        os.close(fd)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
        ended = python("-c", host)
        self.assertEqual(ended.returncode, -signal.SIGKILL, ended.stderr)
        child = int(ended.stdout)
        try:
            eventually(lambda: not Volume.from_name("killed").info().in_use)
            Volume.delete("killed")
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)

    async def look(self):
        return await Volume.from_name("made").info.aio()

    def test_wrong_ones_are_errors_that_say_so(self):
        for volumes, what in (
            ({"/v": Volume.from_name("Bad")}, r"volumes\['/v'\]: .*a-z"),
            ({"/v": Volume.from_name("x").with_mount_options(sub_path="../y")}, r"volumes\['/v'\]: .*\.\."),
            ({"/v": object()}, "volumes must be a dict of paths inside, each with a Volume"),
            (["/v"], "volumes must be a dict"),
            ({"/proc": Volume.from_name("x")}, "/proc"),
        ):
            with self.assertRaisesRegex(InvalidError, what):
                sbx.Sandbox.create(volumes=volumes)
        with self.assertRaisesRegex(NotFoundError, '"none-of-that-name"'):
            sbx.Sandbox.create(volumes={"/v": Volume.from_name("none-of-that-name")})
        with self.assertRaisesRegex(UnimplementedError, "info"):
            Volume.from_name("x").listdir("/")
        Volume.from_name("x", environment_name="main", version=2, client=None)
        with self.assertRaisesRegex(TypeError, "create_if_mising"):
            Volume.from_name("x", create_if_mising=True)
        with self.assertRaisesRegex(TypeError, "allow_existng"):
            Volume.objects.create("x", allow_existng=True)

    def test_files_in_modals_old_form(self):
        with sbx.Sandbox.create() as sb:
            sb.mkdir("/tmp/a/b", parents=True)
            with self.assertRaises(FileNotFoundError):
                sb.mkdir("/tmp/x/y")
            file = sb.open("/tmp/a/file", "w")
            file.write("one\ntwo\n")
            file.flush()
            self.assertEqual(sb.open("/tmp/a/file").read(), "one\ntwo\n")
            file.write("three\n")
            file.close()
            with self.assertRaises(ValueError):
                file.write("late")
            with sb.open("/tmp/a/file", "a+b") as file:
                file.write(b"four")
                file.seek(4)
                self.assertEqual((file.read(3), file.readline(), file.readlines()), (b"two", b"\n", [b"three\n", b"four"]))
            self.assertEqual(sb.filesystem.read_text("/tmp/a/file"), "one\ntwo\nthree\nfour")
            self.assertEqual(sb.ls("/tmp/a"), ["b", "file"])
            for bad in ("", "rw", "q", None):
                with self.assertRaisesRegex(InvalidError, "mode must be"):
                    sb.open("/tmp/a/file", bad)
            with self.assertRaises(InvalidError):
                sb.open("/tmp/a/file").write("x")
            with self.assertRaises(FileNotFoundError):
                sb.open("/tmp/none")
            with self.assertRaises(FileExistsError):
                sb.open("/tmp/a/file", "x")
            sb.rm("/tmp/a/file")
            with self.assertRaises(OSError):
                sb.rm("/tmp/a")
            sb.rm("/tmp/a", recursive=True)
            self.assertEqual(sb.ls("/tmp"), [])

            async def awaited():
                async with await sb.open.aio("/tmp/async", "w") as file:
                    await file.write.aio("awaited")
                return await (await sb.open.aio("/tmp/async")).read.aio()

            self.assertEqual(asyncio.run(awaited()), "awaited")


if __name__ == "__main__":
    unittest.main()
