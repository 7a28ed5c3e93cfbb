"""A sandbox client for the OpenAI Agents SDK: gVisor sandboxes of this process.

    from libsbx_openai_agents import SbxSandboxClient, SbxSandboxClientOptions

    session = await SbxSandboxClient().create(options=SbxSandboxClientOptions(image="python:3.12"))
    async with session:
        print((await session.exec("python3", "--version")).stdout)
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import io
import tempfile
import time
import uuid
from pathlib import Path
from signal import SIGKILL
from typing import Any, Literal, Mapping, NoReturn, Sequence

import libsbx
from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
    WorkspaceStartError,
    WorkspaceWriteTypeError,
)
from agents.sandbox.manifest import Manifest
from agents.sandbox.session import Dependencies, Instrumentation, SandboxSession, SandboxSessionState
from agents.sandbox.session.base_sandbox_session import BaseSandboxSession
from agents.sandbox.session.pty_types import (
    PTY_PROCESSES_MAX,
    PtyExecUpdate,
    allocate_pty_process_id,
    clamp_pty_yield_time_ms,
    resolve_pty_write_yield_time_ms,
    truncate_text_by_tokens,
)
from agents.sandbox.session.sandbox_client import BaseSandboxClient, BaseSandboxClientOptions
from agents.sandbox.snapshot import SnapshotBase, SnapshotSpec, resolve_snapshot
from agents.sandbox.types import ExecResult, ExposedPortEndpoint, User

__all__ = ["SbxSandboxClient", "SbxSandboxClientOptions", "SbxSandboxSession", "SbxSandboxSessionState"]

_SNAPSHOT = b"libsbx image\n"
_MOST_READ = 1 << 30
_MOST_ARCHIVED = 16 << 30
# Of what a program with a session of its own writes, for one answer. The program waits until the rest is asked for.
_MOST_ANSWERED = 1 << 20
_KEPT = libsbx.Capture(16 << 20, 16 << 20)


class SbxSandboxClientOptions(BaseSandboxClientOptions):
    """What a session's sandbox is. Without an image it shows the host's programs, read-only.

    image: reference of a registry, such as "python:3.12"
    image_name: name of an image in libsbx's store
    image_path: archive of `docker save`, OCI layout, or root file system
    user: in place of the image's
    env: for all commands; the manifest's environment comes before it
    memory, cpu, max_processes: limits, in MiB and processors
    timeout: seconds after which the sandbox is ended
    exposed_ports: reached at ports of 127.0.0.1
    allow_domains, allow_cidrs: what the sandbox may reach; nothing if both are empty, everything with `allow_all`
    workspace_persistence: "tar" keeps the workspace; "snapshot" keeps the root file system, where there is an image
    """

    type: Literal["libsbx"] = "libsbx"
    image: str | None = None
    image_name: str | None = None
    image_path: str | None = None
    user: str | None = None
    env: dict[str, str] = {}
    memory: int | None = None
    cpu: float | None = None
    max_processes: int | None = None
    timeout: int = 3600
    exposed_ports: tuple[int, ...] = ()
    allow_domains: tuple[str, ...] = ()
    allow_cidrs: tuple[str, ...] = ()
    allow_all: bool = False
    workspace_persistence: Literal["tar", "snapshot"] = "tar"

    def _image(self) -> libsbx.Image | None:
        if self.image is not None:
            return libsbx.Image.from_registry(self.image)
        if self.image_name is not None:
            return libsbx.Image.from_name(self.image_name)
        return None if self.image_path is None else libsbx.Image.from_path(self.image_path)

    def _network(self) -> dict[str, Any]:
        if self.allow_all:
            return {}
        if not (self.allow_domains or self.allow_cidrs or self.exposed_ports):
            return dict(block_network=True)
        domains, cidrs = list(self.allow_domains), list(self.allow_cidrs)
        return dict(outbound_domain_allowlist=domains, outbound_cidr_allowlist=cidrs)


class SbxSandboxSessionState(SandboxSessionState):
    type: Literal["libsbx"] = "libsbx"
    options: SbxSandboxClientOptions
    sandbox_id: str = ""
    sandbox_user: str | None = None


class SbxSandboxSession(BaseSandboxSession):
    state: SbxSandboxSessionState

    def __init__(self, state: SbxSandboxSessionState) -> None:
        self.state = state
        self._sandbox: libsbx.Sandbox | None = None
        self._in_workspace = False
        self._programs: dict[int, _Program] = {}

    @property
    def sandbox(self) -> libsbx.Sandbox:
        if self._sandbox is None:
            raise RuntimeError("the session's sandbox was not started")
        return self._sandbox

    async def _open(self, image: libsbx.Image | None) -> None:
        """Starts a sandbox for it, from `image` or from the options' image."""
        options = self.state.options
        made: dict[str, Any] = dict(timeout=options.timeout, memory=options.memory, cpu=options.cpu)
        made.update(max_processes=options.max_processes, user=options.user, image=image or options._image())
        made.update(options._network(), unencrypted_ports=options.exposed_ports)
        for kind, read_only in (("mounts", True), ("writable_mounts", False)):
            grants = [each for each in self.state.manifest.extra_path_grants if each.read_only == read_only]
            made[kind] = {each.path: each.host_path for each in grants if each.host_path is not None}
        said: Mapping[str, Any] = {}
        if made["image"] is not None:
            await made["image"].pull.aio()
            said = made["image"].config.get("config") or {}
            if said.get("Entrypoint") or said.get("Cmd"):
                # In place of the image's own program; without one the sandbox waits for commands by itself.
                made["entrypoint"] = ["sleep", "infinity"]
        self._sandbox = await libsbx.Sandbox.create.aio(**made)
        self.state.sandbox_id = self._sandbox.object_id
        self.state.sandbox_user = options.user or said.get("User") or None
        self._in_workspace = False

    async def _reopen(self) -> bool:
        """Takes up the sandbox that the state names, if it is a live one of this process; if not, makes another."""
        try:
            self._sandbox = libsbx.Sandbox.from_id(self.state.sandbox_id)
            return True
        except libsbx.exception.NotFoundError:
            self.state.workspace_root_ready = False
            await self._open(None)
            return False

    async def _prepare_backend_workspace(self) -> None:
        root = self.state.manifest.root
        try:
            await self.sandbox.filesystem.make_directory.aio(root, create_parents=True)
            if self.state.sandbox_user and not self._workspace_state_preserved_on_start():
                owned = await self._run("chown", self.state.sandbox_user, root, user="root")
                if not owned.ok():
                    raise WorkspaceStartError(path=Path(root), context={"stderr": owned.stderr.decode(errors="replace")})
        except (libsbx.Error, OSError) as error:
            raise WorkspaceStartError(path=Path(root), cause=error) from error
        self._in_workspace = True

    async def _validate_path_access(self, path: Path | str, *, for_write: bool = False) -> Path:
        return await self._validate_remote_path_access(path, for_write=for_write)

    def _current_runtime_helper_cache_key(self) -> object:
        return self.state.sandbox_id

    async def running(self) -> bool:
        return self._sandbox is not None and self._sandbox.returncode is None

    async def _shutdown_backend(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.close.aio()

    async def _exec_internal(self, *command: str | Path, timeout: float | None = None) -> ExecResult:
        argv, user = _without_sudo(command)
        try:
            return await self._run(*argv, user=user, timeout=timeout)
        except libsbx.Error as error:
            raise ExecTransportError(command=command, cause=error) from error

    async def _start(self, argv: Sequence[str], user: str | None, timeout: float | None, **streams: Any) -> Any:
        env = {**self.state.options.env, **await self.state.manifest.environment.resolve()}
        place = self.state.manifest.root if self._in_workspace else None
        seconds = None if timeout is None else max(timeout, 0.001)
        return await self.sandbox.exec.aio(*argv, user=user, timeout=seconds, env=env, workdir=place, **streams)

    async def _run(self, *argv: str, user: str | None = None, timeout: float | None = None) -> ExecResult:
        try:
            process = await self._start(argv, user, timeout, stdout=_KEPT, stderr=_KEPT)
        except libsbx.exception.ExecutionError as error:
            # As a shell has it: 127 is what isn't there.
            code = 127 if error.os_error == errno.ENOENT else 126
            return ExecResult(stdout=b"", stderr=error.message.encode(), exit_code=code)
        with _killed_unless_it_ends(process):
            process.stdin.write_eof()
            await process.stdin.drain.aio()
            code = await process.wait.aio()
        if process.exit_reason == "timedOut":
            raise ExecTimeoutError(command=argv, timeout_s=timeout)
        out, err = (_bytes(process.captured(name)) for name in ("stdout", "stderr"))
        return ExecResult(stdout=out, stderr=err, exit_code=code)

    async def _resolve_exposed_port(self, port: int) -> ExposedPortEndpoint:
        try:
            tunnel = (await self.sandbox.tunnels.aio())[port]
        except (libsbx.Error, KeyError) as error:
            known, context = self.state.exposed_ports, {"backend": "libsbx"}
            raise ExposedPortUnavailableError(
                port=port, exposed_ports=known, reason="backend_unavailable", context=context, cause=error
            ) from error
        return ExposedPortEndpoint(host=tunnel.host, port=tunnel.port, tls=False)

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        place = (await self._validate_path_access(path)).as_posix()
        try:
            data = await self.sandbox.filesystem.read_bytes.aio(place, limit=_MOST_READ, user=self._named(user))
        except FileNotFoundError as error:
            raise WorkspaceReadNotFoundError(path=Path(path), cause=error) from error
        except (libsbx.Error, OSError) as error:
            raise WorkspaceArchiveReadError(path=Path(path), cause=error) from error
        return io.BytesIO(data)

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        payload = data.read()
        if isinstance(payload, str):
            payload = payload.encode()
        if not isinstance(payload, (bytes, bytearray)):
            raise WorkspaceWriteTypeError(path=Path(path), actual_type=type(payload).__name__)
        place = await self._validate_path_access(path, for_write=True)
        try:
            await self.sandbox.filesystem.write_bytes.aio(payload, place.as_posix(), user=self._named(user))
        except (libsbx.Error, OSError) as error:
            raise WorkspaceArchiveWriteError(path=place, cause=error) from error

    def _named(self, user: str | User | None) -> str | None:
        return (user.name if isinstance(user, User) else user) or self.state.sandbox_user

    # The workspace, kept and restored.

    async def persist_workspace(self) -> io.IOBase:
        skipped = sorted(path.as_posix() for path in self._persist_workspace_skip_relpaths())
        if self.state.options.workspace_persistence == "snapshot" and not skipped and self._has_image():
            try:
                await self.sandbox.snapshot_filesystem.aio(timeout=600, tag=self._snapshot_name())
            except libsbx.Error as error:
                raise WorkspaceArchiveReadError(path=self._workspace_root_path(), cause=error) from error
            return io.BytesIO(_SNAPSHOT + self._snapshot_name().encode())
        archive = tempfile.TemporaryFile()
        try:
            await self._archive([f"--exclude=./{path}" for path in skipped], archive)
            archive.seek(0)
            # The sandbox's own tar wrote it, which may be any program: it must not name an image for resume().
            if archive.read(len(_SNAPSHOT)) == _SNAPSHOT:
                context = {"detail": "the sandbox's tar wrote no archive"}
                raise WorkspaceArchiveReadError(path=self._workspace_root_path(), context=context)
            archive.seek(0)
        except BaseException:
            archive.close()
            raise
        return archive  # type: ignore[return-value]

    async def _archive(self, excluded: Sequence[str], archive: Any) -> None:
        root = self._workspace_root_path()

        def failed(why: object) -> NoReturn:
            cause = why if isinstance(why, BaseException) else None
            raise WorkspaceArchiveReadError(path=root, context={"detail": str(why)}, cause=cause) from cause

        try:
            argv = ["tar", *excluded, "-C", root.as_posix(), "-cf", "-", "."]
            process = await self._start(argv, None, None, stderr=libsbx.Capture(), text=False)
            with _killed_unless_it_ends(process):
                async for piece in process.stdout:
                    archive.write(piece)
                    if archive.tell() > _MOST_ARCHIVED:
                        failed(f"the workspace has more than {_MOST_ARCHIVED} bytes")
                code = await process.wait.aio()
        except libsbx.Error as error:
            failed(error)
        if code != 0:
            failed(process.captured("stderr").text)

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        root = self._workspace_root_path()

        def failed(why: object) -> NoReturn:
            cause = why if isinstance(why, BaseException) else None
            raise WorkspaceArchiveWriteError(path=root, context={"detail": str(why)}, cause=cause) from cause

        first = data.read(1 << 20)
        try:
            if first.startswith(_SNAPSHOT):
                name = self._snapshot_name()
                if self.state.options.workspace_persistence != "snapshot" or first != _SNAPSHOT + name.encode():
                    failed("it names an image that is not this session's snapshot")
                image = libsbx.Image.from_name(name)
                await self.sandbox.close.aio()
                await self._open(image)
                self._in_workspace = True
                return
            await self.sandbox.filesystem.make_directory.aio(root.as_posix(), create_parents=True)
            argv = ["tar", "-C", root.as_posix(), "-xf", "-"]
            process = await self._start(argv, None, None, stdout=libsbx.StreamType.DEVNULL, stderr=libsbx.Capture())
            with _killed_unless_it_ends(process):
                # That it ends before it has read all is its code's to tell.
                with contextlib.suppress(BrokenPipeError):
                    while first:
                        process.stdin.write(first)
                        await process.stdin.drain.aio()
                        first = data.read(1 << 20)
                    process.stdin.write_eof()
                    await process.stdin.drain.aio()
                code = await process.wait.aio()
        except libsbx.Error as error:
            failed(error)
        if code != 0:
            failed(process.captured("stderr").text)

    def _snapshot_name(self) -> str:
        return f"openai-agents:{self.state.session_id.hex}"

    def _has_image(self) -> bool:
        options = self.state.options
        return not options.image is options.image_name is options.image_path is None

    # Programs with which one goes on talking.

    def supports_pty(self) -> bool:
        return True

    async def pty_exec_start(
        self, *command: str | Path, timeout: float | None = None, shell: bool | list[str] = True,
        user: str | User | None = None, tty: bool = False, yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:  # fmt: skip
        argv, name = _without_sudo(self._prepare_exec_command(*command, shell=shell, user=user))
        if len(self._programs) >= PTY_PROCESSES_MAX:
            await self._programs.pop(min(self._programs, key=lambda each: self._programs[each].used)).end()
        try:
            process = await self._start(argv, name, timeout, stderr=libsbx.StreamType.STDOUT, text=False, pty=tty)
        except libsbx.Error as error:
            raise ExecTransportError(command=command, cause=error) from error
        number, program = allocate_pty_process_id(set(self._programs)), _Program(process, tty)
        self._programs[number] = program
        if not tty:
            process.stdin.write_eof()
            with contextlib.suppress(OSError):  # it has ended, as the answer says
                await process.stdin.drain.aio()
        milliseconds = clamp_pty_yield_time_ms(10_000 if yield_time_s is None else int(yield_time_s * 1000))
        return await self._answer(number, program, milliseconds, max_output_tokens)

    async def pty_write_stdin(
        self, *, session_id: int, chars: str, yield_time_s: float | None = None, max_output_tokens: int | None = None
    ) -> PtyExecUpdate:
        program = self._resolve_pty_session_entry(pty_processes=self._programs, session_id=session_id)
        if chars:
            if not program.tty:
                raise RuntimeError("stdin is not available for this process")
            with contextlib.suppress(OSError):  # it has ended, as the answer says
                program.process.stdin.write(chars)
                await program.process.stdin.drain.aio()
        milliseconds = 250 if yield_time_s is None else int(yield_time_s * 1000)
        milliseconds = resolve_pty_write_yield_time_ms(yield_time_ms=milliseconds, input_empty=not chars)
        return await self._answer(session_id, program, milliseconds, max_output_tokens)

    async def _answer(self, number: int, program: _Program, milliseconds: int, most: int | None) -> PtyExecUpdate:
        text = await program.output(milliseconds / 1000)
        if program.code is not None:
            self._programs.pop(number, None)
        cut, tokens = truncate_text_by_tokens(text, most)
        return PtyExecUpdate(
            process_id=number if program.code is None else None, output=cut.encode(), exit_code=program.code,
            original_token_count=tokens,
        )  # fmt: skip

    async def pty_terminate_all(self) -> None:
        programs, self._programs = self._programs, {}
        for program in programs.values():
            await program.end()


class _Program:
    """A program whose output is asked for bit by bit."""

    def __init__(self, process: libsbx.ContainerProcess, tty: bool) -> None:
        self.process, self.tty, self.used, self.code = process, tty, time.monotonic(), None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._coming: asyncio.Task[bytes] | None = None
        self._ended: asyncio.Task[int] = asyncio.ensure_future(process.wait.aio())

    async def output(self, seconds: float) -> str:
        """What it writes until then, or until its end."""
        self.used = time.monotonic()
        end, text, length = self.used + seconds, list[str](), 0
        while self.code is None and length < _MOST_ANSWERED:
            if self._coming is None:
                self._coming = asyncio.ensure_future(anext(self.process.stdout, b""))
            await asyncio.wait({self._coming, self._ended}, timeout=end - time.monotonic(), return_when="FIRST_COMPLETED")
            if self._ended.done() and not self._coming.done():
                # What it has left behind may hold its output open.
                await asyncio.wait({self._coming}, timeout=0.2)
            if self._coming.done():
                piece, self._coming = self._coming.result(), None
                text.append(self._decoder.decode(piece, not piece))
                length += len(piece)
                if not piece:
                    self.code = await self._ended
            elif self._ended.done():
                self.code = self._ended.result()
            elif time.monotonic() >= end:
                break
        return "".join(text)

    async def end(self) -> None:
        with contextlib.suppress(libsbx.Error):
            self.process.send_signal(SIGKILL)
        await self._ended
        if self._coming is not None:
            self._coming.cancel()


class SbxSandboxClient(BaseSandboxClient[SbxSandboxClientOptions]):
    backend_id = "libsbx"
    supports_default_options = True

    def __init__(
        self, *, instrumentation: Instrumentation | None = None, dependencies: Dependencies | None = None
    ) -> None:
        self._instrumentation = instrumentation or Instrumentation()
        self._dependencies = dependencies

    async def create(
        self, *, snapshot: SnapshotSpec | SnapshotBase | None = None, manifest: Manifest | None = None,
        options: SbxSandboxClientOptions | None = None,
    ) -> SandboxSession:  # fmt: skip
        manifest, options = manifest or Manifest(), options or SbxSandboxClientOptions()
        self._validate_manifest_for_create(manifest)
        number = uuid.uuid4()
        state = SbxSandboxSessionState(
            session_id=number, manifest=manifest, snapshot=resolve_snapshot(snapshot, str(number)), options=options,
            exposed_ports=options.exposed_ports,
        )  # fmt: skip
        inner = SbxSandboxSession(state)
        await inner._open(None)
        return self._wrap_session(inner, instrumentation=self._instrumentation)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """Ends the sandbox. A snapshot stays, for resume()."""
        inner = session._inner
        if not isinstance(inner, SbxSandboxSession):
            raise TypeError("SbxSandboxClient.delete expects a session of SbxSandboxClient")
        await inner._shutdown_backend()
        return session

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Takes up the sandbox, if this process has it still; if not, makes one, which start() fills from the snapshot."""
        if not isinstance(state, SbxSandboxSessionState):
            raise TypeError("SbxSandboxClient.resume expects the state of a session of SbxSandboxClient")
        state.assert_path_grants_rebound()
        inner = SbxSandboxSession(state)
        is_there = await inner._reopen()
        inner._set_start_state_preserved(is_there)
        return self._wrap_session(inner, instrumentation=self._instrumentation)

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        return self._deserialize_session_state_payload(payload, SbxSandboxSessionState)


def _without_sudo(command: Sequence[str | Path]) -> tuple[list[str], str | None]:
    """The SDK asks for a user by `sudo -u USER --`, which exec() needn't have."""
    argv = [str(each) for each in command]
    if argv[:2] == ["sudo", "-u"] and argv[3:4] == ["--"]:
        return argv[4:], argv[2]
    return argv, None


def _bytes(captured: libsbx.Captured) -> bytes:
    note = f"\n[{captured.dropped} bytes dropped]\n".encode() if captured.dropped else b""
    return captured.head + note + captured.tail


@contextlib.contextmanager
def _killed_unless_it_ends(process: libsbx.ContainerProcess) -> Any:
    try:
        yield
    except BaseException:
        with contextlib.suppress(libsbx.Error):
            process.send_signal(SIGKILL)
        raise
