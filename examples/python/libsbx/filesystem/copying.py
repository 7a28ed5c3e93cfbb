"""Files and trees between this machine and a sandbox, which has the other end of a socket."""

from __future__ import annotations

import errno
import math
import os
import shutil
import socket
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from ..exception import SandboxFilesystemError, SandboxFilesystemFileTooLargeError

_CHUNK = 1 << 20
# Of an archive: bytes of headers before an entry, entries, characters of links' names and targets, names in a path.
_MOST_AHEAD, _MOST_ENTRIES, _MOST_LINKS, _DEEPEST = 128 << 10, 1_000_000, 64 << 20, 500
# Headers before headers are a recursion of tarfile's.
_REFUSED = (tarfile.TarError, FileExistsError, NotADirectoryError, ValueError, ArithmeticError, RecursionError)


class _Sender:
    """The socket as a file. A host in which SIGPIPE ends programs lives on."""

    def __init__(self, to: socket.socket) -> None:
        self._to = to

    def write(self, data: bytes) -> int:
        self._to.sendall(data, socket.MSG_NOSIGNAL)
        return len(data)


def send(source: BinaryIO, to: socket.socket) -> None:
    shutil.copyfileobj(source, _Sender(to), _CHUNK)


class _Receiver:
    """The socket as a file. The library leaves the limit to the sandbox; here it is held. So is what tarfile reads
    before it has an entry: it takes headers, which can say that they are of any size, into memory."""

    def __init__(self, source: socket.socket, limit: int | None, ahead: float = math.inf) -> None:
        self._source, self._limit, self._left, self.ahead = source, limit, limit or math.inf, ahead

    def read(self, size: int) -> bytes:
        data = self._source.recv(size)
        self._left -= len(data)
        self.ahead -= len(data)
        if self._left < 0:
            text = f"the sandbox sent more than the limit of {self._limit} bytes"
            raise SandboxFilesystemFileTooLargeError(text, os_error=errno.EFBIG)
        if self.ahead < 0:
            raise ValueError("its headers are too large")
        return data


def receive(source: socket.socket, to: BinaryIO, limit: int | None) -> None:
    file: Any = _Receiver(source, limit)
    shutil.copyfileobj(file, to, _CHUNK)


@contextmanager
def beside(local_path: Path) -> Iterator[Path]:
    """A name beside that path for what is to be there in the end: it gets there whole or not at all. The name can't be
    guessed, so that no link in a tree can lead by it to where the tree isn't any more."""
    local_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sbx-", dir=local_path.parent) as hidden:
        whole = Path(hidden, os.path.basename(hidden))
        yield whole
        whole.replace(local_path)


def pack(tree: Path, names: list[str], to: socket.socket) -> None:
    """Sends these entries of a directory, and what is below them, as an archive."""
    sender: Any = _Sender(to)
    with tarfile.open(fileobj=sender, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            archive.add(tree / name, name)


def unpack(source: socket.socket, tree: Path, limit: int | None = None) -> None:
    """Makes what an archive from a sandbox says below a new directory, and nothing elsewhere, whatever it says.

    Directories and regular files are made first and symbolic links last, so that nothing is ever written through one.
    Refused are absolute paths, "..", devices and other special files, the same name twice, sparse files (whose size
    costs the sandbox nothing), links that lead outside, and what takes this process's memory: large headers, a million
    entries, very deep paths. Of permissions the executable bits are kept and no set-id ones; the owner is this
    process's user.
    """
    tree.mkdir()
    links: dict[Path, str] = {}
    file: Any = _Receiver(source, limit, _MOST_AHEAD)
    try:
        with tarfile.open(fileobj=file, mode="r|", encoding="utf-8") as archive:
            for member in _members(archive, file):
                _unpack(archive, member, tree, links)
        for place, target in links.items():
            place.symlink_to(target)
    except _REFUSED as error:
        if isinstance(error, tarfile.ReadError) and not source.recv(1):
            raise EOFError from error  # it was cut short: the operation knows why
        raise SandboxFilesystemError(f"the sandbox's archive was refused: {error}") from error
    root = os.path.realpath(tree)
    for place, target in links.items():
        if os.path.isabs(target) or os.path.commonpath([root, os.path.realpath(place)]) != root:
            raise SandboxFilesystemError(f"the sandbox's archive was refused: a link leads to {target!r}, outside")


def _members(archive: Any, file: _Receiver) -> Iterator[tarfile.TarInfo]:
    """Its entries. Nothing of them, nor of headers that are for all that follow, piles up."""
    in_links = 0
    for _ in range(_MOST_ENTRIES):
        member = archive.next()
        if member is None:
            return
        in_links += len(member.name) + len(member.linkname) if member.issym() else 0
        if in_links > _MOST_LINKS:
            break
        file.ahead = math.inf
        yield member
        file.ahead = _MOST_AHEAD
        archive.members.clear()
        archive.pax_headers.clear()
    raise ValueError("it has too many entries")


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Path, links: dict[Path, str]) -> None:
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or len(parts) > _DEEPEST:
        raise ValueError(f"{member.name!r} leads outside, or too deep")
    place = tree / member.name
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        links[place] = member.linkname
    elif member.isreg() and not member.issparse():
        data: Any = archive.extractfile(member)
        with open(place, "xb") as made:
            shutil.copyfileobj(data, made, _CHUNK)
            os.fchmod(made.fileno(), member.mode & 0o755 | 0o600)
        os.utime(place, (member.mtime, member.mtime))
    else:
        raise ValueError(f"{member.name!r} is neither a file, a directory nor a symbolic link")
