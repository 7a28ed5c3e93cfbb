"""Charts of a run, as SVG by hand: text is text, nothing is fetched, and both light and dark are readable."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from html import escape

import words
from results import Figure, Run, Side

WIDTH, LABELS, END = 860, 290, 690
ROW, HEADING, TOP = 26, 30, 66
STYLE = """\
    text { fill: #1f2328; }
    .soft { fill: #59636e; font-size: 12px; }
    .title { font-size: 17px; font-weight: 600; }
    .heading { font-weight: 600; }
    .back { fill: #ffffff; }
    .peer { fill: #8c959f; }
    .ours { fill: #0a62c4; }
    .warm { fill: #1a7f37; }
    .axis { stroke: #d1d9e0; }
    .even { stroke: #59636e; stroke-dasharray: 5 4; }
    .spread { stroke: #1f2328; stroke-width: 1.5; }
    .first { fill: #0a62c4; stroke: #0a62c4; }
    .second { fill: #bc4c00; stroke: #bc4c00; }
    .third { fill: #1a7f37; stroke: #1a7f37; }
    .fourth { fill: #8250df; stroke: #8250df; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .soft { fill: #a5b0bc; }
      .back { fill: #11161d; }
      .peer { fill: #6e7884; }
      .ours { fill: #4493f8; }
      .warm { fill: #3fb950; }
      .axis { stroke: #30363d; }
      .even { stroke: #a5b0bc; }
      .spread { stroke: #e6edf3; }
      .first { fill: #79b8ff; stroke: #79b8ff; }
      .second { fill: #ffa657; stroke: #ffa657; }
      .third { fill: #6fdd8b; stroke: #6fdd8b; }
      .fourth { fill: #d2a8ff; stroke: #d2a8ff; }
    }
"""


@dataclass(frozen=True)
class Bar:
    label: str
    kind: str
    side: Side


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    styled = f' class="{kind}"' if kind else ""
    placed = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'  <text x="{x:.1f}" y="{y:.1f}"{styled}{placed}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'  <line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def small_print(machine: dict, y: float) -> list[str]:
    said = f"{words.date(machine)}: {words.hardware(machine)}{words.busy(machine)}. {words.versions(machine)}."
    return [text(20, y + 16 * at, each, "soft") for at, each in enumerate(textwrap.wrap(said, 125))]


def document(run: Run, title: str, subtitle: str, description: str, body: list[str], bottom: float) -> str:
    below = small_print(run.machine, bottom + 28)
    height = bottom + 28 + 16 * len(below)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
            'aria-labelledby="title description" font-family="system-ui, sans-serif" font-size="14">',
            f'  <title id="title">{escape(title)}</title>',
            f'  <desc id="description">{escape(description)}</desc>',
            f"  <style>\n{STYLE}  </style>",
            '  <rect width="100%" height="100%" class="back"/>',
            text(20, 30, title, "title"),
            text(20, 50, subtitle, "soft"),
            *body,
            *below,
            "</svg>\n",
        ]
    )


def bar_at(bar: Bar, unit: str, most: float, y: float) -> list[str]:
    def at(value: float) -> float:
        return LABELS + (END - LABELS) * min(value, most) / most

    end = at(bar.side.median)
    drawn = [
        text(LABELS - 10, y + 15, bar.label, anchor="end"),
        f'  <rect x="{LABELS}" y="{y + 3:.1f}" width="{max(end - LABELS, 1):.1f}" height="16" rx="2" class="{bar.kind}"/>',
    ]
    if bar.side.low is not None and bar.side.high is not None:
        drawn.append(line(at(bar.side.low), y + 11, at(bar.side.high), y + 11, "spread"))
        end = max(end, at(bar.side.high))
    drawn.append(text(end + 8, y + 15, words.amount(unit, bar.side.median)))
    return drawn


def bars(run: Run, title: str, subtitle: str, unit: str, groups: list[tuple[str, list[Bar]]]) -> str:
    """Horizontal bars, in groups with headings or one without."""
    every = [bar for _, group in groups for bar in group]
    longest = max(bar.side.median for bar in every)
    # One wide spread isn't to make all bars short.
    most = min(1.3 * longest, max(max(bar.side.median, bar.side.high or 0) for bar in every))
    body, y = [], TOP
    for heading, group in groups:
        if heading:
            body.append(text(20, y + 18, heading, "heading"))
            y += HEADING
        for bar in group:
            body += bar_at(bar, unit, most, y)
            y += ROW
    body.insert(0, line(LABELS, TOP, LABELS, y, "axis"))
    said = [
        (f"{heading}: " if heading else "")
        + ", ".join(f"{bar.label} {words.amount(unit, bar.side.median)}" for bar in group)
        for heading, group in groups
    ]
    return document(run, title, subtitle, "; ".join(said) + ".", body, y)


# The style of each peer, in their order.
PLACES = ("first", "second", "third", "fourth")


def mark(place: int, x: float, y: float) -> str:
    """A shape of its own for each peer, so that colour isn't all that tells them apart."""
    kind = PLACES[place]
    if place == 0:
        return f'  <circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"/>'
    shape = (
        [],
        [(-5, -5), (5, -5), (5, 5), (-5, 5)],
        [(0, -6), (6, 5), (-6, 5)],
        [(0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)],
    )[place]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape)
    return f'  <polygon points="{points}" class="{kind}"/>'


def legend(peers: list[str], y: float) -> list[str]:
    drawn, x = [], LABELS
    for place, peer in enumerate(peers):
        name = words.PEERS.get(peer, peer)
        drawn += [mark(place, x, y + 13), text(x + 12, y + 18, name)]
        x += 34 + 8 * len(name)
    return drawn


class RatioAxis:
    """From a power of two to another, around all ratios and 1."""

    def __init__(self, figures: list[Figure]) -> None:
        ends = [end for each in figures for end in (each.ratio.median, each.ratio.low, each.ratio.high) if end]
        self.least = 2 ** math.floor(math.log2(min([*ends, 0.5])))
        self.most = 2 ** math.ceil(math.log2(max([*ends, 2.0])))

    def at(self, value: float) -> float:
        part = math.log2(max(value, self.least) / self.least) / math.log2(self.most / self.least)
        return LABELS + (WIDTH - 40 - LABELS) * part

    def drawn(self, top: float, bottom: float) -> list[str]:
        out, value = [], self.least
        while value <= self.most:
            x = self.at(value)
            out.append(line(x, top, x, bottom, "even" if value == 1 else "axis"))
            out.append(text(x, bottom + 16, f"{value:g} ×", "soft", "middle"))
            value *= 2
        return out


def ratios(run: Run, title: str, subtitle: str, groups: list[tuple[str, list[str], list[tuple[str, str]]]]) -> str:
    """Marks on an axis of ratios. A group has a heading, peers, and rows: a label, and a figure's name."""
    shown = [
        figure for _, peers, rows in groups for _, what in rows for peer in peers if (figure := run.find(what, peer))
    ]
    axis = RatioAxis(shown)
    marks, said, y = [], [], TOP
    for heading, peers, rows in groups:
        peers = [peer for peer in peers if any(run.find(what, peer) for _, what in rows)]
        marks += [text(20, y + 18, heading, "heading"), *legend(peers, y)]
        y += HEADING
        for label, what in rows:
            marks.append(text(LABELS - 24, y + 18, label, anchor="end"))
            for place, peer in enumerate(peers):
                if figure := run.find(what, peer):
                    marks += ratio_mark(axis, figure, place, len(peers), y)
                    said.append(f"{heading}, {label}, beside {words.PEERS.get(peer, peer)}: {words.ratio(figure.ratio.median)}")
            y += ROW + 4
    body = axis.drawn(TOP + HEADING, y) + marks
    return document(run, title, subtitle, "; ".join(said) + ".", body, y + 18)


def ratio_mark(axis: RatioAxis, figure: Figure, place: int, count: int, y: float) -> list[str]:
    """Peers lie a little below each other, lest their spreads lie on one line."""
    height = y + 13 + (place - (count - 1) / 2) * 6
    drawn = []
    if figure.ratio.low is not None and figure.ratio.high is not None:
        drawn.append(line(axis.at(figure.ratio.low), height, axis.at(figure.ratio.high), height, PLACES[place]))
    return [*drawn, mark(place, axis.at(figure.ratio.median), height)]


def bar_of(run: Run, label: str, kind: str, what: str, peer: str = "") -> list[Bar]:
    """The library's side of a figure, or a peer's. None where it wasn't measured."""
    figure = run.find(what, peer) if peer else run.ours(what)
    return [Bar(label, kind, figure.theirs if peer else figure.ours)] if figure else []


def start(run: Run) -> str:
    rows = [
        *bar_of(run, "libsbx, warm", "warm", "warm"),
        *bar_of(run, "libsbx, with a spare, on a directory", "ours", "spare"),
        *bar_of(run, "libsbx, cold, on an image", "ours", "image-start"),
        *bar_of(run, "libsbx, cold, on a directory", "ours", "start"),
        *bar_of(run, "libsbx, cold, host's programs", "ours", "start-default-root"),
        *bar_of(run, "runsc run", "peer", "start", "runsc"),
        *bar_of(run, "gVisor's Python SDK", "peer", "start-default-root", "sdk"),
        *bar_of(run, "docker with runsc", "peer", "start-docker", "docker-runsc"),
        *bar_of(run, "crun (host's kernel)", "peer", "start", "crun"),
        *bar_of(run, "bubblewrap (host's kernel)", "peer", "start", "bwrap"),
    ]
    return bars(
        run, "From create to the first output", "Medians; the thin line is the middle half of the runs. Shorter is better.",
        "us", [("", rows)],
    )


def storm_counts(run: Run) -> list[int]:
    names = (what for what, _ in run.figures if what.startswith("storm-cold-"))
    return sorted({int(name.rpartition("-")[2]) for name in names})


def storm(run: Run) -> str:
    groups = []
    for count in storm_counts(run):
        rows = [
            *bar_of(run, "libsbx, warm", "warm", f"storm-warm-{count}"),
            *bar_of(run, "libsbx, pool drained", "ours", f"storm-drained-{count}"),
            *bar_of(run, "libsbx, cold", "ours", f"storm-cold-{count}"),
            *bar_of(run, "runsc run", "peer", f"storm-cold-{count}", "runsc"),
        ]
        groups.append(("one" if count == 1 else f"{count} at once", rows))
    return bars(
        run, "Sandboxes a second, created at the same moment",
        "Medians; the thin line is the middle half of the rounds. Longer is better.", "/s", groups,
    )


WAYS = [("up", "up"), ("up, 4 connections", "up-4"), ("down", "down"), ("down, 4 connections", "down-4")]


def data(run: Run) -> str:
    return ratios(
        run, "Throughput, libsbx to its peers",
        "Ratios of medians; above 1 libsbx is faster. The thin line is the middle half of the ratios turn by turn.",
        [
            ("Tunnels", ["straight", "haproxy", "nginx"], [(label, f"tunnel-{name}") for label, name in WAYS]),
            ("Egress", ["nat", "slirp", "pasta"], [(label, f"egress-{name}") for label, name in WAYS]),
        ],
    )


# What has to be in a run for each of them.
CHARTS = {"start": (start, ["start", "warm"]), "data": (data, ["tunnel-up", "egress-up"]), "storm": (storm, ["storm-cold-1"])}
