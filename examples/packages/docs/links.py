"""Checks the links of a site that lead to itself: python3 links.py DIRECTORY

Every file that a page names has to be there, and every anchor in it. Nothing is fetched. What rustdoc makes is only looked
at as a target: rustdoc checks its own links.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.anchors, self.targets = set(), []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            if name in ("href", "src"):
                self.targets.append(value)


@cache
def read(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(errors="replace"))
    return page


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    count, bad = 0, []
    for file in sorted(site.rglob("*.html")):
        if file.relative_to(site).parts[0] == "rust" or file.name in ("404.html", "toc.html"):
            continue
        for target in read(file).targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            leads = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if leads.is_dir():
                leads /= "index.html"
            if not leads.is_relative_to(site) or not leads.is_file():
                bad.append(f"{file.relative_to(site)}: {target}: there is no such file")
            elif parts.fragment and leads.suffix == ".html" and unquote(parts.fragment) not in read(leads).anchors:
                bad.append(f"{file.relative_to(site)}: {target}: there is no such anchor")
    print("\n".join(bad + [f"{count - len(bad)} of {count} links of the site lead somewhere"]))
    sys.exit(bool(bad) or not count)


main()
