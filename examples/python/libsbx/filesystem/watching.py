"""Changes of a sandbox's files."""

from __future__ import annotations

import ctypes
import enum
import time
from dataclasses import dataclass
from typing import Any, Callable, Collection, Generator, Generic

from .. import native
from ..exception import ClientClosed, ConflictError, TimeoutError
from .operation import FileOperation, modals_errors
from ..waiting import Method, P, Stream, TimedOut, until


class FileWatchEventType(enum.Enum):
    Unknown = "Unknown"
    Access = "Access"
    Create = "Create"
    Modify = "Modify"
    Remove = "Remove"


_TYPES = {
    native.CHANGE_CREATED: FileWatchEventType.Create,
    native.CHANGE_REMOVED: FileWatchEventType.Remove,
    native.CHANGE_OVERFLOW: FileWatchEventType.Unknown,
}


@dataclass(frozen=True)
class FileWatchEvent:
    """A change. Its paths are absolute, two where something was renamed within what is watched. Unknown stands for
    changes that were lost because there were too many at once: look for yourself."""

    paths: list[str]
    type: FileWatchEventType


class Watch(Stream[FileWatchEvent]):
    """The changes in a directory. It ends with close(), with its time, with the directory, and with the sandbox."""

    def __init__(self, operation: FileOperation, path: str, types: Collection[FileWatchEventType] | None, timeout: Any):
        self._operation, self._path, self._types = operation, path.rstrip("/"), types
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        self._held: tuple[int, str] | None = None  # taken, and not told yet

    def close(self) -> None:
        self._operation.cancel()

    async def begun(self) -> Watch:
        await self._change()  # the first says that it has
        return self

    def __await__(self) -> Generator[Any, None, Watch]:
        return self.begun().__await__()

    async def _next(self) -> FileWatchEvent | None:
        while True:
            kind, *paths = await self._change()
            if kind == 0:
                return None
            if kind == native.CHANGE_MOVED_FROM:
                self._held = self._take()
                if self._held and self._held[0] == native.CHANGE_MOVED_TO:
                    paths.append(self._held[1])
                    self._held = None
            type = _TYPES.get(kind, FileWatchEventType.Modify)
            if kind != native.CHANGE_READY and (self._types is None or type in self._types):
                return FileWatchEvent(paths, type)
            await self._turns()

    async def _change(self) -> tuple[int, str]:
        while True:
            coming, change = self._operation.changes.coming, self._take()
            if change is not None:
                return change
            try:
                left = None if self._deadline == float("inf") else max(0, self._deadline - time.monotonic())
                await until(coming, left)
            except TimedOut:
                return 0, ""

    def _take(self) -> tuple[int, str] | None:
        """The next change, if there is one; 0 at the end."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        place = ctypes.create_string_buffer(4096)
        try:
            with modals_errors():
                kind = native.call("operation_next_change", self._operation.handle, 0, place, len(place))
        except TimeoutError:
            return None
        except (ClientClosed, ConflictError):
            return 0, ""
        name = place.value.decode("utf-8", "surrogateescape")
        return kind, f"{self._path}/{name}" if name else self._path or "/"


class Watching(Generic[P]):
    """filesystem.watch: called, it returns when what changes from then on is told; `.aio` at once, and what it returns
    can be iterated over, or awaited for that."""

    def __init__(self, begin: Callable[P, Watch]) -> None:
        self.aio = begin

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Watch:
        return Method(self.aio(*args, **kwargs).begun)()
