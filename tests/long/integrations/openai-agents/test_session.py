"""The client, driven by the SDK's own session calls: over the host's programs, and over an image (of INTEGRATION_ROOT, the
archive of a Debian root) whose user isn't root."""

import asyncio
import io
import json
import os
import time
import urllib.request
from pathlib import Path

import libsbx
import pytest
from agents.sandbox.entries import Dir, File
from agents.sandbox.errors import ExecTimeoutError, InvalidManifestPathError, PtySessionNotFoundError
from agents.sandbox.errors import ExposedPortUnavailableError, WorkspaceArchiveReadError, WorkspaceArchiveWriteError
from agents.sandbox.errors import WorkspaceReadNotFoundError
from agents.sandbox.manifest import Environment, Manifest
from agents.sandbox.session import SandboxSessionState
from agents.sandbox.snapshot import LocalSnapshotSpec
from agents.sandbox.workspace_paths import SandboxPathGrant
from libsbx_openai_agents import SbxSandboxClient, SbxSandboxClientOptions

pytestmark = pytest.mark.asyncio(loop_scope="module")
PORT = 8000


@pytest.fixture(scope="module")
def image():
    libsbx.Image.from_path(os.environ["INTEGRATION_ROOT"], tag="openai-agents-test").pull()
    return "openai-agents-test"


@pytest.fixture(params=["host", "image"])
def options(request):
    if request.param == "host":
        return SbxSandboxClientOptions(exposed_ports=(PORT,))
    name = request.getfixturevalue("image")
    return SbxSandboxClientOptions(image_name=name, user="daemon", exposed_ports=(PORT,))


@pytest.fixture
async def session(options):
    client = SbxSandboxClient()
    manifest = Manifest(
        entries={"docs": Dir(children={"a.txt": File(content=b"alpha\n")})},
        environment=Environment(value={"SAID": "by the manifest"}),
    )
    session = await client.create(options=options, manifest=manifest)
    try:
        await session.start()
        yield session
    finally:
        await session.aclose()
        await client.delete(session)


async def run(session, *command, **options):
    result = await session.exec(*command, **options)
    assert result.ok(), result.stderr
    return result.stdout


async def test_commands(session):
    assert await run(session, "pwd") == b"/workspace\n"
    assert b"gvisor" in (await run(session, "cat", "/proc/version")).lower()
    assert await run(session, 'printf %s "$SAID"') == b"by the manifest"
    assert await run(session, "printf", "%s", "a b'c", shell=False) == b"a b'c"
    failed = await session.exec("echo out; echo err >&2; exit 7")
    assert (failed.stdout, failed.stderr, failed.exit_code) == (b"out\n", b"err\n", 7)
    assert (await session.exec("no-such-program", shell=False)).exit_code == 127
    assert await run(session, "cat", shell=False) == b""
    assert await run(session, "id -un", user="root") == b"root\n"
    assert len(await run(session, "head -c 5000000 /dev/zero")) == 5_000_000


async def test_a_command_has_a_time(session):
    begun = time.monotonic()
    with pytest.raises(ExecTimeoutError):
        await session.exec("sleep 100", timeout=1)
    assert time.monotonic() - begun < 15


async def test_a_command_that_is_given_up_is_killed(session):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(session.exec("sleep", "4321", shell=False), 2)
    end = time.monotonic() + 10
    while b"sleep\x004321" in await run(session, "cat /proc/[0-9]*/cmdline 2>/dev/null || true"):
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_files(session):
    assert (await session.read(Path("docs/a.txt"))).read() == b"alpha\n"
    large = os.urandom(10 << 20)
    await session.write(Path("deep/er/large.bin"), io.BytesIO(large))
    assert (await session.read(Path("deep/er/large.bin"))).read() == large
    assert (await run(session, "stat -c %U deep/er/large.bin")) == (await run(session, "id -un"))
    await session.mkdir("made/below", parents=True)
    await session.write(Path("made/b.txt"), io.BytesIO(b"b"))
    assert sorted(Path(entry.path).name for entry in await session.ls("made")) == ["b.txt", "below"]
    await session.mv("made/b.txt", "made/c.txt")
    assert (await session.read(Path("/workspace/made/c.txt"))).read() == b"b"
    await session.rm("made", recursive=True)
    with pytest.raises(WorkspaceReadNotFoundError):
        await session.read(Path("made/c.txt"))


