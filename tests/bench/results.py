"""What run.sh has written: runs of the benchmark, each with its machine and its figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Side:
    """A median, and the quartiles around it where they are known."""

    median: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, median: float, spread: list[float] | None) -> Side:
        """A spread is the least, the lower quartile, the upper quartile and the greatest value."""
        return cls(median, spread[1], spread[2]) if spread else cls(median)


@dataclass(frozen=True)
class Figure:
    what: str
    peer: str
    unit: str
    ours: Side
    theirs: Side
    ratio: Side
    budget: str

    @classmethod
    def of(cls, line: dict) -> Figure:
        return cls(
            line["what"],
            line["peer"],
            line["unit"],
            Side.of(line["ours"], line.get("ours_spread")),
            Side.of(line["theirs"], line.get("theirs_spread")),
            Side.of(line["ratio"], line.get("ratio_spread")),
            line.get("budget", ""),
        )

    @property
    def is_met(self) -> bool | None:
        """None without a budget."""
        if not self.budget:
            return None
        bound = float(self.budget[2:])
        return self.ratio.median <= bound if self.budget.startswith("<=") else self.ratio.median >= bound


@dataclass
class Run:
    machine: dict
    lines: list[str] = field(default_factory=list)
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)

    def find(self, what: str, peer: str) -> Figure | None:
        return self.figures.get((what, peer))

    def ours(self, what: str) -> Figure | None:
        """The first figure of that name. Our side is the same in all of them."""
        return next((figure for figure in self.figures.values() if figure.what == what), None)


def newest(file: Path) -> Run:
    """The last run. Lines above the first machine are of versions that wrote none."""
    run = None
    for number, text in enumerate(file.read_text().splitlines(), 1):
        try:
            line = json.loads(text)
            if line["what"] == "machine":
                run = Run(line)
            elif line["what"] == "version" and run is not None:
                run.machine["versions"][line["peer"]] = line["version"]
            elif run is not None:
                figure = Figure.of(line)
                run.figures[figure.what, figure.peer] = figure
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise SystemExit(f"{file}:{number}: this is no result: {error!r}") from error
        if run is not None:
            run.lines.append(text)
    if run is None:
        raise SystemExit(f"{file} has no run that says which machine it was made on")
    return run
