"""The report's own tests: python3 -B tests/bench/report_test.py. They measure nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

import charts
import report
import words
from results import Side, newest

SAMPLE = Path(__file__).with_name("sample.jsonl")
SVG = "{http://www.w3.org/2000/svg}"


def written(lines: str) -> Path:
    file = tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False)
    with file:
        file.write(lines)
    return Path(file.name)


class Results(unittest.TestCase):
    def test_the_newest_run_is_read(self):
        run = newest(SAMPLE)
        self.assertEqual(run.machine["date"], "2026-11-30T21:05:00Z")
        self.assertEqual(run.find("start", "runsc").ours, Side(70123, 68000, 73000))
        self.assertEqual(run.find("start-default-root", "runsc").ours, Side(80000))
        self.assertIsNone(run.find("start", "docker-runsc"))

    def test_what_is_no_result_is_named(self):
        machine = SAMPLE.read_text().splitlines()[3]
        for bad in ('{"what":"start"', '{"what":"start"}', "[]", machine.replace('"what"', '"that"')):
            file = written(f"{machine}\n{bad}\n")
            self.addCleanup(file.unlink)
            with self.assertRaisesRegex(SystemExit, f"{file}:2: this is no result"):
                newest(file)

    def test_a_file_without_a_machine_has_no_run(self):
        file = written(SAMPLE.read_text().splitlines()[0])
        self.addCleanup(file.unlink)
        with self.assertRaisesRegex(SystemExit, "no run"):
            newest(file)

    def test_budgets(self):
        run = newest(SAMPLE)
        self.assertTrue(run.find("start", "runsc").is_met)
        self.assertFalse(run.find("start-default-root", "runsc").is_met)
        self.assertTrue(run.find("tunnel-up", "haproxy").is_met)
        self.assertFalse(run.find("tunnel-up", "straight").is_met)
        self.assertIsNone(run.find("start", "crun").is_met)


class Words(unittest.TestCase):
    def test_amounts(self):
        for unit, value, said in (
            ("us", 812, "812 µs"),
            ("us", 6543, "6.54 ms"),
            ("us", 65430, "65.4 ms"),
            ("us", 2100000, "2.10 s"),
            ("Gbit/s", 10.25, "10.2 Gbit/s"),
            ("KiB", 194560, "190 MiB"),
            ("conn/s", 1395, "1,395 /s"),
        ):
            self.assertEqual(words.amount(unit, value), said)

    def test_a_spread_has_the_unit_of_its_median(self):
        self.assertEqual(words.with_spread("us", Side(1100, 900, 1500)), "1.10 (0.90–1.50) ms")
        self.assertEqual(words.with_spread("us", Side(1100)), "1.10 ms")

    def test_a_machine(self):
        machine = newest(SAMPLE).machine
        self.assertEqual(words.date(machine), "30 November 2026")
        self.assertEqual(words.hardware(machine), '2 processors (A <fast> & "quoted" processor), 24 GiB, Linux 6.18.44')
        self.assertEqual(words.versions(machine), "libsbx 0.2.0, runsc 1.2.3, HAProxy 2.6.12, docker 20.10")


class Table(unittest.TestCase):
    def test_rows(self):
        table = report.table(newest(SAMPLE))
        for row in (
            "| on a directory | 70.1 (68.0–73.0) ms | runsc run | 65.0 (63.0–67.0) ms | 1.08 (1.02–1.11) | ≤ 1.15: met |",
            "| with the host's programs | 80.0 ms | runsc run | 64.0 ms | 1.25 | ≤ 1.15: missed |",
            "| the first of a process, on a directory | 81.2 (79.0–88.0) ms | runsc run | 65.5 (63.0–67.0) ms | 1.24 (1.19–1.33) | |",
            "| `true` | 3.60 (3.40–3.90) ms | runsc exec | 11.0 (10.5–11.5) ms | 0.33 (0.30–0.35) | ≤ 0.45: met |",
            "| pause for a snapshot of 1 MiB of changes | 21.0 (20.0–22.0) ms | | | | |",
            "| `something-new` | 1,234 things | somebody | 2.00 things | 617 | |",
        ):
            self.assertIn(row.replace(" |  |", " | |"), table.replace(" |  |", " | |"))
        self.assertNotIn("older", table)
        self.assertNotIn("TLS", table)

    def test_every_figure_of_a_run_is_in_it(self):
        run = newest(SAMPLE)
        rows = [line for line in report.table(run).splitlines() if line.startswith("| ") and "beside it" not in line]
        self.assertEqual(len(rows), len(run.figures))


class Charts(unittest.TestCase):
    def all_charts(self):
        run = newest(SAMPLE)
        return {name: chart(run) for name, (chart, _) in charts.CHARTS.items()}

    def test_they_are_safe_and_can_be_read(self):
        for name, chart in self.all_charts().items():
            with self.subTest(name):
                tree = xml.fromstring(chart)
                self.assertEqual(tree.tag, f"{SVG}svg")
                self.assertEqual(tree.get("role"), "img")
                self.assertTrue(tree.find(f"{SVG}title").text)
                self.assertTrue(tree.find(f"{SVG}desc").text)
                self.assertIn("prefers-color-scheme: dark", tree.find(f"{SVG}style").text)
                self.assertNotRegex(chart, r"<script|href|url\(|@import|\bon\w+=")
                self.assertEqual(re.findall(r"https?://[^\"]*", chart), ["http://www.w3.org/2000/svg"])
                self.assertIn("30 November 2026", chart)
                self.assertIn("A &lt;fast&gt; &amp;", chart)

    def test_nothing_is_drawn_outside(self):
        for name, chart in self.all_charts().items():
            tree = xml.fromstring(chart)
            width, height = (float(each) for each in tree.get("viewBox").split()[2:])
            for element in tree.iter():
                for key in ("x", "x1", "x2", "cx"):
                    self.assertTrue(0 <= float(element.get(key, 0)) <= width, (name, element.attrib))
                for key in ("y", "y1", "y2", "cy"):
                    self.assertTrue(0 <= float(element.get(key, 0)) <= height, (name, element.attrib))

    def test_a_bar_is_as_long_as_its_median(self):
        tree = xml.fromstring(self.all_charts()["start"])
        lengths = [float(each.get("width")) for each in tree.iter(f"{SVG}rect") if each.get("rx")]
        # Warm, directory, host's programs, runsc, crun.
        expected = [6500, 70123, 80000, 65000, 15500]
        for length, microseconds in zip(lengths, expected, strict=True):
            self.assertAlmostEqual(length / lengths[2], microseconds / 80000, places=2)

    def test_ratios_are_on_the_axis(self):
        axis = charts.RatioAxis([newest(SAMPLE).find("tunnel-up", "haproxy")])
        self.assertEqual((axis.least, axis.most), (0.5, 4))
        self.assertAlmostEqual(axis.at(1) - axis.at(0.5), axis.at(4) - axis.at(2))


class Pages(unittest.TestCase):
    def test_only_what_is_between_the_lines_is_made(self):
        page = f"above\n{report.BEGIN}old\n{report.END}below\n"
        made = report.between(page, report.BEGIN, report.END, "new\n", Path("page"))
        self.assertEqual(made, f"above\n{report.BEGIN}new\n{report.END}below\n")
        with self.assertRaisesRegex(SystemExit, "page has no lines"):
            report.between("above\n", report.BEGIN, report.END, "new\n", Path("page"))

    def test_a_run_without_a_chart_is_not_shown(self):
        lines = [line for line in SAMPLE.read_text().splitlines(keepends=True) if "storm" not in line or "machine" in line]
        file = written("".join(lines))
        self.addCleanup(file.unlink)
        with self.assertRaisesRegex(SystemExit, "lacks what is in these charts: storm"):
            report.shown(newest(file))

    def test_the_repository_shows_its_run(self):
        report.check(newest(report.SHOWN / "results.jsonl"))


class Command(unittest.TestCase):
    def run_report(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-B", report.__file__, *arguments], capture_output=True, text=True, check=False
        )

    def test_table_and_charts(self):
        with tempfile.TemporaryDirectory() as directory:
            results = Path(directory, "results.jsonl")
            results.write_text(SAMPLE.read_text())
            done = self.run_report(str(results))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("| on a directory |", done.stdout)
            self.assertEqual(
                sorted(each.name for each in Path(directory).iterdir()), ["data.svg", "results.jsonl", "start.svg", "storm.svg"]
            )

    def test_bad_arguments(self):
        for arguments in (["--wrote"], ["--write", "--check"], ["one", "two"]):
            self.assertNotEqual(self.run_report(*arguments).returncode, 0)


if __name__ == "__main__":
    unittest.main()
