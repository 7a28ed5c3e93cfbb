"""What this machine lacks, and what the library says of its work."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import IO, Any

from .abi import EINVALID, ESYSTEM
from .arguments import refuse
from .exception import Error, InternalError
from .hub import the_hub
from .native import call, decoded, filled, library
from .operation import Operation
from .waiting import Method

_LEVELS = ("off", "error", "warning", "info", "debug", "trace")
_STATUS = (None, "ok", "limited", "missing")


@dataclass(frozen=True)
class Finding:
    """How a requirement stands: `status` is "ok", "limited" (it works, but less well) or "missing". `remedy` is what to
    do about it, or empty."""

    status: str
    name: str
    detail: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """What the doctor found. `usable` is whether sandboxes can be created here; `json` is all of it as one line of JSON, an
    object with "version" (the library's), "usable" and "findings", objects with the fields of `Finding`."""

    usable: bool
    findings: tuple[Finding, ...]
    json: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        lines = [f"{each.status:8} {each.name}: {each.detail}" for each in self.findings]
        remedies = [f"\n{'':8} -> {each.remedy}" if each.remedy else "" for each in self.findings]
        verdict = f"Sandboxes {'can' if self.usable else 'cannot'} be created here."
        return "\n".join([*map(str.__add__, lines, remedies), verdict])


async def _doctor() -> Report:
    """Checks everything that sandboxes need of this machine, and what to do about what is missing. What is missing is in
    the report, and no exception."""
    check, report = Operation(the_hub(), "runtime_check_begin", None), ctypes.c_void_p()
    await check.end()
    call("operation_report", check.handle, ctypes.byref(report))
    try:
        findings = []
        for index in range(library.sbx_report_count(report)):
            said = filled("report_finding", "finding", report, index)
            texts = (decoded(text) or "" for text in (said.name, said.detail, said.remedy))
            findings.append(Finding(_STATUS[said.status] or "", *texts))
        usable = library.sbx_report_usable(report) == 1
        return Report(usable, tuple(findings), decoded(library.sbx_report_json(report)) or "")
    finally:
        library.sbx_report_free(report)


doctor = Method(_doctor)


def log_to(file: IO[Any] | int | None, level: str = "warning") -> None:
    """Sends the library's log lines to a file, socket or descriptor, which stays yours; None ends that. `level` is
    "error", "warning", "info", "debug", "trace" or "off". It is one setting for the process; no secret is logged at any
    level. The package's own messages go to the logger "libsbx"."""
    if level not in _LEVELS:
        refuse("level", f"one of {', '.join(_LEVELS)}", level)
    if not (file is None or isinstance(file, int) or hasattr(file, "fileno")):
        refuse("file", "a file, a descriptor or None", file)
    fd = -1 if file is None else file if isinstance(file, int) else file.fileno()
    result: int = library.sbx_log_set_fd(fd, _LEVELS.index(level))
    if result < 0:
        kind = Error._kinds.get(result, InternalError)
        if result in (EINVALID, ESYSTEM):
            raise kind(f"file: descriptor {fd} can't be logged to", result)
        raise kind("the log can't be set: this is a forked child, or the program has a logger of its own", result)
