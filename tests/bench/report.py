#!/usr/bin/env python3
"""The newest run of the benchmark as a table and as charts: python3 report.py [--write | --check] [RESULTS]

Without an option the table is printed, as Markdown, and the charts are written beside RESULTS (default
target/bench/results.jsonl, where run.sh puts them). With --write the run becomes what the repository shows: the
charts, the tables of examples/bench/README.md and of README.md, and the run itself, examples/bench/results.jsonl. With
--check these are compared with that run, and what differs is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import charts
import words
from results import Figure, Run, newest

TOP = Path(__file__).resolve().parents[2]
MEASURED = TOP / "target/bench/results.jsonl"
SHOWN = TOP / "examples/bench"

# The figures of the table in their order: a heading, and each figure's name and what is said of it.
PARTS = [
    (
        "Start: from create to the first output",
        [
            ("start", "on a directory"),
            ("start-default-root", "with the host's programs"),
            ("start-docker", "on a directory, as docker's user"),
            ("image-start", "on an image"),
            ("spare", "with a spare, on a directory"),
            ("spare-default-root", "with a spare, with the host's programs"),
            ("image-spare", "with a spare, on an image"),
            ("whole", "with a spare, on a directory, to the end of everything"),
            ("whole-default-root", "with a spare, with the host's programs, to the end of everything"),
            ("first", "the first of a process, on a directory"),
            ("first-default-root", "the first of a process, with the host's programs"),
            ("warm", "warm, on a directory"),
            ("warm-default-root", "warm, with the host's programs"),
            ("warm-docker", "warm, as docker's user"),
        ],
    ),
    (
        "A program in a running sandbox, to its end",
        [("exec", "`true`"), ("exec-static", "static `true`"), ("exec-sdk", "the host's `true`"), ("exec-docker", "`true`")],
    ),
    (
        "Storms: sandboxes a second",
        [
            (f"storm-{kind}-{count}", f"{count} at once, {said}" if count > 1 else f"one, {said}")
            for count in (1, 8, 32, 128)
            for kind, said in (("cold", "cold"), ("warm", "warm"), ("drained", "pool drained"))
        ],
    ),
    (
        "Tunnels",
        [
            *((f"tunnel-{name}", label) for label, name in charts.WAYS),
            ("tunnel-rtt", "round trip"),
            ("tunnel-connects", "connections"),
            ("tunnel-connects-8", "connections, 8 at a time"),
        ],
    ),
    (
        "Tunnels with TLS",
        [
            *((f"tls-{name}", label) for label, name in charts.WAYS),
            ("tls-rtt", "round trip"),
            ("tls-connects", "connections with a handshake"),
            ("tls-connects-8", "the same, 8 at a time"),
        ],
    ),
    (
        "Egress",
        [
            *((f"egress-{name}", label) for label, name in charts.WAYS),
            ("egress-rtt", "round trip"),
            ("egress-connects", "connections"),
            ("egress-connects-8", "connections, 8 at a time"),
        ],
    ),
    (
        "Images",
        [
            ("image-pull", "pulling one"),
            ("image-memory-10", "memory of ten sandboxes on one"),
            *(
                (f"image-{kind}-{mib}-mib", f"{said} of {mib} MiB of changes")
                for kind, said in (("pause", "pause for a snapshot"), ("snapshot", "snapshot"))
                for mib in (1, 100, 1024)
            ),
        ],
    ),
]


def row(figure: Figure, label: str) -> str:
    ours = words.with_spread(figure.unit, figure.ours)
    if figure.peer == "none":
        return f"| {label} | {ours} | | | | |\n"
    theirs = words.with_spread(figure.unit, figure.theirs)
    ratio = words.ratio_with_spread(figure.ratio)
    return f"| {label} | {ours} | {words.peer_name(figure)} | {theirs} | {ratio} | {words.budget(figure)} |\n"


def part(run: Run, heading: str, rows: list[tuple[str, str]]) -> str:
    """Nothing if none of it was measured."""
    lines = [row(figure, label) for what, label in rows for figure in run.figures.values() if figure.what == what]
    if not lines:
        return ""
    head = f"| {heading} | libsbx | beside it | | ratio | budget |\n|---|---|---|---|---|---|\n"
    return head + "".join(lines) + "\n"


def others(run: Run) -> list[tuple[str, str]]:
    known = {what for _, rows in PARTS for what, _ in rows}
    return [(what, f"`{what}`") for what in dict.fromkeys(figure.what for figure in run.figures.values()) if what not in known]


def machine_line(run: Run) -> str:
    machine = run.machine
    return (
        f"Run of {words.date(machine)} (`sh tests/bench/run.sh {machine['parts']}`) as {words.user(machine)} on "
        f"{words.hardware(machine)}{words.busy(machine)}. {words.versions(machine)}.\n\n"
    )


def table(run: Run) -> str:
    parts = [*PARTS, ("Others", others(run))]
    return machine_line(run) + "".join(part(run, heading, rows) for heading, rows in parts)


# --- what the repository shows -----------------------------------------------------------------------------

# README.md's rows: a label, and figures. What a peer is called there comes from the figure.
SUMMARY = [
    ("create to the first output, on an image", "image-start", ["runsc"]),
    ("create to the first output, on a directory", "start", ["runsc", "crun", "bwrap"]),
    ("create to the first output, with the host's programs", "start-default-root", ["runsc", "sdk"]),
    ("create to the first output, [with a spare](#spares)", "spare", ["runsc"]),
    ("create to the first output, [warm](#warm-sandboxes)", "warm", ["runsc"]),
    ("`true` in a running sandbox", "exec", ["runsc"]),
    ("32 sandboxes created at once", "storm-cold-32", ["runsc"]),
    ("32 warm sandboxes taken at once", "storm-warm-32", ["runsc"]),
    ("through a tunnel into a sandbox", "tunnel-up", ["haproxy", "nginx"]),
    ("out of a sandbox", "egress-up", ["nat", "slirp", "pasta"]),
    ("pulling an image from a registry on loopback", "image-pull", ["umoci", "docker"]),
    ("memory of ten sandboxes on one image", "image-memory-10", ["directory"]),
    *((f"pause for a snapshot of {mib} MiB", f"image-pause-{mib}-mib", []) for mib in (1, 100, 1024)),
]


def summary_row(run: Run, label: str, what: str, peers: list[str]) -> str:
    figure = run.ours(what)
    if figure is None:
        return ""
    beside = [f"{words.peer_name(each)}: {words.amount(each.unit, each.theirs.median)}" for peer in peers if (each := run.find(what, peer))]
    return f"| {label} | {words.amount(figure.unit, figure.ours.median)} | {'; '.join(beside)} |\n"


def summary(run: Run) -> str:
    """README.md's table."""
    machine = run.machine
    return (
        f"Medians of a run of {words.date(machine)} on {words.hardware(machine)}, as {words.user(machine)}{words.busy(machine)}:\n\n"
        "| | libsbx | beside it |\n|---|---|---|\n" + "".join(summary_row(run, *each) for each in SUMMARY)
    )