async def test_files_are_confined_to_the_workspace_and_to_users(session):
    with pytest.raises(InvalidManifestPathError):
        await session.read(Path("../etc/passwd"))
    await run(session, "ln -s /etc/passwd link; umask 077; echo secret > private")
    with pytest.raises(InvalidManifestPathError):
        await session.read(Path("link"))
    with pytest.raises(WorkspaceArchiveReadError):
        await session.read(Path("private"), user="nobody")
    await run(session, "test ! -w docs/a.txt", user="nobody")


async def test_patches(session):
    patch = {"type": "update_file", "path": "docs/a.txt", "diff": "@@\n-alpha\n+beta\n"}
    await session.apply_patch([patch, {"type": "create_file", "path": "new.txt", "diff": "+new\n"}])
    assert (await session.read(Path("docs/a.txt"))).read() == b"beta\n"
    assert (await session.read(Path("new.txt"))).read().strip() == b"new"


async def test_a_terminal(session):
    assert session.supports_pty()
    begun = await session.pty_exec_start("sh", shell=False, tty=True, yield_time_s=1)
    assert begun.process_id is not None and begun.exit_code is None
    said = await session.pty_write_stdin(session_id=begun.process_id, chars="tty; echo $((6*7))\n", yield_time_s=3)
    assert b"/dev/" in said.output and b"42" in said.output
    ended = await session.pty_write_stdin(session_id=begun.process_id, chars="exit 3\n", yield_time_s=10)
    assert (ended.exit_code, ended.process_id) == (3, None)
    with pytest.raises(PtySessionNotFoundError):
        await session.pty_write_stdin(session_id=begun.process_id, chars="")


async def test_a_program_that_goes_on(session):
    begun = await session.pty_exec_start("echo first; sleep 4; echo é; exit 5", yield_time_s=1)
    assert begun.output == b"first\n" and begun.process_id is not None
    with pytest.raises(RuntimeError):
        await session.pty_write_stdin(session_id=begun.process_id, chars="x")
    rest = await session.pty_write_stdin(session_id=begun.process_id, chars="", yield_time_s=20)
    assert (rest.output.decode(), rest.exit_code, rest.process_id) == ("é\n", 5, None)


async def test_much_output_comes_in_parts_and_holds_nothing_up(session):
    begun = await session.pty_exec_start("yes", yield_time_s=10)
    assert begun.process_id is not None and 1 << 20 <= len(begun.output) < 2 << 20
    cut = await session.pty_write_stdin(session_id=begun.process_id, chars="", max_output_tokens=100)
    assert len(cut.output) < 2000 and cut.original_token_count > 100_000
    await session.pty_terminate_all()
    assert b"yes\x00" not in await run(session, "cat /proc/[0-9]*/cmdline 2>/dev/null || true")


async def test_what_a_program_leaves_behind_does_not_hold_its_end_up(session):
    ended = await session.pty_exec_start("sleep 1000 & echo gone", yield_time_s=20)
    assert (ended.output, ended.exit_code) == (b"gone\n", 0)


async def test_ports(session):
    if b"python3" not in (await session.exec("command -v python3")).stdout:
        pytest.skip("no Python in the sandbox")
    server = await session.pty_exec_start(f"exec python3 -m http.server {PORT}", yield_time_s=1)
    assert server.process_id is not None
    endpoint = await session.resolve_exposed_port(PORT)
    end = time.monotonic() + 30
    while True:
        try:
            page = await asyncio.to_thread(lambda: urllib.request.urlopen(endpoint.url_for("http") + "docs/a.txt").read())
            break
        except OSError:
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
    assert page == b"alpha\n"
    with pytest.raises(ExposedPortUnavailableError):
        await session.resolve_exposed_port(PORT + 1)


async def test_nothing_is_reached_unless_the_options_say_so(session):
    program = "import socket; socket.create_connection(('8.8.8.8', 53), timeout=3)"
    assert not (await session.exec("python3", "-c", program, shell=False)).ok()


async def test_the_workspace_is_persisted_and_hydrated(session):
    await run(session, "mkdir -p x; echo kept > x/y; ln -s y x/z; chmod 750 x")
    with await session.persist_workspace() as archive:
        await run(session, "rm -r x docs")
        await session.hydrate_workspace(archive)
    assert await run(session, "cat x/z; stat -c %a x; cat docs/a.txt") == b"kept\n750\nalpha\n"


