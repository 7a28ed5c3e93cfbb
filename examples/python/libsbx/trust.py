"""Whom HTTP clients trust."""

import collections
import os
import ssl
import sys
import threading
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .exception import NotFoundError


_known: collections.Counter[str] = collections.Counter()  # the host's own may be that of several sandboxes
_lock = threading.Lock()
_path, _file = "", -1


class _File(str):
    """The path of a file in memory. While this object is there its descriptor's number is no other file's: not that of
    another sandbox's authority, which a client that uses this one would trust."""


_own: dict[str, _File] = {}  # that of each authority alone


def trust(pem: str, ended: Future[Any]) -> None:
    """Adds a sandbox's authority to a file of the public ones and ours, until the sandbox has ended. The file is in
    memory, so that nothing is left of it however we end; its name holds in this process's children, too."""
    global _path, _file
    with _lock:
        _known[pem] += 1
        if _file < 0:
            _file = _written(_bundle())
            _path = f"/proc/{os.getpid()}/fd/{_file}"
        elif _known[pem] == 1:
            os.write(_file, b"\n" + pem.encode())
    ended.add_done_callback(lambda _: _forget(pem))
    wanted: bool = vars(sys.modules[__package__ or ""])["trust_in_environment"]
    if wanted and not os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("CURL_CA_BUNDLE"):
        os.environ["REQUESTS_CA_BUNDLE"] = _path


def alone(pem: str) -> str:
    """The path of a file with that authority and no other; with none when its sandbox has ended."""
    with _lock:
        if _known[pem] == 0:
            raise NotFoundError("the sandbox has ended, and its authority is trusted no more")
        if pem not in _own:
            file = _written(pem.encode())
            _own[pem] = _File(f"/proc/{os.getpid()}/fd/{file}")
            weakref.finalize(_own[pem], os.close, file)
        return _own[pem]


def _forget(pem: str) -> None:
    with _lock:
        _known[pem] -= 1
        if _known[pem] == 0:
            del _known[pem]
            if own := _own.pop(pem, None):
                _replace(int(own.rpartition("/")[2]), b"")
            _replace(_file, _bundle())


def _replace(file: int, text: bytes) -> None:
    # In one step, for those who are about to read it.
    other = _written(text)
    os.dup2(other, file, inheritable=False)
    os.close(other)


def _bundle() -> bytes:
    return b"\n".join([_public(), *(pem.encode() for pem in _known)])


def _written(text: bytes) -> int:
    file = os.memfd_create("sbx-ca-bundle", os.MFD_CLOEXEC)
    os.write(file, text)
    return file


def _public() -> bytes:
    try:
        import certifi  # type: ignore[import-not-found, unused-ignore]

        roots = certifi.where()
    except ImportError:
        roots = ssl.get_default_verify_paths().cafile or ""
    return Path(roots).read_bytes() if roots else b""


def ca_bundle() -> str:
    """The path of a file with the public authorities and those of all of this process's live sandboxes, for clients of
    several: whoever uses it can't tell these from one another, which Tunnel.ca_bundle() can. There is one as soon as
    tunnels() has returned an encrypted one."""
    if not _path:
        raise NotFoundError("there is no encrypted tunnel yet: call tunnels() first")
    return _path
