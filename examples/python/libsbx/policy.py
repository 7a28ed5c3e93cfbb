"""What a sandbox may reach, and what it was denied."""

from __future__ import annotations

import collections
import ctypes
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from .arguments import items
from .exception import InvalidError
from .hub import Life
from .native import Draft, call, coded, library, text
from .waiting import Bell, Stream, until

Texts = Optional[Sequence[str]]
_DNS = ("auto", "on", "off", "addresses")


@dataclass(frozen=True)
class NetworkPolicy:
    """What is in force: `mode` is "open", "allowlist" or "blocked", `generation` counts the changes."""

    mode: str
    generation: int
    outbound_dns: str
    outbound_cidr_allowlist: tuple[str, ...]
    outbound_domain_allowlist: tuple[str, ...]
    outbound_cidr_denylist: tuple[str, ...]
    outbound_local_cidrs: tuple[str, ...]


def draft_policy(
    block_network: bool, ranges: Texts, domains: Texts, denied: Texts, local: Texts, dns: str | None
) -> Draft:  # fmt: skip
    """None is no list. An empty list is one: it allows nothing."""
    for parameter, value in (("outbound_cidr_allowlist", ranges), ("outbound_domain_allowlist", domains)):
        if block_network and value is not None:
            raise InvalidError(f"`{parameter}` cannot be used when `block_network` is enabled")
    if dns is not None and dns not in _DNS:
        raise InvalidError(f"`outbound_dns` must be one of {', '.join(_DNS)}")
    listed = ranges is not None or domains is not None
    entries = []
    for how, name, given in (
        ("allow_cidr", "outbound_cidr_allowlist", ranges), ("allow_domain", "outbound_domain_allowlist", domains),
        ("deny_cidr", "outbound_cidr_denylist", denied), ("allow_local_cidr", "outbound_local_cidrs", local),
    ):  # fmt: skip
        entries += [(how, coded(name, entry)) for entry in (() if given is None else items(name, given))]
    policy = Draft("policy", "new_blocked" if block_network else "new_allowlist" if listed else "new_open")
    for how, entry in entries:
        policy.set(how, entry)
    policy.set("set_dns", _DNS.index(dns or "auto"))
    return policy


def read_policy(sandbox: ctypes.c_void_p) -> NetworkPolicy:
    """What is in force, as the library reads it back from the kernel. Blocks for a moment."""
    copy, generation = ctypes.c_void_p(), ctypes.c_uint64()
    call("sandbox_policy", sandbox, ctypes.byref(copy), ctypes.byref(generation))
    entries: dict[str, list[str]] = {"allow": [], "domain": [], "deny": [], "local": []}
    for index in range(library.sbx_policy_entry_count(copy)):
        kind, _, what = (text("policy_entry", copy, index) or "").partition(" ")
        entries[kind].append(what)
    mode = ("open", "allowlist", "blocked")[library.sbx_policy_mode(copy) - 1]
    dns = _DNS[library.sbx_policy_dns(copy)]
    library.sbx_policy_free(copy)
    return NetworkPolicy(mode, generation.value, dns, *map(tuple, entries.values()))


@dataclass(frozen=True)
class Denial:
    """Something that the sandbox wanted to reach and may not. Of one destination the first is told at once, those after
    it once a second, in `count`; without an address it counts those beyond the 64 that are told apart. `protocol` is 6
    for TCP, 17 for UDP; `reason` one of SBX_REASON_..., `rule` the place of the policy's entry that decided, or -1."""

    address: str
    port: int
    protocol: int
    reason: int
    rule: int
    count: int
    detail: str


class Denials(Stream[Denial]):
    """What was denied so far, and what comes; the oldest beyond 1,000 are dropped. It ends with the sandbox."""

    def __init__(self, life: Life) -> None:
        self._told: collections.deque[Denial] = collections.deque(maxlen=1000)
        self._more, self._exited = Bell(), life.exited
        life.on_denied = self._add
        life.exited.add_done_callback(lambda _: self._more.ring())

    def _add(self, event: Any) -> None:
        address, detail = (text.decode("utf-8", "replace") for text in (event.address, event.detail))
        numbers = (event.port, event.protocol, event.reason, event.rule, event.count)
        self._told.append(Denial(address, *numbers, detail))
        self._more.ring()

    async def _next(self) -> Denial | None:
        while True:
            coming, over = self._more.coming, self._exited.done()
            if self._told:
                return self._told.popleft()
            if over:
                return None
            await until(coming)
