"""What a sandbox may reach, and what it was denied."""

from __future__ import annotations

import collections
import ctypes
import enum
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from .abi import POLICY_ALLOWLIST, POLICY_BLOCKED, POLICY_OPEN
from .arguments import items, port, refuse, whole
from .exception import InvalidError
from .hub import Life
from .native import Draft, call, coded, filled, library, new, text
from .operation import Operation
from .waiting import Bell, Stream, until

Texts = Optional[Sequence[str]]
_PROTOCOLS = {"tcp": 6, "udp": 17}
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
    outbound_tls_ports: tuple[int, ...]


class PolicyReason(enum.IntEnum):
    """Why a policy allows or denies something: SBX_REASON_... of sbx.h, which says more of each. A number of a later
    library has the name UNKNOWN."""

    OPEN = 1
    LISTED = 2
    DOMAIN = 3
    BLOCKED = -1
    DENIED = -2
    NOT_LISTED = -3
    PROTECTED = -4
    METADATA = -5
    HOST = -6
    RESERVED = -7
    PROTOCOL = -8
    DNS_NAME = -9
    REBINDING = -10
    NOT_TLS = -11
    NO_SERVER_NAME = -12
    SERVER_NAME = -13
    NOT_RESOLVED = -14
    TLS_TIMEOUT = -15
    GATEWAY = -16
    ON_LINK = -17

    @classmethod
    def _missing_(cls, value: object) -> PolicyReason | None:
        if not isinstance(value, int):
            return None
        unknown = int.__new__(cls, value)
        unknown._name_, unknown._value_ = "UNKNOWN", value
        return unknown


def draft_policy(
    block_network: bool, ranges: Texts, domains: Texts, denied: Texts, local: Texts, tls_ports: Sequence[int],
    dns: str | None,
) -> Draft:  # fmt: skip
    """None is no list. An empty list is one: it allows nothing."""
    ports = [port("outbound_tls_ports", each) for each in items("outbound_tls_ports", tls_ports, int, "ports")]
    if ports and domains is None:
        raise InvalidError("`outbound_tls_ports` are ports of domains: it takes `outbound_domain_allowlist`")
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
    policy = Draft("policy", POLICY_BLOCKED if block_network else POLICY_ALLOWLIST if listed else POLICY_OPEN)
    for how, entry in entries:
        policy.set(how, entry)
    for number in ports:
        policy.set("add_domain_port", number)
    policy.set("set_dns", _DNS.index(dns or "auto"))
    return policy


def read_policy(operation: Operation) -> NetworkPolicy:
    """What is in force, as the library has read it back from the kernel."""
    copy, generation = ctypes.c_void_p(), ctypes.c_uint64()
    call("operation_policy", operation.handle, ctypes.byref(copy), ctypes.byref(generation))
    entries: dict[str, list[str]] = {"allow": [], "domain": [], "deny": [], "local": []}
    said = filled("policy_info", "policy_summary", copy)
    for index in range(said.entry_count):
        kind, _, what = (text("policy_entry", copy, index) or "").partition(" ")
        entries[kind].append(what)
    ports = tuple(library.sbx_policy_domain_port(copy, index) for index in range(said.domain_port_count))
    mode = ("open", "allowlist", "blocked")[said.mode - 1]
    library.sbx_policy_free(copy)
    allow, domain, deny, local = (tuple(listed) for listed in entries.values())
    return NetworkPolicy(mode, generation.value, _DNS[said.dns], allow, domain, deny, local, ports)


@dataclass(frozen=True)
class Verdict:
    """What a policy says of an address; `entry` is the place of the one that decided, or -1."""

    allowed: bool
    reason: PolicyReason
    entry: int
    detail: str


def check_network_policy(
    address: str, port: int = 443, protocol: str | int = "tcp", *, block_network: bool = False,
    outbound_cidr_allowlist: Texts = None, outbound_domain_allowlist: Texts = None,
    outbound_cidr_denylist: Texts = None, outbound_local_cidrs: Texts = None, outbound_tls_ports: Sequence[int] = (),
    outbound_dns: str | None = None,
) -> Verdict:  # fmt: skip
    """What a policy of these parameters, which are Sandbox.create()'s, says of an address, and why. It takes no sandbox
    and sends nothing. `protocol` is "tcp", "udp" or an IP protocol's number. What is reached as a domain's only is not
    allowed here: that depends on the names that the sandbox asks for."""
    number = _PROTOCOLS.get(protocol, protocol) if isinstance(protocol, str) else protocol
    if not isinstance(number, int):
        refuse("protocol", '"tcp", "udp" or a number', protocol)
    lists = (outbound_cidr_allowlist, outbound_domain_allowlist, outbound_cidr_denylist, outbound_local_cidrs)
    found, where = new("verdict"), coded("address", address)
    whole("port", port, 1, 65535)
    whole("protocol", number, 0, 255)
    policy = draft_policy(block_network, *lists, outbound_tls_ports, outbound_dns)
    with policy:
        call("policy_check", policy.handle, where, port, number, ctypes.byref(found))
    detail = found.detail.decode("utf-8", "replace")
    return Verdict(found.allowed == 1, PolicyReason(found.reason), found.entry, detail)


@dataclass(frozen=True)
class Denial:
    """Something that the sandbox wanted to reach and may not. The first denial of a destination is reported at once,
    further ones once a second, in `count`. Without an address, `count` is that of the destinations beyond the 64 that are
    reported separately. `protocol` is 6 for TCP, 17 for UDP; `entry` the place of the policy's entry that decided, or -1."""

    address: str
    port: int
    protocol: int
    reason: PolicyReason
    entry: int
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
        numbers = (event.port, event.protocol, PolicyReason(event.reason), event.entry, event.count)
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
