"""What programs write."""

from __future__ import annotations

import codecs
import collections
import functools
import io
import os
import select
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from ..exception import InvalidError
from ..hub import Hub
from ..waiting import Bell, Stream, T, both, turn, until

MOST_UNREAD, MOST_TAKEN, MOST_LINE = 16 << 20, 64 << 10, 1 << 20


class Source:
    """A descriptor that the hub's thread reads, and closes at its end. It holds no reader: when that is lost, what the
    program writes is thrown away, and the program goes on."""

    def __init__(self, hub: Hub, fd: int) -> None:
        self.lost = 0
        self._hub, self._fd = hub, fd
        # What follows is shared with the hub's thread.
        self._lock, self._more, self._unread, self._most = threading.Lock(), Bell(), bytearray(), MOST_UNREAD
        self._reading = self._paused = False
        self._eof = fd < 0
        if fd >= 0:
            try:
                self._resume()
            except BaseException:
                os.close(fd)
                raise

    def take(self) -> bytes | Future[Any]:
        """Some of what was written, nothing at its end; or what to wait for."""
        with self._lock:
            self._reading = True
            if not self._unread and not self._eof:
                return self._more.coming
            data = bytes(self._unread[:MOST_TAKEN])
            del self._unread[:MOST_TAKEN]
            if self._paused and len(self._unread) < MOST_UNREAD // 2:
                self._resume()
            return data

    def finish(self, most: int) -> None:
        """Nobody holds the program up any more: the rest is read as it comes, and at most so much of it kept."""
        with self._lock:
            self._reading, self._most = False, most
            self._trim()
            if self._paused:
                self._resume()

    def _resume(self) -> None:
        self._hub.watch(self._fd, select.EPOLLIN, self._readable)
        self._paused = False

    def _trim(self) -> None:
        surplus = max(0, len(self._unread) - self._most)
        self.lost += surplus
        del self._unread[:surplus]

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self._lock:
            self._unread += data
            if not data:
                self._eof = True
                self._hub.unwatch(self._fd)
                os.close(self._fd)
            elif not self._reading:
                self._trim()
            elif len(self._unread) > self._most:
                self._paused = True
                self._hub.unwatch(self._fd)
            self._more.ring()


class StreamReader(Stream[T]):
    """What a program writes. Iterating gives it as it comes (line by line, where that was asked for: a line of more
    than 1 MiB in parts, of which only the last ends in a newline); read() waits for its end.

    A program never waits for a reader that isn't there: until somebody begins to read, the last 16 MiB are kept, and
    `lost` counts the bytes before them. From then on nothing is lost, and a program that is too fast waits. If this
    object is lost, so is what the program writes.
    """

    def __init__(self, hub: Hub, fd: int, text: bool = True, by_line: bool = False, refusal: str = "") -> None:
        self._refusal = refusal  # why there is nothing to read, if that is an error
        self._hub, self._source = hub, Source(hub, fd)
        weakref.finalize(self, hub.soon, functools.partial(self._source.finish, 0)).atexit = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None
        self._by_line, self._line = by_line and text, io.StringIO()  # of the line that has begun
        self._pieces: collections.deque[Any] = collections.deque()
        self._finished = False

    @property
    def lost(self) -> int:
        return self._source.lost

    @both
    async def read(self) -> T:
        """Everything from here to the end of the stream."""
        pieces: list[Any] = [piece async for piece in self]
        return ("" if self._decoder else b"").join(pieces)  # type: ignore[return-value]

    def _drop(self) -> None:
        """The program is gone: takes what there is left, so that no descriptor stays open for a reader that stopped."""
        self._source.finish(2 * MOST_UNREAD)

    async def _next(self) -> T | None:
        if self._refusal:
            raise InvalidError(self._refusal)
        while not self._pieces and not self._finished:
            data = await self._some()
            self._finished = not data
            piece: Any = self._decoder.decode(data, self._finished) if self._decoder else data
            if self._by_line:
                self._split(piece)
            elif piece:
                self._pieces.append(piece)
        return self._pieces.popleft() if self._pieces else None

    async def _some(self) -> bytes:
        await turn()  # before anything is taken, which would be lost if this were cancelled
        while True:
            self._hub.check()
            found = self._source.take()
            if isinstance(found, bytes):
                return found
            await until(found)

    def _split(self, piece: str) -> None:
        *ended, rest = piece.split("\n")
        if ended:
            self._line.write(ended[0])
            ended[0] = self._line.getvalue()
            self._pieces.extend(line + "\n" for line in ended)
            self._line = io.StringIO()
        self._line.write(rest)
        if self._line.tell() >= (1 if self._finished else MOST_LINE):
            self._pieces.append(self._line.getvalue())
            self._line = io.StringIO()
