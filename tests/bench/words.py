"""Figures, machines and dates in words."""

from __future__ import annotations

from datetime import datetime

from results import Figure, Side

# What isn't here has its own name: of programs, and of what is done with them beside the library.
PROGRAMS = {"sdk": "gVisor's Python SDK", "bwrap": "bubblewrap", "haproxy": "HAProxy"}
PEERS = {
    **PROGRAMS,
    "runsc": "runsc run",
    "docker-runsc": "docker with runsc",
    "straight": "straight to the sandbox",
    "nat": "kernel NAT",
    "slirp": "slirp4netns",
    "umoci": "skopeo and umoci",
    "directory": "on a directory",
}


def peer_name(figure: Figure) -> str:
    if figure.peer == "runsc" and figure.what.startswith("exec"):
        return "runsc exec"
    if figure.peer == "docker" and figure.what.startswith("image-pull"):
        return "docker pull"
    return PEERS.get(figure.peer, figure.peer)


def scale_of(unit: str, value: float) -> tuple[float, str]:
    """What a unit is divided by so that the value can be read, and what it is called then."""
    if unit == "us":
        return next(each for each in ((1e6, "s"), (1e3, "ms"), (1, "µs")) if value >= each[0] or each[0] == 1)
    if unit == "KiB" and value >= 1024:
        return 1024, "MiB"
    return 1, {"B/conn": "bytes each", "conn/s": "/s"}.get(unit, unit)


def digits(value: float) -> str:
    """Three digits that count, or all in front of the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else digits(value)


def amount(unit: str, value: float) -> str:
    divisor, name = scale_of(unit, value)
    return f"{digits(value / divisor)} {name}"


def with_spread(unit: str, side: Side) -> str:
    """A median with the quartiles around it, in one unit."""
    if side.low is None or side.high is None:
        return amount(unit, side.median)
    divisor, name = scale_of(unit, side.median)
    low, high = digits(side.low / divisor), digits(side.high / divisor)
    return f"{digits(side.median / divisor)} ({low}–{high}) {name}"


def ratio_with_spread(side: Side) -> str:
    if side.low is None or side.high is None:
        return ratio(side.median)
    return f"{ratio(side.median)} ({ratio(side.low)}–{ratio(side.high)})"


def budget(figure: Figure) -> str:
    if not figure.budget:
        return ""
    sign = "≤" if figure.budget.startswith("<=") else "≥"
    return f"{sign} {figure.budget[2:]}: {'met' if figure.is_met else 'missed'}"


def date(machine: dict) -> str:
    made = datetime.strptime(machine["date"], "%Y-%m-%dT%H:%M:%SZ")
    return f"{made.day} {made:%B %Y}"


def hardware(machine: dict) -> str:
    """Without what a distribution adds to the kernel's version."""
    kernel = machine["kernel"].partition("-")[0]
    model = f" ({machine['model']})" if machine["model"] else ""
    return f"{machine['processors']} processors{model}, {machine['memory_mib'] / 1024:.0f} GiB, Linux {kernel}"


def user(machine: dict) -> str:
    return "root" if machine["user"] == "root" else "an ordinary user"


def busy(machine: dict) -> str:
    """What run.sh warns of, too."""
    return f", busy with other work (load {machine['load']:.1f})" if machine["load"] > 0.5 else ""


def versions(machine: dict) -> str:
    """The library's and its peers'."""
    named = [f"libsbx {machine['libsbx']}"]
    named += [f"{PROGRAMS.get(program, program)} {each}" for program, each in machine["versions"].items()]
    return ", ".join(named)
