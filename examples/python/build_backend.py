"""Builds the wheel and the source distribution of libsbx (PEP 517), with nothing but the standard library.

The wheel carries libsbx.so and the keeper's program. They are built by cargo, from the checkout that this directory is
part of, or from the sources in a source distribution; where LIBSBX_BUILT names a directory that has them already
(examples/packages/build.sh), they are taken from there. The wheel's tag says which glibc the library was linked for.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Mapping, Optional

_HERE = Path(__file__).resolve().parent
# A source distribution has the checkout's sources in a directory of its own.
_TOP = _HERE / "source" if (_HERE / "source").is_dir() else _HERE.parents[1]
# What the library is built from.
_SOURCES = (
    "Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "include",
    "src", "examples/packages", "examples/rust",
)  # fmt: skip
_NOTICES = ("LICENSE-APACHE", "LICENSE-MIT", "examples/packages/NOTICE")
# 1980, where zip's calendar begins.
_EPOCH = max(int(os.environ.get("SOURCE_DATE_EPOCH", 0)), 315532800)


def _version() -> str:
    found = re.search(r'^version = "(.*)"$', (_TOP / "Cargo.toml").read_text(), re.M)
    assert found
    return found[1]


def _metadata() -> str:
    readme = (_HERE / "README.md").read_text()
    return f"""Metadata-Version: 2.4
Name: libsbx
Version: {_version()}
Summary: gVisor sandboxes inside your own process: no daemon, no root, safe networking, TLS tunnels
License-Expression: MIT OR Apache-2.0
License-File: LICENSE-APACHE
License-File: LICENSE-MIT
License-File: NOTICE
License-File: THIRD-PARTY
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Typing :: Typed
Requires-Python: >=3.9
Provides-Extra: runsc
Requires-Dist: libsbx-runsc; extra == "runsc"
Description-Content-Type: text/markdown

{readme}"""


def _built(scratch: Path) -> Path:
    """A directory with libsbx.so and sbx-keeper."""
    given = os.environ.get("LIBSBX_BUILT")
    if given:
        return Path(given)
    script = '. examples/packages/build.sh && built_library "$1" cargo build --release'
    print("building the library: this takes some minutes", file=sys.stderr)
    subprocess.run(["sh", "-c", script, "sh", str(scratch)], cwd=_TOP, check=True)
    return scratch


def _stripped(library: Path, scratch: Path) -> bytes:
    if not shutil.which("objcopy"):
        return library.read_bytes()
    subprocess.run(["objcopy", "--strip-unneeded", str(library), str(scratch / "stripped.so")], check=True)
    return (scratch / "stripped.so").read_bytes()


def platform_tag(program: Path) -> str:
    """manylinux with the newest glibc that the program asks for, where that can be read."""
    machine = platform.machine()
    if not shutil.which("readelf"):
        return f"linux_{machine}"
    said = subprocess.run(["readelf", "-VW", str(program)], capture_output=True, text=True, check=True).stdout
    newest = max((tuple(map(int, found)) for found in re.findall(r"GLIBC_(\d+)\.(\d+)", said)), default=(2, 17))
    return "manylinux_{}_{}_{}".format(*max(newest, (2, 17)), machine)


def _third_party() -> bytes:
    """Licences of what the library is made of, where cargo can say."""
    script = _TOP / "examples" / "packages" / "notices.py"
    return subprocess.run([sys.executable, "-B", str(script), "cargo"], cwd=_TOP, stdout=subprocess.PIPE, check=True).stdout


def _notices() -> dict[str, bytes]:
    found = {Path(name).name: (_TOP / name).read_bytes() for name in _NOTICES}
    given = os.environ.get("LIBSBX_BUILT")
    listed = Path(given) / "THIRD-PARTY" if given else None
    found["THIRD-PARTY"] = listed.read_bytes() if listed and listed.exists() else _third_party()
    return found


def write_wheel(
    directory: str, name: str, version: str, metadata: str, tag: str, files: Mapping[str, bytes],
    programs: frozenset[str], notices: Mapping[str, bytes],
) -> str:  # fmt: skip
    """A wheel of these files, the same each time. Returns its name."""
    info = f"{name}-{version}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: libsbx\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n"
    entries = {**files, **{f"{info}/licenses/{each}": text for each, text in notices.items()}}
    entries[f"{info}/METADATA"] = metadata.encode()
    entries[f"{info}/WHEEL"] = wheel.encode()
    record = ""
    for path, data in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    stamp = time.gmtime(_EPOCH)[:6]
    wheel_name = f"{name}-{version}-py3-none-{tag}.whl"
    with zipfile.ZipFile(Path(directory) / wheel_name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            entry = zipfile.ZipInfo(path, stamp)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if path in programs else 0o100644) << 16
            archive.writestr(entry, data)
    return wheel_name


def build_wheel(
    wheel_directory: str, config_settings: Optional[Mapping[str, object]] = None, metadata_directory: Optional[str] = None
) -> str:
    package = _HERE / "libsbx"
    files = {
        f"libsbx/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.suffix == ".py" or path.name == "py.typed"
    }
    with tempfile.TemporaryDirectory() as scratch:
        built = _built(Path(scratch))
        library = _stripped(built / "libsbx.so", Path(scratch))
        tag = platform_tag(built / "libsbx.so")
        keeper = (built / "sbx-keeper").read_bytes()
    files["libsbx/libsbx.so"], files["libsbx/sbx-keeper"] = library, keeper
    programs = frozenset({"libsbx/libsbx.so", "libsbx/sbx-keeper"})
    return write_wheel(wheel_directory, "libsbx", _version(), _metadata(), tag, files, programs, _notices())


def _below(top: Path, name: str) -> list[Path]:
    place = top / name
    if place.is_file():
        return [place]
    return [path for path in sorted(place.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def build_sdist(sdist_directory: str, config_settings: Optional[Mapping[str, object]] = None) -> str:
    name = f"libsbx-{_version()}"
    files = [("PKG-INFO", _metadata().encode())]
    for part in ("build_backend.py", "pyproject.toml", "README.md", "libsbx"):
        for path in _below(_HERE, part):
            if path.suffix != ".so" and path.name != "sbx-keeper":
                files.append((path.relative_to(_HERE).as_posix(), path.read_bytes()))
    for part in _SOURCES:
        for path in _below(_TOP, part):
            files.append((f"source/{path.relative_to(_TOP).as_posix()}", path.read_bytes()))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for place, data in files:
            entry = tarfile.TarInfo(f"{name}/{place}")
            entry.size, entry.mtime = len(data), _EPOCH
            archive.addfile(entry, io.BytesIO(data))
    with open(Path(sdist_directory) / f"{name}.tar.gz", "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=_EPOCH) as packed:
            packed.write(plain.getvalue())
    return f"{name}.tar.gz"
