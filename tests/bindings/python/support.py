"""What the tests of the Python package share. It is found in examples/python, the library where the system looks."""

import asyncio
import collections
import contextlib
import os
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

top = Path(os.environ.get("CARGO_MANIFEST_DIR") or Path(__file__).resolve().parents[3])
examples = top / "examples" / "python"
sys.path.insert(0, str(examples))

import libsbx as sbx  # noqa: E402
from libsbx.hub import the_hub  # noqa: E402

__all__ = [
    "eventually", "examples", "held_hub", "is_open", "most_at_once", "opened", "python", "sbx", "serve", "top",
    "unittest",
]  # fmt: skip


def python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Another Python, which finds the package; an empty variable is unset."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(examples), os.environ.get("PYTHONPATH", "")])}
    variables.update(environment)
    variables = {name: value for name, value in variables.items() if value}
    return subprocess.run(
        [sys.executable, "-B", *arguments], env=variables, capture_output=True, text=True, timeout=120
    )


def serve(**settings: object) -> "sbx.Sandbox":
    """A sandbox with a web server on port 8000, ready."""
    sandbox = sbx.Sandbox.create("python3", "-m", "http.server", "8000", **settings)
    sandbox.wait_until_ready()
    return sandbox


def eventually(condition: "collections.abc.Callable[[], object]") -> None:
    """Waits for what another thread or a sandbox brings about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


async def most_at_once(pieces: "collections.abc.AsyncIterator[object]", count: float = float("inf")) -> int:
    """How many of so many pieces came, at most, without a turn for another task of the event loop."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    heart = asyncio.ensure_future(beat())
    seen: "collections.Counter[int]" = collections.Counter()
    async for _ in pieces:
        seen[beats] += 1
        count -= 1
        if count <= 0:
            break
    heart.cancel()
    return max(seen.values())


@contextlib.contextmanager
def held_hub() -> "collections.abc.Iterator[None]":
    """The package's thread does nothing meanwhile."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait()

    the_hub().soon(hold)
    held.wait()
    try:
        yield
    finally:
        go_on.set()


def opened(fd: int) -> str:
    """What a descriptor leads to, whatever its number comes to stand for."""
    return os.readlink(f"/proc/self/fd/{fd}")


def is_open(what: str) -> bool:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if opened(int(fd)) == what:
                return True
    return False
