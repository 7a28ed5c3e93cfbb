"""Images that are built, in Python: by Dockerfiles, and step by step."""

import asyncio
import contextlib
import functools
import http.server
import io
import os
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import types
import zipfile
from pathlib import Path
from unittest import mock
from support import sbx, unittest

from libsbx import Image, Secret, recipe
from libsbx.exception import ImageError, InvalidError, NotFoundError, UnimplementedError
from libsbx.image import _Printed

# A store of its own: the library reads this when it is first used.
_cache = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _cache.name

BUSYBOX = "/usr/bin/busybox"
APPLETS = "sh cat echo find ls mkdir sleep sort stat id env touch nc wget head".split()
# In the place of Python and apt-get: they say what they were asked, or that there is no network.
PROGRAMS = {
    "usr/bin/python": '#!/bin/sh\necho "$@" >>/log\n',
    "usr/bin/uv": '#!/bin/sh\necho "uv $@" >>/log\n',
    "usr/bin/apt-get": '#!/bin/sh\necho "apt-get $@" >>/log\n',
    "usr/bin/pip": '#!/bin/sh\necho "Temporary failure in name resolution" >&2\nexit 1\n',
}


def add(archive, name, data, mode=0o755):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def add_shell(archive):
    add(archive, "bin/busybox", Path(BUSYBOX).read_bytes())
    for applet in APPLETS:
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
    add(archive, "etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:7:8::/home:/bin/sh\n", 0o644)


def root_tarball(at):
    with tarfile.open(at, "w") as archive:
        add_shell(archive)
        for name, text in PROGRAMS.items():
            add(archive, name, text.encode())


def python_tarball(at):
    """This machine's Python with pip, and a shell."""
    skipped = {"__pycache__", "test", "idlelib", "turtledemo", "ensurepip"}

    def kept(entry):
        parts = set(Path(entry.name).parts)
        return None if parts & skipped or any(part.startswith("config-") for part in parts) else entry

    python = Path("/usr/bin/python3").resolve()
    libraries = Path(sysconfig.get_path("stdlib", vars={"base": "/usr", "installed_base": "/usr"}))
    extensions = [python, *libraries.glob("lib-dynload/*.so")]
    named = subprocess.run(["ldd", *extensions], capture_output=True, text=True).stdout.split()
    with tarfile.open(at, "w") as archive:
        for path in {*filter(lambda word: word.startswith("/") and word.count(".so"), named)} - set(map(str, extensions)):
            if not path.endswith(":"):
                archive.add(os.path.realpath(path), path.lstrip("/"))
        archive.add(python, "usr/bin/python")
        for directory in (libraries, Path("/usr/lib/python3/dist-packages/pip")):
            archive.add(directory, str(directory).lstrip("/"), filter=kept)
        add_shell(archive)


