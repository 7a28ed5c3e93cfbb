"""Files of environment variables: NAME=value, in the manner of python-dotenv, which Modal's Secret.from_dotenv uses."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .exception import InvalidError, NotFoundError

_LINE = re.compile(
    r"""[^\S\n]*(?:export[^\S\n]+)?(?P<name>'[^']+'|[^\s=#']+)[^\S\n]*
    (?:=[^\S\n]*(?:'(?P<single>(?:\\.|[^'\\])*)'|"(?P<double>(?:\\.|[^"\\])*)"|(?P<bare>(?!['"])[^\n]*?)))?
    [^\S\n]*(?:(?<=\s)\#[^\n]*)?(?:\n|$)""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[^\S\n]*(?:#[^\n]*)?(?:\n|$)")
_ESCAPES = dict(zip("abfnrtv", "\a\b\f\n\r\t\v"))
_REFERENCE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


def find(path: str | os.PathLike[str] | None, filename: str) -> Path:
    """The file of that name in the directory of `path`, without one in the current one, or the next above."""
    start = Path.cwd() if path is None else Path(path).resolve()
    for directory in (start, *start.parents):
        if (directory / filename).is_file():
            return directory / filename
    raise NotFoundError(f"there is no {filename} in {start} or above")


def read(file: Path) -> dict[str, str]:
    text, at = file.read_text("utf-8").replace("\r\n", "\n"), 0
    values: dict[str, str] = {}

    def referred(found: re.Match[str]) -> str:
        return values.get(found[1], os.environ.get(found[1], found[2] or ""))

    while at < len(text):
        line = _BLANK.match(text, at) or _LINE.match(text, at)
        if line is None:
            number = text.count("\n", 0, at) + 1
            raise InvalidError(f"{file}, line {number}: must be NAME=value, NAME='value' or NAME=\"value\"")
        at = line.end()
        groups = line.groupdict()
        single, double = groups.get("single"), groups.get("double")
        if single is not None:
            value = re.sub(r"\\([\\'])", r"\1", single)
        elif double is not None:
            value = re.sub(r"\\([\\'\"abfnrtv])", lambda found: _ESCAPES.get(found[1], found[1]), double)
        elif groups.get("bare") is not None:
            value = groups["bare"]
        else:
            continue
        values[groups["name"].strip("'")] = _REFERENCE.sub(referred, value)
    return values
