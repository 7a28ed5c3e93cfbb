"""What sandboxes and programs are asked to be: Modal's small things, and how a config is filled in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from . import dotenv
from .arguments import PATH, items, pairs, refuse, whole
from .exception import UnimplementedError
from .native import Draft, array


@dataclass(frozen=True)
class App:
    """A name, and nothing else: there is no account that sandboxes belong to."""

    name: str | None = None

    @staticmethod
    def lookup(name: str, **_: object) -> App:
        return App(name)


class Secret:
    """Environment variables that are not to be shown."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._values = dict(pairs("env_dict", values))

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None]) -> Secret:
        return Secret(env_dict)

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> Secret:
        return Secret({name: os.environ[name] for name in items("env_keys", env_keys)})

    @staticmethod
    def from_dotenv(path: str | os.PathLike[str] | None = None, *, filename: str = ".env") -> Secret:
        """What a file of lines NAME=value says: `filename` in the directory of `path` (without one, in the current
        one), or in the next one above that has it."""
        return Secret(dotenv.read(dotenv.find(path, filename)))


@dataclass(frozen=True)
class Probe:
    """How to find out that the server inside is ready."""

    tcp_port: int | None = None
    exec_argv: tuple[str, ...] | None = None
    interval_ms: int = 100

    @classmethod
    def with_tcp(cls, port: int, *, interval_ms: int = 100) -> Probe:
        return cls(tcp_port=port, interval_ms=interval_ms)

    @classmethod
    def with_exec(cls, *argv: str, interval_ms: int = 100) -> Probe:
        return cls(exec_argv=tuple(items("argv", argv)), interval_ms=interval_ms)


@dataclass(frozen=True)
class EgressLimits:
    """Budgets of what leaves a sandbox; 0 is the default or none. One flow more than `max_flows` at once (default
    16,384) or than `new_flows_per_second` (default 200, and 2,000 at once after a quiet while) is reset. Beyond
    `bytes_per_second`, of both directions together, senders are slowed down; after `total_bytes` all flows are reset."""

    max_flows: int = 0
    new_flows_per_second: int = 0
    bytes_per_second: int = 0
    total_bytes: int = 0

    def _numbers(self) -> list[int]:
        bits = dict(max_flows=32, new_flows_per_second=32, bytes_per_second=64, total_bytes=64)
        return [whole(f"egress_limits.{name}", getattr(self, name), 0, (1 << bit) - 1) for name, bit in bits.items()]


# Parameters of Modal's that are not here, and what there is instead. Their defaults are accepted. `verbose` is accepted
# and ignored: the level of the logger "libsbx" decides how much is logged.
_NOT_HERE = {
    "network_file_systems": "a volume or a directory of the host can be mounted: volumes=, mounts=, writable_mounts=",
    "pty pty_info": "only programs of exec() have terminals: exec(pty=True)",
    "custom_domain": "tls_names= adds names to the certificate of tunnels, bind_ports= says where they listen",
    "gpu cloud region runtime proxy client environment_name include_oidc_identity_token experimental_options "
    "_experimental_outbound_policy _experimental_enable_snapshot _experimental_persistent": "there is no such thing",
}


def refuse_others(others: Mapping[str, object]) -> None:
    reasons = {name: reason for names, reason in _NOT_HERE.items() for name in names.split()}
    for name, value in others.items():
        if name == "verbose":
            continue
        if name not in reasons:
            raise TypeError(f"Sandbox.create() got an unexpected keyword argument {name!r}")
        if value:
            raise UnimplementedError(f"Sandbox.create({name}=...) is not supported: {reasons[name]}")


def program(arguments: Sequence[str], rootfs: object) -> Sequence[str]:
    """Modal's default image has a `python`; a distribution's /usr, which is ours, often has `python3` only."""
    if rootfs is None and arguments[:1] == ("python",):
        if not any(os.path.exists(f"/usr/{place}/python") for place in ("local/sbin", "local/bin", "sbin", "bin")):
            return ("python3", *arguments[1:])
    return arguments


def fill(
    config: Draft, command: Sequence[str], env: Mapping[str, str | None] | None, secrets: Any, **texts: object,
) -> None:  # fmt: skip
    """What a sandbox's program and executed ones have in common. Without a command a sandbox waits for exec()."""
    if command:
        argv = array("command", items("command", command))
        config.set("set_command", argv, len(argv))
    rule = "Secrets, as Secret.from_dict() makes them"
    for secret in () if secrets is None else items("secrets", secrets, Secret, rule, hidden=True):
        for key, value in secret._values.items():
            config.set("set_secret", key, value, name=f"secrets[{key!r}]")
    for key, variable in pairs("env", env):
        config.set("set_env", key, variable, name=f"env[{key!r}]")
    for setting, text in texts.items():
        if text is not None:
            if not isinstance(text, PATH if setting == "rootfs" else str):
                refuse(setting, "a string", text)
            config.set("set_" + setting, text, name=setting)
