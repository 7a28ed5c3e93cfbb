"""What programs read."""

from __future__ import annotations

import errno
import socket
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from ..hub import Hub
from ..waiting import Part, both, settle, turn, until


class StreamWriter(Part):
    """What a program reads: write() and write_eof() collect, drain() sends."""

    def __init__(self, hub: Hub, fd: int, terminal: bool = False) -> None:
        self._hub, self._terminal = hub, terminal
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._close = weakref.finalize(self, hub.close, self._socket)
        self._lock = threading.Lock()  # for several that drain at once, in whatever threads
        self._unsent, self._eof = bytearray(), False
        self._writable: Future[Any] | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: str | bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise ValueError("Stdin is closed. Cannot write to it.")
        with self._lock:
            self._unsent += data.encode() if isinstance(data, str) else data

    def write_eof(self) -> None:
        if self._terminal and not self._eof:
            self.write(b"\x04")  # Ctrl-D; the end of the stream would hang up
        self._eof = True

    @both
    async def drain(self) -> None:
        """Sends what was written; waits while the program doesn't read. BrokenPipeError if it never will."""
        self._hub.check()
        while True:
            with self._lock:
                if not self._unsent:
                    break
                writable = self._send()
            await (turn() if writable is None else until(writable))
        with self._lock:
            if self._eof and not self._terminal and self._close.alive:
                # A forked child may have a copy: closing ours alone would not end the stream.
                self._socket.shutdown(socket.SHUT_WR)
                self._close()

    def _drop(self) -> None:
        """The program is gone."""
        with self._lock:
            self._close()
            if self._writable is not None:
                settle(self._writable)

    def _send(self) -> Future[Any] | None:
        """Sends some. If nothing goes now, returns what comes when something does, the same to all that wait."""
        if not self._close.alive:
            raise BrokenPipeError(errno.EPIPE, "the sandbox was closed")
        try:
            sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            del self._unsent[:sent]
            return None
        except BlockingIOError:
            if self._writable is None or self._writable.done():
                self._writable = self._hub.writable(self._socket.fileno())
            return self._writable
