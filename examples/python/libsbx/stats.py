"""What a sandbox uses and has done."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from . import native
from .operation import Operation

# The bits of `known`; what isn't here and doesn't begin with egress_ or dns_ always is.
_KNOWN = {"cpu_us": 1, "memory_bytes": 2, "memory_peak_bytes": 4, "processes": 8, "egress": 16, "dns": 16}


@dataclass(frozen=True)
class SandboxStats:
    """sbx_stats, under its names. None is what can't be known here."""

    uptime_ms: int
    cpu_us: int | None
    memory_bytes: int | None
    memory_peak_bytes: int | None
    processes: int | None
    tunnel_connections: int
    tunnel_connections_total: int
    tunnel_bytes_in: int
    tunnel_bytes_out: int
    egress_flows: int | None
    egress_flows_total: int | None
    egress_bytes_in: int | None
    egress_bytes_out: int | None
    egress_denied: int | None
    dns_queries: int | None
    dns_refused: int | None
    library_us: int


def read_stats(operation: Operation) -> SandboxStats:
    found = native.new("stats")
    native.call("operation_stats", operation.handle, ctypes.byref(found))

    def value(name: str) -> Any:
        bit = _KNOWN.get(name) or _KNOWN.get(name.split("_")[0], 0)
        return getattr(found, name) if found.known & bit == bit else None

    return SandboxStats(**{name: value(name) for name in SandboxStats.__dataclass_fields__})
