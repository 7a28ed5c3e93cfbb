#!/usr/bin/env python3
"""Where the time of a cold start goes: run.sh cold runs this.

    cold.py RUNS HOST ARGUMENT...

HOST ARGUMENT... is `host times` (host.c), which creates sandboxes one after the other. The kernel's tracepoints show
when each process of a sandbox is executed, and what the keeper does meanwhile. Prints the median of each step over RUNS
sandboxes, in milliseconds after sbx_create was called. Needs root, and perf.
"""
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict

EVENTS = [
    "sched:sched_process_exec",
    "sched:sched_process_fork",
    "syscalls:sys_enter_unshare",
    "syscalls:sys_exit_unshare",
    "syscalls:sys_enter_pivot_root",
    "syscalls:sys_enter_sendmsg",
]
LINE = re.compile(r"^\s*(.+?)\s+(\d+)/(\d+)\s+\[\d+\]\s+(\d+)\.(\d+):\s+([\w:]+):\s*(.*)$")


def events(data):
    script = subprocess.run(["perf", "script", "-i", data, "--ns", "-F", "comm,pid,tid,cpu,time,event,trace"], capture_output=True, text=True, check=True)
    for line in script.stdout.splitlines():
        found = LINE.match(line)
        if found:
            comm, pid, tid, seconds, nanos, event, rest = found.groups()
            yield int(seconds) * 10**9 + int(nanos), comm, int(pid), int(tid), event.split(":")[-1], rest


# The flags of unshare(2), in hexadecimal.
NAMESPACES = {"10000000": "user", "20000": "mount", "8000000": "ipc", "40000000": "network"}


def steps(window, host):
    """(name, time) of one sandbox, in order: what the keeper, a child of the host's control thread, and its own do."""
    family, started, messages, networks, name = set(), False, 0, iter("GS"), ""
    executed = iter(("runsc is executed", "the gofer or the sentry is executed", "the sentry or its umounter is executed"))
    for time, comm, pid, _, event, rest in window:
        if event == "sched_process_fork":
            child = int(re.search(r"child_pid=(\d+)", rest).group(1))
            if pid in family or (pid == host and comm == "sbx-control"):
                family.add(child)
        elif pid not in family:
            continue
        elif event == "sched_process_exec":
            program = re.search(r"filename=(\S+)", rest).group(1)
            if not started:
                started = True
                yield "the keeper is executed", time
            elif program.endswith("prewarmer"):
                yield "the prewarmer is executed", time
            else:
                yield next(executed, "another runsc is executed"), time
        elif not started:
            continue
        elif event == "sys_enter_unshare" and comm == "sbx-keeper":
            flags = re.search(r"unshare_flags: (?:0x)?([0-9a-f]+)", rest)
            name = NAMESPACES.get(flags.group(1).lstrip("0"), "?") if flags else "?"
            name += " " + next(networks, "?") if name == "network" else ""
        elif event == "sys_exit_unshare" and comm == "sbx-keeper":
            yield f"keeper: {name} namespace made", time
        elif event == "sys_enter_pivot_root" and comm == "sbx-keeper":
            yield "keeper: new root mounted", time
        elif event == "sys_enter_sendmsg" and comm == "sbx-keeper":
            messages += 1
            known = {1: "namespaces are made", 2: "files are prepared"}
            yield f"keeper says: {known.get(messages, f'message {messages}')}", time


def main():
    runs, command = int(sys.argv[1]), sys.argv[2:]
    with tempfile.NamedTemporaryFile() as data:
        perf = ["perf", "record", "-q", "-a", "-k", "CLOCK_MONOTONIC", "-o", data.name]
        for event in EVENTS:
            perf += ["-e", event]
        out = subprocess.run(perf + ["--"] + command, capture_output=True, text=True, check=True).stdout
        sandboxes = [tuple(map(int, line.split())) for line in out.splitlines()][:runs]
        everything = list(events(data.name))
    of_host = re.compile(r"filename=\S*/host ")
    host = next(pid for _, _, pid, _, event, rest in everything if event == "sched_process_exec" and of_host.search(rest))
    times = defaultdict(list)
    for begun, created, first, _ in sandboxes:
        seen = list(steps([event for event in everything if begun <= event[0] <= first], host))
        seen += [("sbx_create has returned", created), ("the program's first byte has arrived", first)]
        for name, at in seen:
            times[name].append((at - begun) / 1e6)
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        all_of_it = sorted(times[name])
        if len(all_of_it) * 2 < len(sandboxes):
            continue
        low, high = all_of_it[len(all_of_it) // 10], all_of_it[len(all_of_it) * 9 // 10]
        print(f"{statistics.median(all_of_it):8.2f}  ({low:.2f} to {high:.2f})  {name}")


if __name__ == "__main__":
    main()
