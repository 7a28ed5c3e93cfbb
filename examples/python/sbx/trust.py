"""Whom HTTP clients trust."""

import os
import ssl
import sys
from pathlib import Path

from .exception import NotFoundError


_known: list[str] = []
_path, _file = "", -1


def trust(pem: str) -> None:
    """Adds an authority to a file of the public ones and ours. It is in memory, so that nothing is left of it however
    we end; the name holds in this process's children, too."""
    global _path, _file
    if pem in _known:
        return
    _known.append(pem)
    if _file < 0:
        _file = os.memfd_create("sbx-ca-bundle", os.MFD_CLOEXEC)
        _path = f"/proc/{os.getpid()}/fd/{_file}"
        os.write(_file, _public())
    os.write(_file, b"\n" + pem.encode())
    wanted: bool = vars(sys.modules[__package__ or ""])["trust_in_environment"]
    if wanted and not os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("CURL_CA_BUNDLE"):
        os.environ["REQUESTS_CA_BUNDLE"] = _path


def _public() -> bytes:
    try:
        import certifi  # type: ignore[import-not-found, unused-ignore]

        roots = certifi.where()
    except ImportError:
        roots = ssl.get_default_verify_paths().cafile or ""
    return Path(roots).read_bytes() if roots else b""


def ca_bundle() -> str:
    """The path of a file with the public authorities and those of this process's tunnels, for clients that take one:
    requests.get(url, verify=sbx.ca_bundle()). There is one as soon as tunnels() has returned an encrypted one."""
    if not _path:
        raise NotFoundError("there is no encrypted tunnel yet: call tunnels() first")
    return _path
