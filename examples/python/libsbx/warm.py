"""Sandboxes that are kept warm: started before anybody asks for them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from . import native
from .arguments import whole
from .native import Draft, call
from .sandbox import _create
from .waiting import Method


@dataclass(frozen=True)
class WarmStats:
    """sbx_warm_stats, under its names. The last two are texts for people, empty if there was no miss or failure."""

    wanted: int
    ready: int
    filling: int
    hits: int
    misses_empty: int
    misses_different: int
    misses_changed: int
    discarded: int
    failures: int
    last_miss: str
    last_failure: str


async def _keep_warm(count: int, *args: str, **settings: Any) -> None:
    """Keeps `count` sandboxes warm for Sandbox.create() with these parameters; 0 ends them.

    What has to be the same is image or rootfs, mounts, limits (cpu, memory, disk, processes, open files), mtu, hostname,
    the number of host services, and block_network. All else is each sandbox's own, and may be left out here. Returns at
    once: they are started in the background, one at a time, while no sandbox is being created."""
    number = whole("count", count, 0, 256)

    def keep(config: Draft) -> None:
        call("runtime_keep_warm", None, config.handle, number)

    await _create(*args, _use=keep, **settings)


async def _warm_stats(*args: str, **settings: Any) -> WarmStats:
    """What the warm sandboxes for Sandbox.create() with these parameters are and have done, or all of them if no parameter
    is given."""
    found = native.new("warm_stats")

    def read(config: Draft | None) -> None:
        call("runtime_warm_stats", None, config and config.handle, ctypes.byref(found))

    if args or settings:
        await _create(*args, _use=read, **settings)
    else:
        read(None)
    values: dict[str, Any] = {name: getattr(found, name) for name in WarmStats.__dataclass_fields__}
    texts = {name: native.decoded(value) for name, value in values.items() if isinstance(value, bytes)}
    return WarmStats(**{**values, **texts})


def set_max_starts(count: int) -> None:
    """Has at most `count` sandboxes start at once, up to 256; 0 is the default. Sandbox.create() beyond that waits for its
    turn, in the order of the calls, unless it takes a sandbox that was kept warm."""
    call("runtime_set_max_starts", None, whole("count", count, 0, 256))


def max_starts() -> int:
    """How many sandboxes start at once at most."""
    return call("runtime_max_starts", None)


def set_spares(count: int) -> None:
    """Keeps `count` spares, up to 16; none by default. A spare is a sandbox that has started as far as gVisor's own program,
    for sandboxes like the last two that were created, if those were alike. It costs about 3 MB and saves a part of a start."""
    call("runtime_set_spares", None, whole("count", count, 0, 16))


def spares() -> int:
    """How many spares are kept."""
    return call("runtime_spares", None)


keep_warm = Method(_keep_warm)
warm_stats = Method(_warm_stats)
