"""The shared library: where it is found, its functions and structs, and how they are called."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any, Iterable

from .abi import *
from .arguments import refuse
from .exception import Error, InternalError, InvalidError

_HERE = Path(__file__).resolve().parent

# What the letters of abi.py stand for.
_KINDS: dict[str, Any] = dict.fromkeys("h&eb", ctypes.c_void_p)
_KINDS.update(s=ctypes.c_char_p, i=ctypes.c_int, u=ctypes.c_uint32, q=ctypes.c_int64, Q=ctypes.c_uint64)
_KINDS.update(z=ctypes.c_size_t, v=None)


def _field(kind: str) -> Any:
    length, letter = (kind[:-1], kind[-1]) if kind[-1] in _KINDS else (kind, "")
    one = _KINDS[letter] if letter else ctypes.c_char
    return one * int(length) if length else one


def _struct(name: str, layout: str) -> Any:
    words = [field.split() for field in layout.split(",")]
    fields = [(field, _field(kind)) for kind, field in words]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTS: dict[str, Any] = {name: _struct(name, layout) for name, layout in LAYOUTS.items()}
EXIT_REASONS = (None, "exited", "signalled", "timedOut", "idle", "terminated", "outOfMemory", "engineLost")


def _load() -> ctypes.CDLL:
    """The shared library: SBX_LIBRARY and nothing else if that is set; else in this package or beside it, in the
    build's directories of this checkout, and where the system looks."""
    named = os.environ.get("SBX_LIBRARY")
    build = Path(os.environ.get("CARGO_TARGET_DIR") or _HERE.parents[2] / "target")
    known = [str(at / "libsbx.so") for at in (_HERE, _HERE.parent, build / "release", build / "debug")]
    places = [named] if named else [*filter(os.path.exists, known), "libsbx.so.0"]
    tried = []
    for place in places:
        try:
            library = ctypes.CDLL(place)
            library.sbx_abi_version.restype = ctypes.c_uint32
            version = library.sbx_abi_version()
        except (OSError, AttributeError) as error:
            tried.append(f"{place}: {error}")
            continue
        # While the major number is 0, minor numbers differ as major ones do later.
        if version < ABI_VERSION or version >> 8 != ABI_VERSION >> 8:
            tried.append(f"{place}: its ABI is {version:#x}; this package was written for {ABI_VERSION:#x}")
            continue
        for name, kinds in FUNCTIONS.items():
            parameters, _, result = kinds.partition(">")
            function = getattr(library, "sbx_" + name)
            function.argtypes = [_KINDS[kind] for kind in parameters]
            function.restype = _KINDS[result or "i"]
        return library
    raise ImportError(
        f"libsbx was not found. Build it (cargo build --release), put libsbx.so into {_HERE.name}/ or beside it, "
        f"install it, or name it in SBX_LIBRARY. Tried: {'; '.join(tried)}"
    )


def _use_runsc() -> None:
    """Names the runsc of the package libsbx-runsc, if that is installed, unless SBX_RUNSC names one."""
    carried = importlib.util.find_spec("libsbx_runsc")
    for place in carried.submodule_search_locations or () if carried else ():
        os.environ["SBX_RUNSC"] = os.environ.get("SBX_RUNSC") or os.path.join(place, "runsc")


library: Any = _load()
_use_runsc()


def new(struct: str, **fields: Any) -> Any:
    """A struct with its size, and what else it is to begin with."""
    kind = STRUCTS[struct]
    return kind(size=ctypes.sizeof(kind), **fields)


def call(name: str, *arguments: Any) -> int:
    """Calls a function whose last parameter is the error, and raises that."""
    error = new("error")
    result: int = getattr(library, "sbx_" + name)(*arguments, ctypes.byref(error))
    if result < 0:
        message = error.message.decode("utf-8", "replace") or f"sbx_{name} returned {result}"
        raise Error._kinds.get(result, InternalError)(message, result, error.os_error)
    return result


def coded(name: str, text: Any) -> bytes:
    """A text as C takes it. What isn't valid UTF-8 is left to the library, which takes it in paths inside only."""
    if not isinstance(text, (str, os.PathLike)):
        refuse(name, "a string", text)
    found = os.fspath(text)
    data = found if isinstance(found, bytes) else found.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidError(f"{name} contains a NUL character")
    return data


def array(name: str, texts: Iterable[str]) -> Any:
    data = [coded(name, text) for text in texts]
    return (ctypes.c_char_p * len(data))(*data)


def text(name: str, *arguments: Any) -> str | None:
    return decoded(getattr(library, "sbx_" + name)(*arguments))


def filled(name: str, struct: str, *arguments: Any) -> Any:
    """What a function whose last parameter is a struct fills it with."""
    found = new(struct)
    result: int = getattr(library, "sbx_" + name)(*arguments, ctypes.byref(found))
    if result < 0:
        raise Error._kinds.get(result, InternalError)(f"sbx_{name} returned {result}", result)
    return found


def decoded(found: bytes | None) -> str | None:
    return None if found is None else found.decode("utf-8", "surrogateescape")


class Draft:
    """A config or a policy while it is being filled in. Its first bad value is what the library reports at the end."""

    def __init__(self, kind: str, *how: int) -> None:
        self._kind = kind
        self._bad = False
        self.handle = ctypes.c_void_p()
        call(f"{kind}_new", *how, ctypes.byref(self.handle))

    def set(self, what: str, *arguments: Any, name: str = "") -> None:
        name = name or what
        given = [coded(name, value) if isinstance(value, (str, os.PathLike)) else value for value in arguments]
        try:
            result = getattr(library, f"sbx_{self._kind}_{what}")(self.handle, *given)
        except ctypes.ArgumentError:
            kinds = ", ".join(type(value).__name__ for value in arguments)
            raise InvalidError(f"{name} doesn't take {kinds}") from None
        # What the library reports is the first bad value: of one before this, this isn't the name.
        if result < 0 and name != what and not self._bad:
            try:
                call(f"{self._kind}_check", self.handle)
            except Error as error:
                raise type(error)(f"{name}: {error.message}", error.code, error.os_error) from None
        self._bad = self._bad or result < 0

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        getattr(library, f"sbx_{self._kind}_free")(self.handle)
