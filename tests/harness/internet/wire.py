"""What the capture of an internet.py saw, and what was to be seen."""

import os
import time


class Wire:
    """What the capture has seen since it was last asked."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "packets")
        self.at = os.path.getsize(self.path)

    def seen(self):
        # The capture is a thread of another process: a moment until it has written what it has.
        time.sleep(0.3)
        with open(self.path, encoding="ascii") as packets:
            packets.seek(self.at)
            text = packets.read()
        self.at += len(text)
        return text.splitlines()


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} instead of {expected!r}")
