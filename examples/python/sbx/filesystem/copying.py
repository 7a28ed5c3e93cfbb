"""Files and trees between this machine and a sandbox, which has the other end of a socket."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from ..exception import SandboxFilesystemError

_CHUNK = 1 << 20


class _Sender:
    """The socket as a file. A host in which SIGPIPE ends programs lives on."""

    def __init__(self, to: socket.socket) -> None:
        self._to = to

    def write(self, data: bytes) -> int:
        self._to.sendall(data, socket.MSG_NOSIGNAL)
        return len(data)


def send(source: BinaryIO, to: socket.socket) -> None:
    shutil.copyfileobj(source, _Sender(to), _CHUNK)


def receive(source: socket.socket, to: BinaryIO) -> None:
    with source.makefile("rb") as file:
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


def unpack(source: socket.socket, tree: Path) -> None:
    """Makes what an archive from a sandbox says below a new directory, and nothing elsewhere, whatever it says.

    Directories and regular files are made first and symbolic links last, so that nothing is ever written through one.
    Refused are absolute paths, "..", devices and other special files, the same name twice, sparse files (whose size
    costs the sandbox nothing), and links that lead outside. Of permissions the executable bits are kept and no set-id
    ones; the owner is this process's user.
    """
    tree.mkdir()
    links: dict[Path, str] = {}
    with source.makefile("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|", encoding="utf-8") as archive:
                for member in archive:
                    _unpack(archive, member, tree, links)
            for place, target in links.items():
                place.symlink_to(target)
        except (tarfile.TarError, FileExistsError, NotADirectoryError, ValueError, ArithmeticError) as error:
            if isinstance(error, tarfile.ReadError) and not file.read(1):
                raise EOFError from error  # it was cut short: the operation knows why
            raise SandboxFilesystemError(f"the sandbox's archive was refused: {error}") from error
    root = os.path.realpath(tree)
    for place, target in links.items():
        if os.path.isabs(target) or os.path.commonpath([root, os.path.realpath(place)]) != root:
            raise SandboxFilesystemError(f"the sandbox's archive was refused: a link leads to {target!r}, outside")


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Path, links: dict[Path, str]) -> None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise ValueError(f"{member.name!r} leads outside")
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
