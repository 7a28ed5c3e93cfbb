"""What programs write and read."""

from __future__ import annotations

import enum
import subprocess

from ..arguments import refuse
from .captures import Capture as Capture, Captured as Captured, read_captured as read_captured
from .reader import MOST_LINE as MOST_LINE, MOST_UNREAD as MOST_UNREAD, StreamReader as StreamReader
from .writer import StreamWriter as StreamWriter


class StreamType(enum.Enum):
    """What becomes of a stream; subprocess's own numbers mean the same. STDOUT is standard error's only: both
    outputs come in standard output, in their order."""

    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL
    STDOUT = subprocess.STDOUT

    @classmethod
    def of(cls, name: str, value: object) -> StreamType | Capture:
        if isinstance(value, Capture):
            return value
        try:
            return cls(value)
        except ValueError:
            refuse(name, "StreamType.PIPE or DEVNULL, a Capture, or for stderr STDOUT", value)
