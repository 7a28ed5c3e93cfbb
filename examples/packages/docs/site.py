"""Lays the repository's pages out as the source of one book: python3 site.py DIRECTORY

No page is written for the book but its contents: a page is a file of the repository, a part of README.md from one heading
to the next, or a reference that is made of the sources (references.py). Links between them are made to lead to the pages.
A link that leads nowhere is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import references

ROOT = Path(__file__).resolve().parents[3]

# What the book has, in its order: a part, or a page: its title, and where it comes from. "README.md#a-heading" is the
# part of README.md below that heading of the second level, "README.md#" what is above all of them but the next ones.
PAGES = [
    "Guide",
    ("libsbx", "README.md#"),
    ("Install", "README.md#install"),
    ("Using it, warm sandboxes", "README.md#using-it"),
    ("Images, builds and volumes", "README.md#your-own-environment"),
    ("Programs in a running sandbox", "README.md#programs-in-a-running-sandbox"),
    ("Files", "README.md#files"),
    ("Policy: names and domains", "README.md#names-and-domains"),
    ("Resource limits", "README.md#resource-limits"),
    ("Limits and budgets", "README.md#limits"),
    ("Troubleshooting", "README.md#troubleshooting"),
    ("Performance", "README.md#performance"),
    ("Benchmarks", "examples/bench/README.md"),
    "Languages",
    ("From other languages", "README.md#from-other-languages"),
    ("C++", "examples/cpp/README.md"),
    ("Go", "examples/go/README.md"),
    ("Node", "examples/node/README.md"),
    ("Python", "examples/python/README.md"),
    "Security",
    ("How it works", "README.md#how-it-works"),
    ("Security model", "README.md#security-model"),
    ("Promises, and how to report", "SECURITY.md"),
    "Deployment",
    ("On a server", "examples/deploy/README.md"),
    "Integrations",
    "examples/integrations/*/README.md",
    "The project",
    ("Architecture", "ARCHITECTURE.md"),
    ("Contributing", "CONTRIBUTING.md"),
    ("Changes", "CHANGELOG.md"),
    ("Where the time of a start goes", "tests/bench/COLD.md"),
    ("Where the time of a byte goes", "tests/bench/DATA.md"),
    ("Licence", "README.md#licence"),
    "References",
    ("C: sbx.h", references.header),
    ("C++: sbx.hpp", references.cpp),
    ("Go", references.go),
    ("Node: sbx.d.ts", references.node),
    ("Python", references.python),
]
_README = "README.md"


@dataclass
class Page:
    title: str
    source: str
    file: str
    text: str


def lines_outside_code(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is prose: not in a block of code."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else mark[1]
            yield line, False
        else:
            yield line, not fence


def slug(heading: str) -> str:
    """What GitHub and mdBook make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def headings(text: str) -> list[tuple[int, str]]:
    found = []
    for line, is_prose in lines_outside_code(text):
        if is_prose and (mark := re.match(r"(#+) +(.*)", line)):
            found.append((len(mark[1]), mark[2].strip()))
    return found


def parts(text: str) -> dict[str, str]:
    """The parts of a page: what is above its first heading of the second level, as "", and what is below each."""
    found, at = {"": ""}, ""
    for line, is_prose in lines_outside_code(text):
        if is_prose and (mark := re.match(r"## +(.*)", line)):
            at = slug(mark[1])
            found[at] = ""
        found[at] += line
    return found


def promoted(text: str) -> str:
    """With each heading a level up: a part is a page here."""
    return "".join(line[1:] if is_prose and line.startswith("##") else line for line, is_prose in lines_outside_code(text))


