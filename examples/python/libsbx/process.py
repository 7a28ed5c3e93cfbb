"""Programs in a running sandbox."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Sequence

from . import native
from .arguments import port, refuse, signal_number
from .exception import InvalidError
from .hub import Life
from .native import call, library
from .streams import Captured, StreamReader, StreamWriter, read_captured
from .waiting import both, until

if TYPE_CHECKING:
    from .sandbox import Sandbox


class ContainerProcess:
    """A program started by Sandbox.exec(). It runs on if this object is lost. The sandbox isn't lost as long as this
    object or one of its streams is there."""

    def __init__(
        self, sandbox: Sandbox, life: Life, modes: Sequence[int | None], terminal: bool, text: bool, by_line: bool
    ) -> None:  # fmt: skip
        hub, self._life, self._sandbox = sandbox._hub, life, sandbox
        weakref.finalize(self, library.sbx_process_free, life.handle)

        def opened(stream: int) -> int:
            if terminal:
                return os.dup(self.stdin.fileno()) if stream == 1 else -1
            return call("process_open_fd", life.handle, stream) if modes[stream] == native.STREAM_DESCRIPTOR else -1

        # Each has its owner before the next one is opened, which may fail.
        shared = call("process_open_fd", life.handle, native.TERMINAL if terminal else 0)
        self.stdin = StreamWriter(hub, shared, terminal)
        refusal = "this output is captured: ContainerProcess.captured() has it"
        why = ["" if mode is not None or terminal else refusal for mode in modes]
        self.stdout: StreamReader[Any] = StreamReader(hub, opened(1), text, by_line, why[1])
        self.stderr: StreamReader[Any] = StreamReader(hub, opened(2), text, by_line, why[2])
        for part in (self.stdin, self.stdout, self.stderr):
            part._whole = sandbox  # which refers to none of them

    @both
    async def wait(self) -> int:
        """Waits for the program's end and returns its code; -1 if its time ran out."""
        await until(self._life.exited)
        return self.returncode

    @both
    async def poll(self) -> int | None:
        """The code, or None while the program runs."""
        return self.returncode if self._life.exited.done() else None

    @property
    def returncode(self) -> int:
        if not self._life.exited.done():
            raise InvalidError("You must call wait() before accessing the returncode; poll() tells whether it runs.")
        code, reason = self._life.exited.result()
        return -1 if reason == native.EXIT_TIMED_OUT else code

    @property
    def exit_reason(self) -> str | None:
        """Why the program ended, as Sandbox.exit_reason: "timedOut" is its own time. None while it runs."""
        return self._life.reason

    def captured(self, stream: str = "stdout") -> Captured:
        """What was captured so far of an output that exec() was given a Capture for; after wait(), all of it."""
        if stream not in ("stdout", "stderr"):
            refuse("stream", "'stdout' or 'stderr'", stream)
        return read_captured(self._life.handle, 1 if stream == "stdout" else 2)

    def send_signal(self, signal: int) -> None:
        """Sends the program, and what it has started, a signal."""
        call("process_signal", self._life.handle, signal_number(signal))

    def resize(self, rows: int, columns: int) -> None:
        """Gives the program's terminal another size."""
        call("process_resize", self._life.handle, port("rows", rows), port("columns", columns))