@pytest.mark.parametrize("persistence", ["tar", "snapshot"])
async def test_a_session_is_resumed_from_its_snapshot(options, persistence, tmp_path):
    client = SbxSandboxClient()
    wanted = options.model_copy(update={"workspace_persistence": persistence})
    session = await client.create(options=wanted, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    async with session:
        await run(session, "echo kept > file")
        await run(session, "mkdir /opt/outside", user="root")
        saved = client.serialize_session_state(session.state)
    await client.delete(session)
    state = client.deserialize_session_state(json.loads(json.dumps(saved, default=str)))
    assert isinstance(state, SandboxSessionState)
    again = await client.resume(state)
    async with again:
        assert again.state.sandbox_id != saved["sandbox_id"]
        assert await run(again, "cat file; pwd") == b"kept\n/workspace\n"
        whole = persistence == "snapshot" and wanted.image_name is not None
        assert (await again.exec("test -d /opt/outside")).ok() == whole
        await again.write(Path("more"), io.BytesIO(b"more"))
        assert (await again.read(Path("more"))).read() == b"more"
    await client.delete(again)


@pytest.mark.parametrize("persistence", ["tar", "snapshot"])
async def test_a_sandbox_cannot_choose_the_image_of_a_resumed_session(options, persistence):
    client = SbxSandboxClient()
    session = await client.create(options=options.model_copy(update={"workspace_persistence": persistence}))
    async with session:
        own = f"openai-agents:{session.state.session_id.hex}"
        for name in ("openai-agents-test", own if persistence == "tar" else f"{own}0"):
            with pytest.raises(WorkspaceArchiveWriteError):
                await session.hydrate_workspace(io.BytesIO(f"libsbx image\n{name}".encode()))
        # What is skipped has the workspace archived by tar.
        session.register_persist_workspace_skip_path("skipped")
        tar = f"printf 'libsbx image\\n{own}'"
        await run(session, f"tar=$(command -v tar); rm $tar; echo \"{tar}\" > $tar; chmod 755 $tar", user="root")
        with pytest.raises(WorkspaceArchiveReadError):
            await session.persist_workspace()
        await session.exec("rm -f /usr/bin/tar", user="root")
    await client.delete(session)


async def test_a_session_is_resumed_in_the_sandbox_that_is_there_still(options, tmp_path):
    client = SbxSandboxClient()
    session = await client.create(options=options, snapshot=LocalSnapshotSpec(base_path=tmp_path))
    await session.start()
    await run(session, "echo kept > /tmp/outside; echo kept > file")
    again = await client.resume(client.deserialize_session_state(client.serialize_session_state(session.state)))
    async with again:
        assert again.state.sandbox_id == session.state.sandbox_id
        assert await run(again, "cat /tmp/outside file") == b"kept\nkept\n"
    await client.delete(again)
    assert not await session.running()


async def test_directories_of_the_host_are_granted(options, tmp_path):
    (tmp_path / "given").write_text("given\n")
    tmp_path.chmod(0o755)
    client = SbxSandboxClient()
    grant = SandboxPathGrant(path="/granted", host_path=str(tmp_path), read_only=True)
    session = await client.create(options=options, manifest=Manifest(extra_path_grants=(grant,)))
    async with session:
        assert (await session.read(Path("/granted/given"))).read() == b"given\n"
        assert not (await session.exec("touch /granted/x", user="root")).ok()
    await client.delete(session)


async def test_an_agent_works_in_it(options):
    """A whole run of the SDK, with a model that follows a script."""
    from agents import ModelResponse, Runner, RunConfig
    from agents.models.interface import Model
    from agents.run_config import SandboxRunConfig
    from agents.sandbox import SandboxAgent
    from agents.usage import Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class Scripted(Model):
        def __init__(self):
            self.seen = []

        async def get_response(self, system_instructions, input, *rest, **others):
            self.seen.append(input)
            if len(self.seen) == 1:
                call = ResponseFunctionToolCall(
                    arguments=json.dumps({"cmd": "echo $((40+2)) > answer; cat answer"}), call_id="1", name="exec_command",
                    type="function_call",
                )  # fmt: skip
                return ModelResponse(output=[call], usage=Usage(), response_id=None)
            text = ResponseOutputText(annotations=[], text="done", type="output_text")
            said = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
            return ModelResponse(output=[said], usage=Usage(), response_id=None)

        def stream_response(self, *_, **__):
            raise NotImplementedError

    model = Scripted()
    agent = SandboxAgent(name="agent", model=model, instructions="work")
    config = RunConfig(sandbox=SandboxRunConfig(client=SbxSandboxClient(), options=options), tracing_disabled=True)
    result = await Runner.run(agent, "what is it?", run_config=config)
    assert result.final_output == "done"
    assert "42" in json.dumps(model.seen[1], default=str)
