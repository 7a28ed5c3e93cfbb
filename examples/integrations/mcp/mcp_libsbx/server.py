"""The tools: run, read, write, list, policy."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import Any, AsyncIterator

import libsbx as sbx
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

# A model reads what a tool answers: of an output both ends are kept, of a file the beginning is refused.
_OUTPUT = 16 * 1024
_FILE = 256 * 1024
_ENTRIES = 1000
_DENIALS = 20


class Ran(BaseModel):
    """How a program ended and what it wrote."""

    exit_code: int
    timed_out: bool
    stdout: str
    stderr: str


class Entry(BaseModel):
    """A file in a directory."""

    name: str
    kind: str
    size: int
    permissions: str


class Denied(BaseModel):
    """Something that the sandbox wanted to reach and was denied."""

    address: str
    port: int
    reason: str


class Policy(BaseModel):
    """What the sandbox may reach; domains over TLS only."""

    mode: str
    domains: list[str]
    cidrs: list[str]
    denied: list[Denied]


class _Box:
    """One sandbox, which begins with the first call that needs it. One that has ended is replaced by an empty one."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options, self._lock = options, asyncio.Lock()
        self._sandbox: sbx.Sandbox | None = None
        self._watching: asyncio.Task[None] | None = None
        self.denied: collections.deque[sbx.Denial] = collections.deque(maxlen=_DENIALS)

    async def get(self) -> sbx.Sandbox:
        async with self._lock:
            if self._sandbox is not None and self._sandbox.returncode is not None:
                why = self._sandbox.exit_reason
                await self.close()
                raise ToolError(f"the sandbox has ended ({why}) and its files are gone; the next call gets an empty one")
            if self._sandbox is None:
                self._sandbox = await sbx.Sandbox.create.aio(**self._options)
                self._watching = asyncio.ensure_future(self._watch(self._sandbox))
            return self._sandbox

    async def _watch(self, sandbox: sbx.Sandbox) -> None:
        async for denial in sandbox.denials:
            self.denied.append(denial)

    async def close(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if self._watching is not None:
            self._watching.cancel()
        if sandbox is not None:
            await sandbox.close.aio()


@contextlib.contextmanager
def _told() -> Any:
    """What the sandbox refuses is for the model to read."""
    try:
        yield
    except sbx.Error as error:
        raise ToolError(str(error)) from error


def serve(options: dict[str, Any], most_seconds: float) -> None:
    """Serves on stdin and stdout until the client closes them. `options` are arguments of Sandbox.create()."""
    box: _Box | None = None

    @contextlib.asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
        nonlocal box
        box = _Box(options)
        try:
            yield None
        finally:
            await box.close()

    def the_box() -> _Box:
        if box is None:
            raise ToolError("the server has not begun")
        return box

    server = MCPServer(
        "libsbx",
        lifespan=lifespan,
        instructions="Runs programs in a sandbox with files of its own, which last as long as this server.",
    )

    @server.tool()
    async def run(command: list[str], stdin: str = "", timeout: float = most_seconds, workdir: str | None = None) -> Ran:
        """Runs a program in the sandbox, such as ["python3", "-c", "print(1)"] or ["sh", "-c", "ls | wc -l"]."""
        with _told():
            sandbox = await the_box().get()
            kept = sbx.Capture(_OUTPUT, _OUTPUT)
            seconds = min(timeout, most_seconds)
            process = await sandbox.exec.aio(*command, stdout=kept, stderr=kept, timeout=seconds, workdir=workdir)
            feeding = asyncio.ensure_future(_feed(process, stdin))
            try:
                code = await process.wait.aio()
            except BaseException:
                with contextlib.suppress(sbx.Error):
                    process.send_signal(9)
                raise
            finally:
                feeding.cancel()
            late = process.exit_reason == "timedOut"
            return Ran(
                exit_code=code, timed_out=late, stdout=process.captured().text, stderr=process.captured("stderr").text
            )

    @server.tool()
    async def read(path: str) -> str:
        """Reads a text file of the sandbox, of up to 256 KiB."""
        with _told():
            sandbox = await the_box().get()
            data = await sandbox.filesystem.read_bytes.aio(path, limit=_FILE)
        return data.decode("utf-8", "replace")

    @server.tool()
    async def write(path: str, text: str) -> str:
        """Writes a text file of the sandbox, in place of what is there; directories above it are made."""
        with _told():
            await (await the_box().get()).filesystem.write_text.aio(text, path)
        return f"wrote {len(text.encode())} bytes to {path}"

    @server.tool(name="list")
    async def list_files(path: str = "/") -> list[Entry]:
        """Lists a directory of the sandbox, of up to 1,000 entries."""
        with _told():
            found = await (await the_box().get()).filesystem.list_files.aio(path, limit=_ENTRIES)
        return [
            Entry(name=each.name, kind=each.type.value, size=each.size, permissions=each.permissions)
            for each in sorted(found, key=lambda each: each.name)
        ]

    @server.tool()
    async def policy() -> Policy:
        """Tells what the sandbox may reach, and what it was denied last. It can't be changed from here."""
        held = the_box()
        if options.get("block_network"):
            return Policy(mode="blocked", domains=[], cidrs=[], denied=[])
        with _told():
            found = await (await held.get()).get_network_policy.aio()
        denied = [Denied(address=str(each.address), port=each.port, reason=each.reason.name) for each in held.denied]
        return Policy(
            mode=found.mode,
            domains=list(found.outbound_domain_allowlist),
            cidrs=list(found.outbound_cidr_allowlist),
            denied=denied,
        )

    server.run("stdio")


async def _feed(process: sbx.ContainerProcess, text: str) -> None:
    # A program needn't read what it is given, and may have ended.
    with contextlib.suppress(OSError, sbx.Error):
        process.stdin.write(text)
        process.stdin.write_eof()
        await process.stdin.drain.aio()
