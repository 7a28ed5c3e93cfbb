"""Files of a sandbox in Modal's old form: Sandbox.open()."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ..arguments import refuse
from ..exception import InvalidError
from ..native import FILE_EXCLUSIVE
from ..waiting import both

if TYPE_CHECKING:
    from ..sandbox import Sandbox

_MODES = {"r", "r+", "w", "w+", "a", "a+", "x", "x+"}


class FileIO:
    """An open file in a sandbox, from Sandbox.open(). Opening reads the whole file, up to 100 MiB, into memory; flush() and
    close() write the whole file back. For larger files use sb.filesystem."""

    def __init__(self, sandbox: Sandbox, path: str, mode: str) -> None:
        kind = mode.replace("b", "", 1) if isinstance(mode, str) else ""
        if kind not in _MODES:
            refuse("mode", "one of r, w, a and x, with + or b", mode)
        self._sandbox, self._path, self._kind, self._binary = sandbox, path, kind, "b" in mode
        self._bytes, self._changed, self.closed = io.BytesIO(), False, False

    async def _begin(self) -> FileIO:
        files = self._sandbox.filesystem
        if self._kind[0] in "wx":
            flags = FILE_EXCLUSIVE if self._kind[0] == "x" else 0
            await files._do("write", self._path, b"", 0, flags=flags)
            return self
        try:
            self._bytes.write(await files.read_bytes.aio(self._path))
        except FileNotFoundError:
            if self._kind[0] == "r":
                raise
            await files._do("write", self._path, b"", 0)
        if self._kind[0] == "r":
            self._bytes.seek(0)
        return self

    def _use(self, allowed: bool, what: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not allowed:
            raise InvalidError(f"{self._path!r} was not opened for {what}")

    def _readable(self) -> io.BytesIO:
        self._use(self._kind == "r" or "+" in self._kind, "reading")
        return self._bytes

    def _shown(self, found: bytes) -> Any:
        return found if self._binary else found.decode()

    @both
    async def read(self, n: int | None = None) -> Any:
        """The next n bytes, or all that are left: text, or bytes in a mode with b."""
        return self._shown(self._readable().read(n))

    @both
    async def readline(self) -> Any:
        """The next line, with its end."""
        return self._shown(self._readable().readline())

    @both
    async def readlines(self) -> list[Any]:
        """The lines that are left, with their ends."""
        return [self._shown(line) for line in self._readable().readlines()]

    @both
    async def write(self, data: bytes | str) -> None:
        self._use(self._kind != "r", "writing")
        if isinstance(data, str) is self._binary:
            refuse("data", "bytes" if self._binary else "text", data)
        if self._kind[0] == "a":
            self._bytes.seek(0, io.SEEK_END)
        self._bytes.write(data.encode() if isinstance(data, str) else data)
        self._changed = True

    @both
    async def seek(self, offset: int, whence: int = 0) -> None:
        self._use(True, "")
        self._bytes.seek(offset, whence)

    @both
    async def flush(self) -> None:
        """Writes the file, if it has changed."""
        self._use(True, "")
        if self._changed:
            whole = self._bytes.getvalue()
            await self._sandbox.filesystem._do("write", self._path, whole, len(whole))
            self._changed = False

    @both
    async def close(self) -> None:
        if not self.closed:
            await self.flush.aio()
            self.closed = True

    def __enter__(self) -> FileIO:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> FileIO:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close.aio()
