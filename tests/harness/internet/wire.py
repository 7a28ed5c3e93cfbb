"""What the capture of an internet.py saw, and what was to be seen."""

import os
import sys
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


def run(module):
    """Runs a module's cases, its functions of one wire, in their order: INTERNET [CASE...] on the command line."""
    cases = {name: case for name, case in list(module.items()) if getattr(case, "__code__", None)
             and case.__code__.co_varnames[:1] in (("wire",), ("_wire",)) and case.__code__.co_argcount == 1}
    internet, *wanted = sys.argv[1:]
    for name in wanted or cases:
        cases[name](Wire(internet))
        print("ok", name, flush=True)
