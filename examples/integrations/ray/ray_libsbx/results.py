"""What calls return."""

from __future__ import annotations

from dataclasses import dataclass

import libsbx as sbx


@dataclass(frozen=True)
class ExecResult:
    """What a program did. `exit_code` is -1 if its time ran out, and `truncated` says that of an output only the
    beginning and the end are here."""

    exit_code: int
    stdout: str
    stderr: str
    duration_seconds: float
    truncated: bool = False


@dataclass(frozen=True)
class Created:
    """What a host tells of a sandbox that it has created."""

    object_id: str
    node_id: str
    tunnels: dict[int, sbx.Tunnel]


@dataclass(frozen=True)
class Ended:
    """How a sandbox ended."""

    exit_code: int | None
    reason: str | None


@dataclass(frozen=True)
class HostStats:
    """One host: `used` of its `capacity` are taken. One that isn't up is being restarted, or waits for a node that has
    what it needs."""

    node_id: str
    pid: int
    up: bool
    capacity: int
    used: int


@dataclass(frozen=True)
class PoolStats:
    """The pool: `waiting` creations wait for a free sandbox. `lost` sandboxes have gone with their hosts."""

    hosts: list[HostStats]
    capacity: int
    used: int
    waiting: int
    created: int
    lost: int
