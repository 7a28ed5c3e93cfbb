"""Whom HTTP clients trust."""

import collections
import os
import ssl
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .exception import NotFoundError


_known: collections.Counter[str] = collections.Counter()  # the host's own may be that of several sandboxes
_lock = threading.Lock()
_path, _file = "", -1


def trust(pem: str, ended: Future[Any]) -> None:
    """Adds a sandbox's authority to a file of the public ones and ours, until the sandbox has ended. The file is in
    memory, so that nothing is left of it however we end; its name holds in this process's children, too."""
    global _path, _file
    with _lock:
        _known[pem] += 1
        if _file < 0:
            _file = _bundle()
            _path = f"/proc/{os.getpid()}/fd/{_file}"
        elif _known[pem] == 1:
            os.write(_file, b"\n" + pem.encode())
    ended.add_done_callback(lambda _: _forget(pem))
    wanted: bool = vars(sys.modules[__package__ or ""])["trust_in_environment"]
    if wanted and not os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("CURL_CA_BUNDLE"):
        os.environ["REQUESTS_CA_BUNDLE"] = _path


def _forget(pem: str) -> None:
    with _lock:
        _known[pem] -= 1
        if _known[pem] == 0:
            del _known[pem]
            # In one step, for those who are about to read it.
            bundle = _bundle()
            os.dup2(bundle, _file, inheritable=False)
            os.close(bundle)


def _bundle() -> int:
    file = os.memfd_create("sbx-ca-bundle", os.MFD_CLOEXEC)
    os.write(file, b"\n".join([_public(), *(pem.encode() for pem in _known)]))
    return file


def _public() -> bytes:
    try:
        import certifi  # type: ignore[import-not-found, unused-ignore]

        roots = certifi.where()
    except ImportError:
        roots = ssl.get_default_verify_paths().cafile or ""
    return Path(roots).read_bytes() if roots else b""


def ca_bundle() -> str:
    """The path of a file with the public authorities and those of this process's live sandboxes, for clients that take
    one: requests.get(url, verify=sbx.ca_bundle()). There is one as soon as tunnels() has returned an encrypted one."""
    if not _path:
        raise NotFoundError("there is no encrypted tunnel yet: call tunnels() first")
    return _path