def tiny_wheel(at):
    files = {
        "tiny.py": "ANSWER = 42\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(at, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        record = "".join(f"{name},,\n" for name in [*files, "tiny-1.0.dist-info/RECORD"])
        wheel.writestr("tiny-1.0.dist-info/RECORD", record)


def output_of(image, *command):
    with sbx.Sandbox.create(*command, image=image) as sandbox:
        text = sandbox.stdout.read()
        sandbox.wait()
        return text


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class Builds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        tarball = cls.at("root.tar")
        root_tarball(tarball)
        cls.base = Image.from_path(tarball, tag="builds/base").pull()

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def at(cls, name, text=None):
        path = Path(cls.scratch.name, name)
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return path

    def test_steps_follow_each_other(self):
        file = self.at("files/odd [name] $x.txt", "of this machine")
        self.at("tree/keep/a", "a")
        self.at("tree/keep/b.log", "b")
        self.at("tree/drop/c", "c")
        image = (
            self.base.env({"NAME": 'it\'s "a" $value\\'})
            .workdir("/srv")
            .run_commands("echo $PWD >where", ["echo one >two; cat two", "echo \"$NAME\" >name"])
            .add_local_file(file, "/srv/copied")
            .add_local_dir(file.parent, "/etc/more")
            .add_local_dir(self.at("tree"), "/tree", ignore=["**/*.log", "drop"])
            .add_local_dir(self.at("tree"), "/function", ignore=lambda path: path.name == "c" or path.suffix == ".log")
            .run_commands("""
echo first line >lines
echo second line \\
  >>lines""")
            .entrypoint(["/bin/sh", "-c"])
            .cmd(["cat where"])
        )
        with self.assertRaisesRegex(InvalidError, "call its pull"):
            image.object_id
        self.assertEqual(output_of(image), "/srv\n")
        self.assertEqual(output_of(image, "cat two name lines copied"), 'one\nit\'s "a" $value\\\nfirst line\nsecond line\nof this machine')
        self.assertEqual(output_of(image, 'cat "/etc/more/odd [name] \\$x.txt"'), "of this machine")
        self.assertEqual(output_of(image, "ls -d /tree/* /tree/*/* /function/*"), "/function/keep\n/tree/keep\n/tree/keep/a\n")
        self.assertRegex(image.object_id, "^sha256:[0-9a-f]{64}$")
        self.assertIs(image.build(), image)
        self.assertEqual(image.config["config"]["WorkingDir"], "/srv")

    def test_modules_of_this_program_are_copied(self):
        self.at("modules/sbx_one.py", "one")
        self.at("modules/sbx_two/__init__.py", "")
        self.at("modules/sbx_two/deep/three.py", "three")
        self.at("modules/sbx_two/data.bin", "data")
        sys.path.insert(0, str(self.at("modules/other", "").parent))
        self.addCleanup(sys.path.pop, 0)
        base = self.base.entrypoint(["/bin/sh", "-c"])
        image = base.env({"PYTHONPATH": "/srv"}).add_local_python_source("sbx_one", "sbx_two")
        listed = "cd /root; find . -type f | sort; cat sbx_one.py; echo $PYTHONPATH"
        found = "./sbx_one.py\n./sbx_two/__init__.py\n./sbx_two/deep/three.py\none/root:/srv\n"
        self.assertEqual(output_of(image, listed), found)
        image = base.add_local_python_source("sbx_two", ignore=["deep"])
        self.assertEqual(output_of(image, "cd /root/sbx_two; ls; echo $PYTHONPATH"), "__init__.py\ndata.bin\n/root\n")
        for wrong, error in (("no_such_module", NotFoundError), ("a.b", InvalidError), ("sys", InvalidError)):
            with self.subTest(module=wrong), self.assertRaises(error):
                self.base.add_local_python_source(wrong)
        # The script of a host that was started with one.
        started = mock.patch.dict(sys.modules, __main__=types.ModuleType("__main__"))
        with started, self.assertRaisesRegex(InvalidError, "'__main__'"):
            self.base.add_local_python_source("__main__")

    def test_a_dockerfile_is_built_and_its_steps_are_stored(self):
        self.at("context/app.txt", "first")
        self.at("context/secret.key", "not copied")
        self.at("context/.dockerignore", "*.key\n")
        text = """
            FROM builds/base
            ARG WHO=nobody
            RUN echo "hello $WHO" >/greeting
            COPY . /app/
            COPY --from=more --chown=app --chmod=0640 *.cfg /etc/
            USER app
            CMD ["/bin/sh", "-c", "cat /greeting /etc/more.cfg; id -u; ls /app; stat -c '%a %u %g' /etc/more.cfg"]
        """
        path = self.at("Dockerfile", text)
        self.at("more/more.cfg", "more\n")

        def built(**more):
            lines = []
            image = Image.from_dockerfile(path, context_dir=self.at("context"), build_args={"WHO": "you"}, contexts={"more": self.at("more")}, **more)
            steps = []
            image.build(output=lines.append, progress=lambda done, total: steps.append((done, total)))
            return image, lines, steps

        image, lines, steps = built()
        self.assertEqual(output_of(image), "hello you\nmore\n7\napp.txt\n640 7 7\n")
        self.assertTrue(any("RUN echo" in line for line in lines), lines)
        self.assertFalse(any("CACHED" in line for line in lines), lines)
        self.assertEqual(max(steps)[1], 6)
        self.assertEqual(sorted(steps), steps)
        again, lines, _ = built()
        self.assertEqual(again.object_id, image.object_id)
        self.assertTrue(any("CACHED" in line and "RUN echo" in line for line in lines), lines)
        _, lines, _ = built(force_build=True)
        self.assertFalse(any("CACHED" in line for line in lines), lines)
        self.at("context/app.txt", "second")
        changed, lines, _ = built()
        self.assertEqual(output_of(changed.run_commands("cat /app/app.txt >/tmp/x").entrypoint([]), "/bin/cat", "/app/app.txt"), "second")

    def test_what_of_a_context_is_left_out(self):
        for name in ("one.key", "two.txt", "three ", "three", "deep/four.key"):
            self.at(f"left/{name}", "")
        self.at("left/.dockerignore", "two.txt\n")
        file = self.at("Left.Dockerfile", "FROM builds/base\nCOPY . /left/\nENTRYPOINT [\"/bin/find\"]\n")

        def files(image):
            found = output_of(image, "/left", "-type", "f").splitlines()
            return sorted(path.removeprefix("/left/") for path in found)

        def left(ignore):
            return files(Image.from_dockerfile(file, context_dir=self.at("left"), ignore=ignore))

        self.assertEqual(left(None), [".dockerignore", "deep/four.key", "one.key", "three", "three "])
        self.assertEqual(left([]), [".dockerignore", "deep/four.key", "one.key", "three", "three ", "two.txt"])
        self.assertEqual(left(["**/*.key", ".*"]), ["three", "three ", "two.txt"])
        self.assertEqual(left(("*", "!deep")), ["deep/four.key"])
        self.assertEqual(left(lambda path: path.suffix == ".key" or path.name == "three "), [".dockerignore", "three", "two.txt"])
        self.assertEqual(left(lambda path: True), [])
        commands = self.base.entrypoint(["/bin/find"]).dockerfile_commands
        image = commands("COPY . /left/", context_dir=self.at("left"), ignore=["*", "!one.key"])
        self.assertEqual(files(image.dockerfile_commands("COPY t* /left/", context_dir=self.at("left"))), ["one.key", "three", "three "])
        with self.assertRaisesRegex(InvalidError, r'the pattern "a\["'):
            left(["a["])
        with self.assertRaisesRegex(InvalidError, "ignore must be a list of strings"):
            left("*.key")
        with self.assertRaisesRegex(NotFoundError, "by the build's ignore patterns"):
            commands("COPY one.key /left/", context_dir=self.at("left"), ignore=["one.key"]).build()

    def test_a_function_is_asked_when_the_build_begins(self):
        self.at("late/first", "")
        asked = []

        def is_key(path):
            asked.append(str(path))
            return path.suffix == ".key"

        of_dockerfile = Image.from_dockerfile(self.at("Late.Dockerfile", "FROM builds/base\nCOPY . /late/\n"), context_dir=self.at("late"), ignore=is_key)
        of_directory = self.base.add_local_dir(self.at("late"), "/late", ignore=is_key)
        self.assertEqual(asked, [])
        # The pattern of what was there before would not be about it.
        self.at("late/new.key", "")
        for image in (of_dockerfile, of_directory):
            self.assertEqual(output_of(image, "/bin/ls", "/late"), "first\n")
        self.assertEqual(sorted(asked), ["first", "first", "new.key", "new.key"])

        def fails(path):
            raise ZeroDivisionError("of the caller's own")

        with self.assertRaisesRegex(ZeroDivisionError, "of the caller's own"):
            self.base.add_local_dir(self.at("late"), "/late", ignore=fails).build()
        with self.assertRaisesRegex(ZeroDivisionError, "of the caller's own"):
            asyncio.run(self.base.dockerfile_commands("COPY . /x/", context_dir=self.at("late"), ignore=fails).build.aio())

    def test_packages_are_installed_by_the_images_programs(self):
        self.at("requirements.txt", "numpy\n")
        image = (
            self.base.apt_install("git", ["curl"])
            .pip_install("numpy>=1", ["attrs"], index_url="http://192.0.0.1:8080/simple", pre=True)
            .pip_install_from_requirements(self.at("requirements.txt"), find_links="/wheels")
            .uv_pip_install("httpx", extra_options="--no-deps")
            .uv_pip_install("rich", uv_version="0.9", pre=True, index_url="http://192.0.0.1:8080/simple")
        )
        self.assertIs(image.pip_install(), image)
        self.assertEqual(
            output_of(image, "/bin/cat", "/log").splitlines(),
            [
                "apt-get update",
                "apt-get install -y curl git",
                "-m pip install attrs numpy>=1 --index-url http://192.0.0.1:8080/simple --pre",
                "-m pip install -r /.requirements.txt --find-links /wheels",
                "uv pip install --python /usr/bin/python --break-system-packages --compile-bytecode httpx --no-deps",
                "-m pip install uv==0.9 --index-url http://192.0.0.1:8080/simple",
                "uv pip install --python /usr/bin/python --break-system-packages --compile-bytecode rich "
                "--index-url http://192.0.0.1:8080/simple --prerelease allow",
            ],
        )

    def test_pip_installs_from_an_index_of_this_machine(self):
        tarball = self.at("python.tar")
        python_tarball(tarball)
        index = self.at("index/simple/tiny")
        index.mkdir(parents=True)
        tiny_wheel(index / "tiny-1.0-py3-none-any.whl")
        handler = functools.partial(QuietHandler, directory=str(self.at("index")))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            image = Image.from_path(tarball).pip_install(
                "tiny==1.0", index_url="http://192.0.0.1:8080/simple", host_services={8080: f"127.0.0.1:{server.server_port}"},
                extra_options="--trusted-host 192.0.0.1 --root-user-action ignore --no-cache-dir",
                env={"PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            )
            lines = []
            image.build(output=lines.append)
            server.shutdown()
        self.assertTrue(any("Successfully installed tiny-1.0" in line for line in lines), lines)
        self.assertEqual(output_of(image, "python", "-c", "import tiny; print(tiny.ANSWER)"), "42\n")

    def test_what_fails_says_so_and_why(self):
        with self.assertRaisesRegex(ImageError, "(?s)pip install numpy.*outbound_domain_allowlist.*Temporary failure"):
            self.base.run_commands("pip install numpy").build()
        with self.assertRaisesRegex(ImageError, "(?s)exit 3") as caught:
            self.base.run_commands("echo last words; exit 3").build()
        self.assertIn("last words", str(caught.exception))
        with self.assertRaises(ImageError) as caught:
            self.base.run_commands("pip install numpy", block_network=False).build()
        self.assertNotIn("outbound_domain_allowlist", str(caught.exception))
        with self.assertRaisesRegex(InvalidError, "Dockerfile line 2: \"frobnicate\" is no instruction"):
            self.base.dockerfile_commands("FROBNICATE x").build()
        with self.assertRaisesRegex(NotFoundError, "there is no file"):
            Image.from_dockerfile(self.at("none"))
        with self.assertRaisesRegex(NotFoundError, "is no directory"):
            self.base.add_local_dir(self.at("none"), "/x")
        with self.assertRaisesRegex(TypeError, "run_commands.*block_networks"):
            self.base.run_commands("x", block_networks=True)
        with self.assertRaisesRegex(UnimplementedError, "gpu"):
            self.base.run_commands("x", gpu="H100")
        with self.assertRaisesRegex(InvalidError, "secrets"):
            self.base.run_commands("x", secrets=[Secret.from_dict({"a-b": "x"})])
        with self.assertRaisesRegex(UnimplementedError, "run_commands"):
            self.base.run_function(print)
        # The store hasn't it, and its registry isn't reached from here.
        with self.assertRaisesRegex(sbx.Error, "(?s)python:3.1-slim is not in the store.*docker save python:3.1-slim"):
            Image.debian_slim("3.1").build()
        self.base.add_tag("python:3.2-slim")
        self.assertEqual(Image.debian_slim("3.2").build().object_id, self.base.object_id)

    def test_secrets_are_for_a_step_alone(self):
        value = "s3cret value\nof two lines\n"
        lines = []
        image = self.base.run_commands('echo "$TOKEN" | head -c 12 >/kept; env | head -c 0', secrets=[Secret.from_dict({"TOKEN": value})])
        image = image.run_commands('echo "[$TOKEN]" >/later; [ ! -e /run/secrets/TOKEN ]')
        image.build(output=lines.append)
        self.assertEqual(output_of(image, "/bin/cat", "/kept", "/later").splitlines()[0], "s3cret value[]")
        self.assertFalse(any("s3cret" in line for line in lines), lines)
        path = self.at("Secret.Dockerfile", "FROM builds/base\nRUN --mount=type=secret,id=TOKEN [ \"$(cat /run/secrets/TOKEN)\" = x ]\n")
        Image.from_dockerfile(path, secrets=[Secret.from_dict({"TOKEN": "x"})]).build()

    def test_a_policy_is_of_the_steps_that_name_it(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:

            def serve():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        connection.sendall(b"from the host")

            threading.Thread(target=serve, daemon=True).start()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            reaches = "nc 192.0.0.1 8080 </dev/null >/got || echo nothing >/got"
            image = self.base.run_commands(reaches, host_services={8080: address}).run_commands("cat /got >/first")
            image = image.run_commands("nc -w 2 192.0.0.1 8080 </dev/null >/got || echo nothing >/got", force_build=True)
            self.assertEqual(output_of(image, "/bin/cat", "/first", "/got"), "from the hostnothing\n")
            Image.set_build_network(host_services={8080: address})
            try:
                image = self.base.run_commands(f"{reaches}; cat /got")
                self.assertEqual(output_of(image, "/bin/cat", "/got"), "from the host")
            finally:
                Image.set_build_network()

    def test_output_is_shown_where_it_is_asked_for(self):
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), sbx.enable_output():
            self.base.run_commands("echo shown", gpu=None).build()
        self.assertIn("shown\n", stderr.getvalue())
        with contextlib.redirect_stderr(stderr):
            self.base.run_commands("echo hidden").build()
        self.assertNotIn("hidden", stderr.getvalue())

    def test_asyncio_and_a_build_that_is_given_up(self):
        async def scenario():
            one, two = await asyncio.gather(*(self.base.run_commands("echo x >/x").build.aio() for _ in range(2)))
            self.assertEqual(one.object_id, two.object_id)
            started = threading.Event()
            slow = self.base.run_commands("echo begun; sleep 1000")
            building = asyncio.ensure_future(slow.build.aio(output=lambda line: line == "begun" and started.set()))
            self.assertTrue(await asyncio.to_thread(started.wait, 120))
            building.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await building

        asyncio.run(scenario())


class Texts(unittest.TestCase):
    """What needs no sandbox."""

    def test_a_line_without_an_end_comes_in_pieces(self):
        source, end = os.pipe()
        pieces = []
        reader = threading.Thread(target=_Printed._read, args=(source, pieces.append))
        reader.start()
        with open(end, "w", encoding="utf-8") as into:
            into.write("a\n" + "x" * 1_000_000)
        reader.join()
        self.assertEqual((pieces[0], "".join(pieces[1:])), ("a", "x" * 1_000_000))
        self.assertLessEqual(max(map(len, pieces)), 64 * 1024)

    def test_a_command_is_the_shells_whatever_is_in_it(self):
        self.assertEqual(recipe.run("echo $A"), "RUN echo $A\n")
        self.assertEqual(recipe.run("[ -f x ]"), "RUN <<END\n[ -f x ]\nEND\n")
        self.assertEqual(recipe.run("a\nEND"), "RUN <<END_\na\nEND\nEND_\n")
        self.assertEqual(recipe.run("#!/x"), "RUN <<END\n:\n#!/x\nEND\n")
        self.assertEqual(recipe.run("a", env={"A": "b c"}), "RUN export A='b c'; a\n")

    def test_patterns_for_what_a_function_drops(self):
        with tempfile.TemporaryDirectory() as top:
            for name in ("a", "d/b*", "d/c", "e/f/g", "e/f/h", "e/i/j"):
                path = Path(top, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

            def dropped(*names):
                return recipe.ignored(top, lambda path: str(path) in names)

            self.assertEqual(dropped(), [])
            self.assertEqual(dropped("a", "d/b*"), ["/a", "/d/b\\*"])
            self.assertEqual(dropped("e/f/g", "e/f/h"), ["/e/f"])
            self.assertEqual(dropped("e/f/g", "e/f/h", "e/i/j", "d/c"), ["/d/c", "/e"])
            self.assertEqual(recipe.ignored(top, lambda path: True), ["**"])
            Path(top, "e/link").symlink_to("f")
            Path(top, "e/f/space ").touch()
            self.assertEqual(dropped("e/link", "e/f/space "), ["/e/f/space[ ]", "/e/link"])

    def test_steps_are_one_build_where_they_can_be(self):
        layer = recipe.Layer
        run, other = layer(["RUN a\n"], network={}), layer(["RUN b\n"], network=dict(block_network=False))
        copy = layer(["COPY\n"], contexts={"x": "/"})
        texts = [build.read()[0] for build in recipe.joined([copy, run, copy, other, copy, run])]
        self.assertEqual(texts, ["COPY\nRUN a\nCOPY\n", "RUN b\nCOPY\n", "RUN a\n"])
        alone = layer(["FROM a"], alone=True)
        self.assertEqual(len(recipe.joined([alone, run])), 2)
        self.assertEqual(len(recipe.joined([layer(["A\n"], secrets={"x": b"1"}), layer(["B\n"], secrets={"x": b"2"})])), 2)
        one, same, another = (layer(["COPY\n"], context=("/srv", ignore)) for ignore in (["a"], ["a"], None))
        self.assertEqual(len(recipe.joined([one, run, same])), 1)
        self.assertEqual(len(recipe.joined([one, another])), 2)


if __name__ == "__main__":
    unittest.main()
