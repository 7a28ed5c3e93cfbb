"""What programs read."""

from __future__ import annotations

import functools
import select
import socket
import weakref

from ..hub import Hub
from ..waiting import both, new_future, settle, until


class StreamWriter:
    """What a program reads: write() and write_eof() collect, drain() sends."""

    def __init__(self, hub: Hub, fd: int, terminal: bool = False) -> None:
        self._hub, self._terminal = hub, terminal
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        weakref.finalize(self, self._socket.close)
        self._unsent, self._eof = bytearray(), False

    def write(self, data: str | bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise ValueError("Stdin is closed. Cannot write to it.")
        self._unsent += data.encode() if isinstance(data, str) else data

    def write_eof(self) -> None:
        if self._terminal and not self._eof:
            self._unsent += b"\x04"  # Ctrl-D; the end of the stream would hang up
        self._eof = True

    @both
    async def drain(self) -> None:
        """Sends what was written; waits while the program doesn't read. BrokenPipeError if it never will."""
        self._hub.check()
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
                del self._unsent[:sent]
            except BlockingIOError:
                writable = new_future()
                self._hub.watch(self._socket.fileno(), select.EPOLLOUT, functools.partial(settle, writable))
                try:
                    await until(writable)
                finally:
                    self._hub.unwatch(self._socket.fileno())
        if self._eof and not self._terminal and self._socket.fileno() >= 0:
            # A forked child may have a copy: closing ours alone would not end the stream.
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.close()
