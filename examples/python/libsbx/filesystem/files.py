"""Files of a sandbox: Sandbox.filesystem."""

from __future__ import annotations

import ctypes
import enum
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Collection

from . import copying
from ..arguments import bounds, items, refuse
from ..native import FILE_NO_FOLLOW, FILE_PARENTS, FILE_RECURSIVE, call, coded, decoded, library, new
from .operation import FileOperation
from ..waiting import AT_ONCE, both, in_thread, turn, until
from .watching import FileWatchEventType, Watch, Watching

if TYPE_CHECKING:
    from ..sandbox import Sandbox

_MOST_READ, _MOST_WRITTEN = 100 << 20, 1 << 30


class FileType(enum.Enum):
    """In the order of the library's SBX_FILE_KIND_..., from 1."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"
    OTHER = "other"


@dataclass(frozen=True)
class FileInfo:
    """What a file is, as the sandbox says. `mode` is its permissions, owner and group are numbers, as text."""

    name: str
    path: str
    type: FileType
    size: int
    mode: int
    permissions: str
    owner: str
    group: str
    modified_time: float
    symlink_target: str | None

    def is_file(self) -> bool:
        return self.type is FileType.FILE

    def is_dir(self) -> bool:
        return self.type is FileType.DIRECTORY

    def is_symlink(self) -> bool:
        return self.type is FileType.SYMLINK


def _info(operation: FileOperation, index: int, directory: str, listed: bool = True) -> FileInfo:
    found = new("file_entry")
    call("operation_entry", operation.handle, index, ctypes.byref(found))
    path = os.path.join(directory, decoded(found.name) or "") if listed else directory
    return FileInfo(
        os.path.basename(path.rstrip("/")), path, list(FileType)[found.kind - 1], found.bytes, found.mode,
        stat.filemode(found.mode)[1:], str(found.user), str(found.group), found.modified_ns / 1e9,
        decoded(found.target),
    )  # fmt: skip


class Filesystem:
    """The sandbox's files, with the rights of its root or of `user` ("name", "uid", "uid:gid" or "name:group"). Paths
    are absolute; links lead where they lead inside. What isn't done after `timeout` seconds is given up, with
    TimeoutError."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def _begin(
        self, what: str, remote_path: str, *arguments: Any, user: str | None = None, timeout: float | None = None,
        limit: int | None = None, **options: Any,
    ) -> FileOperation:  # fmt: skip
        options.update(bounds(limit, timeout), user=None if user is None else coded("user", user))
        handle = self._sandbox._use()
        return FileOperation(self._sandbox._hub, handle, what, coded("remote_path", remote_path), *arguments, **options)

    async def _do(self, what: str, remote_path: str, *arguments: Any, **options: Any) -> FileOperation:
        operation = self._begin(what, remote_path, *arguments, **options)
        await operation.end()
        return operation

    async def _copy(self, what: str, remote_path: str, work: Callable[[FileOperation], None], **options: Any) -> None:
        operation = self._begin(what, remote_path, **options)
        try:
            await until(in_thread(work, operation, daemon=False))
        except BaseException:
            operation.cancel()
            raise

    @both
    async def read_bytes(
        self, remote_path: str, *, limit: int = _MOST_READ, timeout: float | None = None, user: str | None = None
    ) -> bytes:
        """Of up to 100 MiB, or `limit` bytes; a longer file is refused. copy_to_local() has no limit."""
        operation = await self._do("read", remote_path, limit=limit, timeout=timeout, user=user)
        length = ctypes.c_size_t()
        found = library.sbx_operation_bytes(operation.handle, ctypes.byref(length))
        return ctypes.string_at(found, length.value)

    @both
    async def read_text(
        self, remote_path: str, *, limit: int = _MOST_READ, timeout: float | None = None, user: str | None = None
    ) -> str:
        """The same, as UTF-8."""
        return (await self.read_bytes.aio(remote_path, limit=limit, timeout=timeout, user=user)).decode()

    @both
    async def write_bytes(
        self, data: bytes | bytearray | memoryview, remote_path: str, *, timeout: float | None = None,
        user: str | None = None,
    ) -> None:  # fmt: skip
        """In place of what is there; the directories above are made. Up to 1 GiB; copy_from_local() has no limit."""
        copy = memoryview(data).tobytes()
        bounded = dict(limit=_MOST_WRITTEN, timeout=timeout)
        await self._do("write", remote_path, copy, len(copy), flags=FILE_PARENTS, user=user, **bounded)

    @both
    async def write_text(
        self, data: str, remote_path: str, *, timeout: float | None = None, user: str | None = None
    ) -> None:
        """The same, as UTF-8."""
        await self.write_bytes.aio(str.encode(data), remote_path, timeout=timeout, user=user)

    @both
    async def list_files(
        self, remote_path: str, *, limit: int | None = None, timeout: float | None = None, user: str | None = None
    ) -> list[FileInfo]:
        """What is in a directory, in no order: up to 100,000 entries, or `limit`."""
        operation = await self._do("list", remote_path, limit=limit, timeout=timeout, user=user)
        found = []
        for index in range(library.sbx_operation_count(operation.handle)):
            if index % AT_ONCE == 0:
                await turn()
            found.append(_info(operation, index, remote_path))
        return found

    @both
    async def stat(self, remote_path: str, *, timeout: float | None = None, user: str | None = None) -> FileInfo:
        """What a path is; of a symbolic link, the link itself."""
        operation = await self._do("stat", remote_path, flags=FILE_NO_FOLLOW, timeout=timeout, user=user)
        return _info(operation, 0, remote_path, listed=False)

    @both
    async def make_directory(
        self, remote_path: str, *, create_parents: bool = True, timeout: float | None = None, user: str | None = None
    ) -> None:
        """With those above; that it is there is no error then."""
        flags = FILE_PARENTS if create_parents else 0
        await self._do("make_directory", remote_path, flags=flags, timeout=timeout, user=user)

    @both
    async def remove(
        self, remote_path: str, *, recursive: bool = False, timeout: float | None = None, user: str | None = None
    ) -> None:
        """A file, a link, an empty directory; with all that is below if told so."""
        await self._do("remove", remote_path, flags=FILE_RECURSIVE if recursive else 0, timeout=timeout, user=user)

    @both
    async def rename(
        self, remote_path: str, new_path: str, *, timeout: float | None = None, user: str | None = None
    ) -> None:
        """Over what is there, on the same file system."""
        await self._do("rename", remote_path, coded("new_path", new_path), timeout=timeout, user=user)

    @both
    async def copy_from_local(
        self, local_path: str | os.PathLike[str], remote_path: str, *, timeout: float | None = None,
        user: str | None = None,
    ) -> None:  # fmt: skip
        """A file of any size, in place of what is there; the directories above are made."""
        with open(local_path, "rb") as file:

            def work(operation: FileOperation) -> None:
                with operation.stream() as stream:
                    copying.send(file, stream)

            await self._copy("upload", remote_path, work, flags=FILE_PARENTS, timeout=timeout, user=user)

    @both
    async def copy_to_local(
        self, remote_path: str, local_path: str | os.PathLike[str], *, limit: int | None = None,
        timeout: float | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """A file, of up to `limit` bytes if that is given. It gets there whole or not at all, in place of what is
        there."""

        def work(operation: FileOperation) -> None:
            with copying.beside(Path(local_path)) as whole, open(whole, "wb") as file, operation.stream() as stream:
                copying.receive(stream, file, limit)

        await self._copy("download", remote_path, work, limit=limit, timeout=timeout, user=user)

    @both
    async def copy_tree_from_local(
        self, local_path: str | os.PathLike[str], remote_path: str, *, limit: int | None = None,
        timeout: float | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """What is below a directory, into one that is made if it isn't there. Everything belongs to root then. The
        limit is of the files' bytes."""
        names = os.listdir(local_path)

        def work(operation: FileOperation) -> None:
            with operation.stream() as stream:
                copying.pack(Path(local_path), names, stream)

        bounded = dict(limit=limit, timeout=timeout)
        await self._copy("copy_in", remote_path, work, flags=FILE_PARENTS, user=user, **bounded)

    @both
    async def copy_tree_to_local(
        self, remote_path: str, local_path: str | os.PathLike[str], *, limit: int | None = None,
        timeout: float | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """What is below a directory, into a new one, whole or not at all. What the sandbox says is not believed: see
        copying.unpack for what is refused. The limit is of the archive's bytes, headers and all."""

        def work(operation: FileOperation) -> None:
            with copying.beside(Path(local_path)) as whole, operation.stream() as stream:
                copying.unpack(stream, whole, limit)

        await self._copy("copy_out", remote_path, work, limit=limit, timeout=timeout, user=user)

    @property
    def watch(self) -> Watching[Any]:
        """watch(path, *, filter=None, recursive=False, timeout=None): an iterator over what changes in a directory."""
        return Watching(self._watch)

    def _watch(
        self, remote_path: str, *, filter: Collection[FileWatchEventType] | None = None, recursive: bool = False,
        timeout: float | None = None, user: str | None = None,
    ) -> Watch:  # fmt: skip
        if timeout is not None and not isinstance(timeout, (int, float)):
            refuse("timeout", "a number of seconds", timeout)
        rule = "FileWatchEventType.Create and the like"
        filter = None if filter is None else items("filter", filter, FileWatchEventType, rule)
        operation = self._begin("watch", remote_path, flags=FILE_RECURSIVE if recursive else 0, user=user)
        watch = Watch(operation, remote_path, filter, timeout)
        watch._whole = self._sandbox
        return watch
