"""What arguments can be. An error names the parameter and the rule; values that may be secret are not shown."""

from __future__ import annotations

import os
from typing import Any, Iterable, Iterator, Mapping, NoReturn

from .exception import InvalidError

PATH = (str, os.PathLike)


def refuse(name: str, rule: str, value: object, hidden: bool = False) -> NoReturn:
    raise InvalidError(f"{name} must be {rule}, got{' ' + type(value).__name__ if hidden else f': {value!r}'}")


def items(
    name: str, values: Any, kind: type | tuple[type, ...] = str, rule: str = "strings", hidden: bool = False
) -> list[Any]:  # fmt: skip
    """A list, or anything else to iterate over but a string: that is one, of letters, and never what was meant."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        refuse(name, f"a list of {rule}", values, hidden)
    found = list(values)
    for value in found:
        if not isinstance(value, kind):
            refuse(name, f"a list of {rule}", value if hidden else found, hidden)
    return found


def pairs(
    name: str, values: Any, kind: type | tuple[type, ...] = str, rule: str = "a string"
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """What is in a dict; None is nothing, also as a value."""
    if not isinstance(values, (Mapping, type(None))):
        refuse(name, f"a dict whose values are each {rule}", values, True)
    for key, value in (values or {}).items():
        if not isinstance(key, str):
            refuse(name, "a dict whose keys are strings", key, True)
        if value is not None:
            if not isinstance(value, kind):
                refuse(f"{name}[{key!r}]", rule, value, True)
            yield key, value


def whole(name: str, value: object, least: int, most: int) -> int:
    # ctypes would cut it down to its number of bits.
    if not isinstance(value, int) or not least <= value <= most:
        refuse(name, f"an integer from {least} to {most}", value)
    return int(value)


def port(name: str, value: object) -> int:
    return whole(name, value, 1, 65535)


def services(name: str, values: Any) -> Iterator[tuple[int, str]]:
    if not isinstance(values, (Mapping, type(None))):
        refuse(name, "a dict of ports inside to addresses, such as {8080: '127.0.0.1:8080'}", values)
    for number, address in (values or {}).items():
        if not isinstance(address, str):
            refuse(f"{name}[{number!r}]", "an address such as '127.0.0.1:8080'", address)
        yield port(f"a port of {name}", number), address


def listeners(name: str, values: Any) -> Iterator[tuple[int, str, int]]:
    """Ports inside, and the address and the port on this machine, 0 for any, where each one's tunnel listens."""
    rule = "an address, or a pair of an address and a port, such as ('0.0.0.0', 8443)"
    if not isinstance(values, (Mapping, type(None))):
        refuse(name, f"a dict of ports inside, each with {rule}", values)
    for number, place in (values or {}).items():
        pair = (place, 0) if isinstance(place, str) else place
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            refuse(f"{name}[{number!r}]", rule, place)
        address, host_port = pair
        yield port(f"a port of {name}", number), address, whole(f"the port of {name}[{number!r}]", host_port, 0, 65535)


def certificate(name: str, value: object) -> tuple[str, str]:
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(pem, str) for pem in value)):
        refuse(name, "a pair of texts in PEM: the chain, the leaf first, and its key", value, True)
    return value


def signal_number(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 65:
        refuse("signal", "a signal's number from 1 to 64, such as signal.SIGTERM", value)
    return int(value)


def limit(name: str, value: object, unit: int) -> int:
    """Of (request, limit) the limit: nobody else is here whom a request could be weighed against."""
    most = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    if not isinstance(most, (int, float)) or not 0 < most <= 1 << 20:
        refuse(name, f"a number up to {1 << 20}, or a pair (request, limit)", value)
    return round(most * unit)


def milliseconds(name: str, seconds: object) -> int:
    if not isinstance(seconds, (int, float)) or not 0 < seconds < 1 << 53:
        refuse(name, "a positive number of seconds", seconds)
    return max(1, round(seconds * 1000))


def bounds(most: int | None, seconds: float | None) -> dict[str, int]:
    """Of an operation on files, as the library's options: 0 is the library's own."""
    if most is not None and not (isinstance(most, int) and 0 < most < 1 << 64):
        refuse("limit", "a positive number of bytes", most)
    return dict(limit=most or 0, time_limit_ms=0 if seconds is None else milliseconds("timeout", seconds))