def between(page: str, begin: str, end: str, made: str, name: Path) -> str:
    """The page with what was made between two of its lines."""
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{name} has no lines {begin!r} and {end!r}")
    before, after = page.partition(begin)[0], page.partition(end)[2]
    return f"{before}{begin}{made}{end}{after}"


BEGIN, END = "<!-- Made by tests/bench/report.py: -->\n", "<!-- until here, by report.py -->\n"


def shown(run: Run) -> dict[Path, str]:
    """Every file that shows the run, and what has to be in it."""
    missing = [name for name, (_, needed) in charts.CHARTS.items() if not all(map(run.ours, needed))]
    if missing:
        raise SystemExit(f"the run lacks what is in these charts: {', '.join(missing)}; it measured {run.machine['parts']}")
    files = {SHOWN / f"{name}.svg": chart(run) for name, (chart, _) in charts.CHARTS.items()}
    for page, made in ((SHOWN / "README.md", table(run)), (TOP / "README.md", summary(run))):
        files[page] = between(page.read_text(), BEGIN, END, made, page)
    files[SHOWN / "results.jsonl"] = "".join(f"{line}\n" for line in run.lines)
    return files


def write(run: Run) -> None:
    for path, content in shown(run).items():
        path.write_text(content)
        print(path.relative_to(TOP))


def check(run: Run) -> None:
    different = [str(path.relative_to(TOP)) for path, content in shown(run).items() if path.read_text() != content]
    if different:
        raise SystemExit(
            f"not what examples/bench/results.jsonl says: {', '.join(different)}; "
            "write them with python3 tests/bench/report.py --write examples/bench/results.jsonl"
        )


def show(run: Run, directory: Path) -> None:
    print(table(run), end="")
    for name, (chart, needed) in charts.CHARTS.items():
        if all(map(run.ours, needed)):
            (directory / f"{name}.svg").write_text(chart(run))
            print(f"chart: {directory / name}.svg")


def main(arguments: list[str]) -> None:
    options = [each for each in arguments if each.startswith("-")]
    paths = [Path(each) for each in arguments if not each.startswith("-")]
    if len(options) > 1 or len(paths) > 1 or options not in ([], ["--write"], ["--check"]):
        raise SystemExit(__doc__)
    results = paths[0] if paths else SHOWN / "results.jsonl" if options == ["--check"] else MEASURED
    run = newest(results)
    if options == ["--write"]:
        write(run)
    elif options == ["--check"]:
        check(run)
    else:
        show(run, results.parent)


if __name__ == "__main__":
    main(sys.argv[1:])
