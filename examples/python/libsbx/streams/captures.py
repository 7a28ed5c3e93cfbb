"""Outputs of which both ends are kept, and no more."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ..arguments import whole
from ..native import call, filled, library

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
    capture = ctypes.c_void_p()
    call("process_capture", process, stream, ctypes.byref(capture))
    try:
        kept = filled("capture_output", "output", capture)
        parts = ((kept.head, kept.head_length), (kept.tail, kept.tail_length))
        head, tail = (ctypes.string_at(start, length) if length else b"" for start, length in parts)
        return Captured(head, tail, kept.dropped)
    finally:
        library.sbx_capture_free(capture)
