"""What programs write and read."""

from __future__ import annotations

import codecs
import collections
import enum
import functools
import os
import select
import socket
import subprocess
import threading
import weakref
from typing import Any

from .hub import Hub
from .waiting import Bell, Stream, T, both, new_future, settle, until

MOST_UNREAD = 16 << 20


class StreamType(enum.Enum):
    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL
    STDOUT = subprocess.STDOUT


class StreamReader(Stream[T]):
    """What a program writes. Iterating gives it as it comes (line by line, where that was asked for); read() waits for
    its end.

    A program never waits for a reader that isn't there: until somebody begins to read, the last 16 MiB are kept, and
    `lost` counts the bytes before them. From then on nothing is lost, and a program that is too fast waits.
    """

    def __init__(self, hub: Hub, fd: int, text: bool = True, by_line: bool = False) -> None:
        self.lost = 0
        self._hub, self._fd = hub, fd
        self._by_line = by_line and text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None
        self._rest, self._finished = "", False
        self._pieces: collections.deque[Any] = collections.deque()
        # What follows is shared with the hub's thread.
        self._lock, self._more, self._unread = threading.Lock(), Bell(), bytearray()
        self._reading = self._paused = False
        self._eof = fd < 0
        if fd >= 0:
            hub.watch(fd, select.EPOLLIN, self._readable)

    @both
    async def read(self) -> T:
        """Everything from here to the end of the stream."""
        pieces: list[Any] = [piece async for piece in self]
        return ("" if self._decoder else b"").join(pieces)  # type: ignore[return-value]

    async def _next(self) -> T | None:
        while not self._pieces and not self._finished:
            data = await self._some()
            self._finished = not data
            piece: Any = self._decoder.decode(data, self._finished) if self._decoder else data
            if self._by_line:
                *lines, self._rest = (self._rest + piece).split("\n")
                self._pieces.extend(line + "\n" for line in lines)
                piece, self._rest = (self._rest, "") if self._finished else ("", self._rest)
            if piece:
                self._pieces.append(piece)
        return self._pieces.popleft() if self._pieces else None

    async def _some(self) -> bytes:
        while True:
            self._hub.check()
            with self._lock:
                self._reading, coming = True, self._more.coming
                if self._unread or self._eof:
                    data = bytes(self._unread)
                    self._unread.clear()
                    if self._paused:
                        self._paused = False
                        self._hub.watch(self._fd, select.EPOLLIN, self._readable)
                    return data
            await until(coming)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self._lock:
            self._unread += data
            surplus = len(self._unread) - MOST_UNREAD
            if not data:
                self._eof = True
                self._hub.unwatch(self._fd)
                os.close(self._fd)
            elif surplus > 0 and self._reading:
                self._paused = True
                self._hub.unwatch(self._fd)
            elif surplus > 0:
                self.lost += surplus
                del self._unread[:surplus]
            self._more.ring()


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
