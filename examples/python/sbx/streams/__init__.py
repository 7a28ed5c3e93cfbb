"""What programs write and read."""

import enum
import subprocess

from .reader import MOST_LINE as MOST_LINE, MOST_UNREAD as MOST_UNREAD, StreamReader as StreamReader
from .writer import StreamWriter as StreamWriter


class StreamType(enum.Enum):
    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL
    STDOUT = subprocess.STDOUT
