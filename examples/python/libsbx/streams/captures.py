"""Outputs of which both ends are kept, and no more."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from ..arguments import whole
from ..native import call, library

_MOST = 16 << 20


@dataclass(frozen=True)
class Capture:
    """In the place of StreamType.PIPE: the first `head` and the last `tail` bytes of an output are kept, each of at
    most 16 MiB. The program never waits for a reader. ContainerProcess.captured() has them."""

    head: int = 65536
    tail: int = 65536

    def __post_init__(self) -> None:
        whole("head", self.head, 0, _MOST)
        whole("tail", self.tail, 0 if self.head else 1, _MOST)


@dataclass(frozen=True)
class Captured:
    """What was captured; `dropped` counts the bytes between head and tail that were not kept."""

    head: bytes
    tail: bytes
    dropped: int

    @property
    def text(self) -> str:
        """All as text, with a note where something was dropped."""
        if not self.dropped:
            return (self.head + self.tail).decode("utf-8", "replace")
        note = f"\n[{self.dropped} bytes dropped]\n"
        return self.head.decode("utf-8", "replace") + note + self.tail.decode("utf-8", "replace")


def read_captured(process: ctypes.c_void_p, stream: int) -> Captured:
    found, dropped = ctypes.c_void_p(), ctypes.c_uint64()
    call("process_captured", process, stream, ctypes.byref(found))

    def end(name: str) -> bytes:
        length = ctypes.c_size_t()
        at: Any = getattr(library, "sbx_captured_" + name)(found, ctypes.byref(length))
        return ctypes.string_at(at, length.value) if length.value else b""

    try:
        library.sbx_captured_dropped(found, ctypes.byref(dropped))
        return Captured(end("head"), end("tail"), dropped.value)
    finally:
        library.sbx_captured_free(found)