def read_pages() -> list[str | Page]:
    of_readme = parts((ROOT / _README).read_text())
    named = {page[1].partition("#")[2] for page in PAGES if isinstance(page, tuple) and isinstance(page[1], str)}
    book: list[str | Page] = []
    for page in PAGES:
        if isinstance(page, str) and "*" not in page:
            book.append(page)
        elif isinstance(page, str):
            for path in sorted(ROOT.glob(page)):
                source, text = str(path.relative_to(ROOT)), path.read_text()
                book.append(Page(headings(text)[0][1], source, source.lower().replace("readme", "index"), text))
        elif callable(page[1]):
            name = page[1].__name__
            book.append(Page(page[0], f"references/{name}", f"references/{name}.md", page[1](ROOT)))
        elif page[1].startswith(f"{_README}#"):
            part = page[1].partition("#")[2]
            text = of_readme.pop(part)
            if part == "":
                # What no page of its own has: the two commands and the example.
                text += "".join(of_readme.pop(each) for each in list(of_readme) if each not in named)
            else:
                text = promoted(text)
            book.append(Page(page[0], page[1], f"guide/{part}.md" if part else "index.md", text))
        else:
            source = page[1]
            file = source.lower() if "/" not in source else source.lower().replace("readme", "index")
            book.append(Page(page[0], source, file, (ROOT / source).read_text()))
    return book


class Links:
    """Where a link of one file leads in the book."""

    def __init__(self, pages: list[Page], out: Path) -> None:
        self._out = out
        self._files = {page.source: page.file for page in pages if not page.source.startswith(f"{_README}#")}
        self._files[_README] = "index.md"
        self._readme = {}
        for page in (each for each in pages if each.source.startswith(f"{_README}#")):
            for _, heading in headings(page.text):
                self._readme[slug(heading)] = page.file
        self._functions = set(references.functions(ROOT))
        self._header = "references/header.md"

    def follow(self, page: Page, target: str) -> str | None:
        """None for a directory: a site doesn't show what is in it."""
        if re.match(r"[a-z]+:", target):
            return target
        path, _, anchor = target.partition("#")
        source = page.source.partition("#")[0]
        named = os.path.normpath(os.path.join(os.path.dirname(source), path)) if path else source
        if named == _README and anchor:
            if anchor not in self._readme:
                raise SystemExit(f"{source}: there is no heading #{anchor} in {_README}")
            return self._relative(page, self._readme[anchor], anchor)
        for each in (named, f"{named}/README.md"):
            if each in self._files:
                return self._relative(page, self._files[each], anchor)
        if named == "include/sbx.h":
            return self._relative(page, self._header, "")
        if named == ".":
            return self._relative(page, "index.md", "")
        if (ROOT / named).is_dir():
            return None
        if not (ROOT / named).is_file():
            raise SystemExit(f"{source}: {target} is neither a page nor a file")
        copy = f"files/{named}" + ("" if "." in os.path.basename(named) else ".txt")
        (self._out / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / named, self._out / copy)
        return self._relative(page, copy, "")

    def function(self, page: Page, name: str) -> str | None:
        if name not in self._functions or page.file == self._header:
            return None
        return self._relative(page, self._header, name)

    @staticmethod
    def _relative(page: Page, file: str, anchor: str) -> str:
        path = os.path.relpath(file, os.path.dirname(page.file) or ".")
        return path + (f"#{anchor}" if anchor else "")

    def linked(self, page: Page) -> str:
        """Its text, with links that lead to the book's pages, and functions of the C library that lead to their reference."""

        def named(match: re.Match[str]) -> str:
            target = self.function(page, match[1])
            return f"[{match[0]}]({target})" if target else match[0]

        def followed(match: re.Match[str]) -> str:
            target = self.follow(page, match[2])
            return match[1][1:-1] if target is None else f"{match[1]}({target})"

        text = []
        for line, is_prose in lines_outside_code(page.text):
            if is_prose:
                line = re.sub(r"(\[(?:[^][]|\[[^]]*\])*\])\(([^)\s]+)\)", followed, line)
                if not line.startswith("#"):
                    line = re.sub(r"(?<![\[`])`(sbx_\w+)`(?![\]`])", named, line)
            text.append(line)
        return "".join(text)


def main() -> None:
    out = Path(sys.argv[1])
    book = read_pages()
    pages = [each for each in book if isinstance(each, Page)]
    links = Links(pages, out)
    summary = ["# Summary\n"]
    for each in book:
        if isinstance(each, str):
            summary.append(f"\n# {each}\n")
            continue
        summary.append(f"- [{each.title}]({each.file})")
        place = out / each.file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(links.linked(each))
    summary.append("- [Rust](references/rust.md)")
    rust = Page("Rust", "references/rust", "references/rust.md", references.rust())
    (out / rust.file).write_text(rust.text)
    (out / "SUMMARY.md").write_text("\n".join(summary) + "\n")


main()
