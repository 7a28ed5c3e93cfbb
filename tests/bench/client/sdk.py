"""gVisor's Python SDK as a peer: python3 sdk.py start SERVER | python3 sdk.py exec

start: for each line on standard input a sandbox is made and the server writes one byte in it, by the SDK's exec, which returns
at the program's end. The answer is two numbers in microseconds, as client/raw.c gives them: from the call that makes
the sandbox to the output, and from there to the sandbox's end.

exec: each line names a program, which is run in one sandbox to its end. The answer is microseconds.
"""

import os
import sys
from time import perf_counter_ns

import gvisor


# The SDK's children have its standard input, and would read the lines: they get nothing instead.
requests = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def start(server):
    for _ in requests:
        before = perf_counter_ns()
        with gvisor.Sandbox(mounts=[gvisor.Mount.bind(server, "/bench/server", readonly=True)]) as sandbox:
            output, _ = sandbox.exec("/bench/server", "once")
            first = perf_counter_ns()
        gone = perf_counter_ns()
        if output != "k":
            sys.exit(f"the program under the SDK wrote {output!r}")
        print((first - before) // 1000, (gone - first) // 1000, flush=True)


def run():
    with gvisor.Sandbox() as sandbox:
        for line in requests:
            before = perf_counter_ns()
            sandbox.exec(line.rstrip("\n"))
            print((perf_counter_ns() - before) // 1000, flush=True)


if sys.argv[1] == "start":
    start(sys.argv[2])
else:
    run()
