"""Sandboxes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import socket
import warnings
import weakref
from signal import SIGKILL
from typing import Any, Callable, Iterable, Mapping, Sequence

from . import hub as hubs, native
from .arguments import PATH, certificate, items, limit, listeners, milliseconds, pairs, port, refuse, services
from .arguments import signal_number, whole
from .config import App, EgressLimits, Probe, Secret, fill, program, refuse_others
from .exception import ClientClosed, Error, InvalidError, NotFoundError, SandboxTerminatedError
from .exception import SandboxTimeoutError, TimeoutError, UnimplementedError
from .filesystem import FileIO, Filesystem
from .image import Image, mounted
from .native import Draft, array, call, library
from .operation import Operation
from .policy import Denials, NetworkPolicy, Texts, draft_policy, read_policy
from .process import ContainerProcess
from .stats import SandboxStats, read_stats
from .streams import Capture, StreamReader, StreamType, StreamWriter
from .tunnels import Tunnel, read_tunnels
from .volume import Volume, mounted_volumes
from .waiting import Method, TimedOut, both, is_plain, runs_loop, until

_MODES = {
    StreamType.PIPE: native.STREAM_DESCRIPTOR,
    StreamType.DEVNULL: native.STREAM_NULL,
    StreamType.STDOUT: native.STREAM_MERGED,
}
_sandboxes: weakref.WeakValueDictionary[str, Sandbox] = weakref.WeakValueDictionary()


async def _create(
    *args: str, app: App | None = None, name: str | None = None, tags: Mapping[str, str] | None = None,
    env: Mapping[str, str | None] | None = None, secrets: Iterable[Secret] | None = None, timeout: int = 300,
    idle_timeout: int | None = None, cpu: float | tuple[float, float] | None = None,
    memory: int | tuple[int, int] | None = None, workdir: str | None = None, block_network: bool = False,
    outbound_cidr_allowlist: Texts = None, outbound_domain_allowlist: Texts = None, cidr_allowlist: Texts = None,
    inbound_cidr_allowlist: Texts = None, encrypted_ports: Sequence[int] = (), h2_ports: Sequence[int] = (),
    unencrypted_ports: Sequence[int] = (), readiness_probe: Probe | None = None, user: str | None = None,
    rootfs: str | os.PathLike[str] | None = None, mounts: Mapping[str, str | os.PathLike[str]] | None = None,
    writable_mounts: Mapping[str, str | os.PathLike[str]] | None = None, outbound_cidr_denylist: Texts = None,
    tls_names: Sequence[str] = (), memory_watchdog: bool = False, max_processes: int | None = None,
    max_open_files: int | None = None, disk: int | None = None, outbound_local_cidrs: Texts = None,
    outbound_dns: str | None = None, host_services: Mapping[int, str] | None = None,
    outbound_tls_ports: Sequence[int] = (), hostname: str | None = None, nameservers: Sequence[str] = (),
    bind_ports: Mapping[int, str | tuple[str, int]] | None = None, tls_certificate: tuple[str, str] | None = None,
    egress_limits: EgressLimits | None = None, mtu: int | None = None, image: Image | None = None,
    image_mounts: Mapping[str, Image] | None = None, entrypoint: Sequence[str] | None = None,
    volumes: Mapping[str, Volume] | None = None, exit_snapshot: bool | str = False, tunnel_rate: int = 0,
    _use: Callable[[Draft], None] | None = None, **others: Any,
) -> Sandbox:  # fmt: skip
    """Creates a sandbox and returns once its program was started.

    The parameters and their defaults are Modal's, and these: `user`, `rootfs` (a directory), `mounts` and
    `writable_mounts` (place inside -> path on the host), `outbound_cidr_denylist`, `tls_names` (further names of the
    certificate), `memory_watchdog` (where the kernel can't hold the limit), `max_processes`, `max_open_files`, `disk`
    (MiB of files), `outbound_local_cidrs` (neighbours on the host's own links that are reached at public addresses),
    `outbound_dns` ("on": every name, "off": none, "addresses": of each nothing but its addresses), `host_services`
    (port of 192.0.0.1 inside -> address on the host, such as "127.0.0.1:8080"), `outbound_tls_ports` (on which domains
    are reached, beside 443), `hostname`, `nameservers` (which the resolver asks instead of the host's), `bind_ports` (port
    inside -> where its tunnel listens: an address, or a pair of one and a port), `tls_certificate` (chain and key, in
    PEM, in the place of the one that the library makes), `egress_limits`, `mtu`, `image_mounts` (place inside -> an Image
    whose files are shown there, read-only), `entrypoint` (in place of the image's; the arguments are its own),
    `exit_snapshot` (True, or the name of an image: what the sandbox has at its end, get_exit_snapshot()), `tunnel_rate`
    (how many new connections a second the tunnels take while another sandbox is served, up to 1,000,000; 0 is the
    default, 250 for each processor, and -1 no limit).

    With `image`, what isn't set here is as the image has it: command, environment, workdir and user.
    """
    if is_plain() and runs_loop():
        text = "Sandbox.create() holds up the event loop of this thread: use `await Sandbox.create.aio(...)`"
        warnings.warn(text, UserWarning, stacklevel=3)
    if isinstance(options := others.get("experimental_options"), dict):
        # Modal's name for it.
        others["experimental_options"] = rest = dict(options)
        exit_snapshot = rest.pop("enable_exit_snapshot", False) or exit_snapshot
    refuse_others(others)
    if cidr_allowlist is not None:
        if outbound_cidr_allowlist is not None:
            raise InvalidError("Cannot specify both `cidr_allowlist` and `outbound_cidr_allowlist`.")
        outbound_cidr_allowlist = cidr_allowlist
    if block_network and (encrypted_ports or h2_ports or unencrypted_ports):
        raise InvalidError("Cannot specify open ports when `block_network` is enabled")
    if block_network and inbound_cidr_allowlist is not None:
        raise InvalidError("`inbound_cidr_allowlist` cannot be used when `block_network` is enabled")
    named = dict(pairs("tags", tags))
    if not isinstance(image, (Image, type(None))):
        refuse("image", "an Image, such as Image.from_registry('python:3.12')", image)
    shown, shared = mounted("image_mounts", image_mounts), mounted_volumes(volumes)
    if (total := sum(map(len, map(str, args)))) > 1 << 16:
        raise InvalidError(f"Total length of CMD arguments must be at most {1 << 16}, as Modal has it. Got {total}.")
    hub, life = hubs.the_hub(), hubs.Life()
    root = None if image is None else await image._open()
    opened = {place: await each._open() for place, each in shown.items()}
    with Draft("config") as config:
        texts = dict(workdir=workdir, user=user, hostname=hostname, name=name, rootfs=rootfs)
        fill(config, program(args, image or rootfs), env, secrets, **texts)
        runs = bool(args or entrypoint) or (root is not None and root.has_program())
        if root is not None:
            config.set("set_image", root.handle, name="image")
        if exit_snapshot:
            if not isinstance(exit_snapshot, (bool, str)):
                refuse("exit_snapshot", "True, or the name of an image", exit_snapshot)
            config.set("set_exit_snapshot", exit_snapshot if isinstance(exit_snapshot, str) else None)
        if root is not None:
            if not runs:
                config.set("set_no_command")
        for place, stored in opened.items():
            config.set("add_image_mount", stored.handle, place, name="image_mounts")
        for place, volume in shared.items():
            where = (volume.name, place, volume._sub_path, volume._flags())
            config.set("add_volume", *where, name=f"volumes[{place!r}]")
        if entrypoint is not None:
            first = array("entrypoint", items("entrypoint", entrypoint))
            config.set("set_entrypoint", first, len(first))
        for parameter, places, flags in (
            ("mounts", mounts, native.MOUNT_READ_ONLY), ("writable_mounts", writable_mounts, native.MOUNT_WRITABLE),
        ):  # fmt: skip
            for place, source in pairs(parameter, places, PATH, "a path on this machine"):
                config.set("add_mount", source, place, flags, name=parameter)
        config.set("set_timeout_ms", milliseconds("timeout", timeout))
        if idle_timeout is not None:
            config.set("set_idle_timeout_ms", milliseconds("idle_timeout", idle_timeout))
        limits = dict(cpu=cpu, memory=memory, disk=disk, max_processes=max_processes, max_open_files=max_open_files)
        units = dict(cpu=("millicpus", 1000), memory=("memory_bytes", 1 << 20), disk=("disk_bytes", 1 << 20))
        for setting, most in limits.items():
            if most is not None:
                what, unit = units.get(setting, (setting, 1))
                config.set("set_" + what, limit(setting, most, unit))
        config.set("set_limit_mode", native.LIMITS_WATCHDOG if memory_watchdog else native.LIMITS_STRICT)
        for parameter, ports, kind in (
            ("encrypted_ports", encrypted_ports, native.PORT_ENCRYPTED), ("h2_ports", h2_ports, native.PORT_H2),
            ("unencrypted_ports", unencrypted_ports, native.PORT_UNENCRYPTED),
        ):  # fmt: skip
            for number in items(parameter, ports, int, "integers from 1 to 65535"):
                config.set("add_port", port(parameter, number), kind)
        for number, address in services("host_services", host_services):
            config.set("add_host_service", number, address, name=f"host_services[{number}]")
        for number, address, host_port in listeners("bind_ports", bind_ports):
            config.set("bind_port", number, address, host_port, name=f"bind_ports[{number}]")
        for tls_name in items("tls_names", tls_names):
            config.set("add_tls_name", tls_name, name="tls_names")
        if tls_certificate is not None:
            config.set("set_tls_certificate", *certificate("tls_certificate", tls_certificate), name="tls_certificate")
        config.set("set_tunnel_rate", whole("tunnel_rate", tunnel_rate, -1, 1_000_000))
        for server in items("nameservers", nameservers):
            config.set("add_nameserver", server, name="nameservers")
        if egress_limits is not None:
            if not isinstance(egress_limits, EgressLimits):
                refuse("egress_limits", "EgressLimits(...)", egress_limits)
            config.set("set_egress_limits", *egress_limits._numbers(), name="egress_limits")
        if mtu is not None:
            config.set("set_mtu", whole("mtu", mtu, 1280, 9000))
        if inbound_cidr_allowlist is not None:
            ranges = array("inbound_cidr_allowlist", items("inbound_cidr_allowlist", inbound_cidr_allowlist))
            config.set("set_inbound_cidr_allowlist", ranges, len(ranges))
        lists = (outbound_cidr_allowlist, outbound_domain_allowlist, outbound_cidr_denylist, outbound_local_cidrs)
        wanted = draft_policy(block_network, *lists, outbound_tls_ports, outbound_dns)
        with wanted:
            config.set("set_policy", wanted.handle)
        if readiness_probe is not None:
            if not isinstance(readiness_probe, Probe):
                refuse("readiness_probe", "a Probe, such as Probe.with_tcp(8080)", readiness_probe)
            interval = whole("interval_ms", readiness_probe.interval_ms, 1, 1 << 53)
            if readiness_probe.exec_argv is not None:
                command = array("readiness_probe", items("readiness_probe", readiness_probe.exec_argv))
                config.set("set_exec_probe", command, len(command), interval)
            else:
                config.set("set_tcp_probe", port("readiness_probe's port", readiness_probe.tcp_port), interval)
        for stream in range(3 if runs else 0):
            config.set("set_stream", stream, native.STREAM_DESCRIPTOR)
        call("config_check", config.handle)
        if _use is not None:
            return _use(config)  # type: ignore[return-value]
        life.begin(hub, "create_begin", None, config)
    sandbox = Sandbox(hub, life, name, named, image or rootfs)
    sandbox._has_exit_snapshot = bool(exit_snapshot)
    try:
        await until(life.started)
        # Each has its owner before the next one is opened, which may fail.
        for stream in (1, 2):
            fd = call("sandbox_open_fd", life.handle, stream) if runs else -1
            sandbox._outputs.append(StreamReader(hub, fd, by_line=True))
    except BaseException:
        sandbox._close()
        raise
    _sandboxes[sandbox.object_id] = sandbox
    return sandbox


class Sandbox:
    """A running sandbox, made by Sandbox.create(). Leaving a `with` block ends it, and so does losing the last
    reference to it, to its streams and to its programs, unless it was detached; this process's end does in any case."""

    def __init__(self, hub: hubs.Hub, life: hubs.Life, name: str | None, tags: Mapping[str, str], rootfs: object):
        self._hub, self._life, self.name, self._tags, self._rootfs = hub, life, name, dict(tags), rootfs
        self.object_id = native.text("sandbox_id", life.handle) or ""
        life.what = f"sandbox {self.object_id}"
        self._denials, self._outputs = Denials(life), list[StreamReader[str]]()
        self._attached, self._is_terminated, self._has_exit_snapshot = True, False, False
        self._exit_image: Image | None = None
        self._tunnels: dict[int, Tunnel] | None = None
        self._close = weakref.finalize(self, library.sbx_sandbox_free, life.handle)

    def __repr__(self) -> str:
        return f"Sandbox({self.object_id!r})"

    create = Method(_create)

    # Other objects for the same sandbox: there is one sandbox a process, so they are the same object.

    @staticmethod
    def from_id(sandbox_id: str, **_: object) -> Sandbox:
        """The live sandbox of this process with that id; a detached one can be used again."""
        sandbox = _sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.poll() is not None:
            raise NotFoundError(f"this process has no live sandbox {sandbox_id}")
        sandbox._attached = True
        return sandbox

    @staticmethod
    def from_name(app_name: str, name: str, **_: object) -> Sandbox:
        """The live sandbox of this process with that name, whatever the app: names are the process's."""
        named = [sandbox for sandbox in Sandbox.list() if sandbox.name == name]
        if not named:
            raise NotFoundError(f"this process has no live sandbox named {name!r}")
        return Sandbox.from_id(named[0].object_id)

    @staticmethod
    def list(*, app_id: str | None = None, tags: Mapping[str, str] | None = None, **_: object) -> list[Sandbox]:
        """The live sandboxes of this process that have these tags."""
        wanted = dict(pairs("tags", tags)).items()
        return [sb for sb in _sandboxes.copy().values() if sb.poll() is None and wanted <= sb._tags.items()]

    def _use(self) -> ctypes.c_void_p:
        """The handle, for a call. In a forked child the library refuses it."""
        if not self._attached or not self._close.alive:
            raise ClientClosed(f"sandbox {self.object_id} was {'closed' if self._attached else 'detached'}")
        self._hub.check()
        return self._life.handle

    @both
    async def tunnels(self, timeout: float = 50) -> dict[int, Tunnel]:
        """Where the ports are reached, by container port. That a tunnel exists doesn't mean that the server inside
        answers: wait_until_ready()."""
        handle = self._use()
        if self._tunnels is None:
            found = ctypes.c_void_p()
            call("tunnels", handle, 0, ctypes.byref(found))
            try:
                self._tunnels = read_tunnels(found, self._life.exited)
            finally:
                library.sbx_tunnel_map_free(found)
        return dict(self._tunnels)

    @both
    async def wait_until_ready(self, *, timeout: float = 300) -> None:
        """Waits until the server inside answers: the readiness probe, or without one a connection to the first port."""
        milliseconds("timeout", timeout)
        handle = self._use()
        self._life.asked = True
        try:
            call("wait_ready", handle, 0)  # looks, and begins to ask
        except TimeoutError:
            try:
                await until(self._life.ready, timeout)
            except TimedOut:
                raise SandboxTimeoutError(f"sandbox {self.object_id} was not ready within {timeout} s") from None

    @both
    async def wait(self, raise_on_termination: bool = True) -> None:
        """Waits until nothing of the sandbox is left. Raises SandboxTimeoutError if its lifetime ran out and, unless
        told otherwise, SandboxTerminatedError if it was ended from outside."""
        if not self._life.exited.done():
            self._hub.check()
        _, reason = await until(self._life.exited)
        if reason == native.EXIT_TIMED_OUT:
            raise SandboxTimeoutError(f"sandbox {self.object_id} reached its timeout")
        if reason > native.EXIT_TIMED_OUT and raise_on_termination:
            by_host = self.exit_reason == "terminated"
            why = "" if by_host else self._life.why()
            raise SandboxTerminatedError(f"sandbox {self.object_id} was terminated{why}")

    @both
    async def poll(self) -> int | None:
        """The exit code, or None while the sandbox runs."""
        return self.returncode

    @property
    def returncode(self) -> int | None:
        """The program's own; 128 + n for a signal; 124 when its time ran out, 137 when terminated; None while it runs.
        """
        ended = self._life.exited
        return int(ended.result()[0]) if ended.done() and not ended.exception() else None

    @property
    def exit_reason(self) -> str | None:
        """Why the sandbox ended: "exited" or "signalled" (its program, by itself), "timedOut", "idle", "terminated",
        "outOfMemory" or "engineLost"; None while it runs."""
        return self._life.reason

    @both
    async def terminate(self, *, wait: bool = False) -> int | None:
        """Ends the sandbox; if it has ended, does nothing. With `wait` returns the exit code once nothing is left. An exit
        snapshot is taken before that; a second call gives it up."""
        self._is_terminated = True
        return await self._end(wait, "terminate")

    @both
    async def stop(self, *, grace: float = 10, signal: int | None = None, wait: bool = False) -> int | None:
        """Stops it gracefully: sends its program the signal (the image's, or SIGTERM), accepts no more connections, and
        kills what is left after `grace` seconds, at once with 0. The exit code is the program's own, or 137."""
        number = 0 if signal is None else signal_number(signal)
        return await self._end(wait, "stop", number, 0 if grace == 0 else milliseconds("grace", grace))

    async def _end(self, wait: bool, how: str, *arguments: int) -> int | None:
        if not self._life.exited.done():
            call(how, self._use(), *arguments)
            if wait:
                await until(self._life.exited)
        return self.returncode if wait else None

    @both
    async def detach(self) -> None:
        """Gives the object up, not the sandbox: that runs on until its timeout, or until this process ends."""
        if self._attached and not self._life.exited.done():
            self._life.kept = self
        self._attached = False

    @both
    async def close(self) -> None:
        """Ends the sandbox, waits until nothing of it is left, and frees it; what is known of it stays known."""
        if self._close.alive:
            self._hub.check()
            if not self._is_terminated:  # a second one would give the exit snapshot up
                call("terminate", self._life.handle)
            await until(self._life.exited)
            if self._has_exit_snapshot:
                with contextlib.suppress(Error):  # there is none
                    self._exit_image = self._exit_image or self._saved()
            self._close()
            for output in self._outputs:
                output._drop()
            if "_input" in vars(self):
                self._input._drop()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close.aio()

    def __del__(self) -> None:
        if self._close.alive and not self._life.exited.done() and hubs.is_here(self._hub):
            warnings.warn(f"{self!r} was lost and is ended: terminate() or detach() it", ResourceWarning, source=self)

    def send_signal(self, signal: int) -> None:
        """Sends the sandbox's program a signal."""
        call("signal", self._use(), signal_number(signal))

    @functools.cached_property
    def _input(self) -> StreamWriter:
        return StreamWriter(self._hub, call("sandbox_open_fd", self._use(), 0))

    @property
    def stdin(self) -> StreamWriter:
        return self._input._part_of(self)

    @property
    def stdout(self) -> StreamReader[str]:
        return self._outputs[0]._part_of(self)

    @property
    def stderr(self) -> StreamReader[str]:
        return self._outputs[1]._part_of(self)

    @property
    def denials(self) -> Denials:
        """What the sandbox wanted to reach and was denied: to be iterated over, in either form."""
        return self._denials._part_of(self)

    @both
    async def exec(
        self, *args: str, stdout: StreamType | Capture | int = StreamType.PIPE,
        stderr: StreamType | Capture | int = StreamType.PIPE,
        timeout: float | None = None, workdir: str | None = None, env: Mapping[str, str | None] | None = None,
        secrets: Iterable[Secret] | None = None, text: bool = True, bufsize: int = -1, pty: bool = False,
        user: str | None = None,
    ) -> ContainerProcess:  # fmt: skip
        """Starts a program in the sandbox. Streams give text as it comes, lines with bufsize=1, bytes with text=False;
        with pty=True the program has a terminal of 24 lines and 80 columns in their place. With stderr=STDOUT both
        outputs come in stdout; with a Capture, both ends of an output are kept, for ContainerProcess.captured()."""
        wanted = {name: StreamType.of(name, value) for name, value in (("stdout", stdout), ("stderr", stderr))}
        if wanted["stdout"] is StreamType.STDOUT:
            raise UnimplementedError("stdout=StreamType.STDOUT is not supported: read the stream and print it")
        is_plain()
        if bufsize not in (-1, 1) or (bufsize == 1 and not text):
            raise InvalidError("bufsize must be -1, or 1 for lines of text")
        life = hubs.Life("process_failure")
        outputs = list(wanted.values())
        modes = [native.STREAM_DESCRIPTOR, *(None if isinstance(each, Capture) else _MODES[each] for each in outputs)]
        with Draft("exec_config") as config:
            fill(config, program(args, self._rootfs), env, secrets, workdir=workdir, user=user)
            if timeout is not None:
                config.set("set_timeout_ms", milliseconds("timeout", timeout))
            if pty:
                config.set("set_pty", 24, 80)
            for stream, mode in () if pty else enumerate(modes):
                if mode is not None:
                    config.set("set_stream", stream, mode)
            for stream, output in () if pty else enumerate(outputs, 1):
                if isinstance(output, Capture):
                    config.set("capture_stream", stream, output.head, output.tail)
            call("exec_config_check", config.handle)
            life.what = f"{args[0]!r} in sandbox {self.object_id}" if args else ""
            life.begin(self._hub, "exec_begin", self._use(), config)
        try:
            process = ContainerProcess(self, life, modes, pty, text, bufsize == 1)
            await until(life.started)
        except BaseException:
            with contextlib.suppress(Error):  # nobody gets a handle: it would run for nobody
                call("process_signal", life.handle, SIGKILL)
            raise
        return process

    @both
    async def connect(self, port: int) -> socket.socket:
        """Connects to a port inside, without any port on this machine; it need not be listed. The socket is a blocking
        one; that of `.aio` is for asyncio.open_connection(sock=...)."""
        number, handle = whole("port", port, 1, 65535), self._use()
        operation = Operation(self._hub, "connect_begin", handle, number)
        await operation.end()
        connection = socket.socket(fileno=call("operation_open_fd", operation.handle))
        connection.setblocking(is_plain())
        return connection

    @property
    def filesystem(self) -> Filesystem:
        """The sandbox's files."""
        return Filesystem(self)

    @both
    async def open(self, path: str, mode: str = "r") -> FileIO:
        """Opens a file, as Modal's old form has it: "r", "w", "a", "x", with "+" and "b". See FileIO for what it can't."""
        return await FileIO(self, path, mode)._begin()

    @both
    async def ls(self, path: str) -> Sequence[str]:
        """The names in a directory, in their order."""
        return sorted(entry.name for entry in await self.filesystem.list_files.aio(path))

    @both
    async def mkdir(self, path: str, parents: bool = False) -> None:
        await self.filesystem.make_directory.aio(path, create_parents=parents)

    @both
    async def rm(self, path: str, recursive: bool = False) -> None:
        await self.filesystem.remove.aio(path, recursive=recursive)

    @both
    async def reload_volumes(self) -> None:
        """Nothing: what others have written to its volumes is there."""

    @both
    async def snapshot_filesystem(self, timeout: float = 55, *, tag: str | None = None) -> Image:
        """A new image of what is in its root file system now. It must have been created from an image. Programs are paused
        for a moment; /tmp, /dev/shm and mounts are not in it. `tag` names it."""
        milliseconds("timeout", timeout)
        name = None if tag is None else native.coded("tag", tag)
        operation = Operation(self._hub, "sandbox_snapshot_begin", self._use(), name)
        await self._within(operation, timeout, "the snapshot")
        return Image._of(f"a snapshot of {self.object_id}", "operation_image", operation.handle)

    @both
    async def snapshot_directory(self, path: str, timeout: float = 55, *, tag: str | None = None) -> Image:
        """A new image whose root is that directory, on any root file system, also in /tmp and in mounts. Programs go on
        meanwhile. Sockets, devices and what is mounted in it are left out. `tag` names it."""
        milliseconds("timeout", timeout)
        name = None if tag is None else native.coded("tag", tag)
        place = native.coded("path", path)
        operation = Operation(self._hub, "sandbox_snapshot_directory_begin", self._use(), place, name)
        await self._within(operation, timeout, f"the snapshot of {path}")
        return Image._of(f"a snapshot of {path} in {self.object_id}", "operation_image", operation.handle)

    @both
    async def mount_image(self, path: str, image: Image, timeout: float = 300) -> None:
        """Puts an image's files into a directory, which is made if it is missing. It is a copy, and counts as what the
        sandbox has written: gVisor can't mount anything in a sandbox that runs. What is there stays, but for files of the
        image's names. An image that is known at create() is better an `image_mounts`."""
        milliseconds("timeout", timeout)
        if not isinstance(image, Image):
            refuse("image", "an Image, such as snapshot_directory() returns", image)
        place, stored = native.coded("path", path), await image._open()
        operation = Operation(self._hub, "sandbox_copy_image_begin", self._use(), stored.handle, place)
        await self._within(operation, timeout, f"the copy to {path}")

    @both
    async def get_exit_snapshot(self, timeout: float | None = None) -> Image:
        """The image of create(exit_snapshot=...), once the sandbox has ended, which it waits for. If there is none the
        error says why."""
        if not self._life.exited.done():
            self._hub.check()
        try:
            await until(self._life.exited, timeout)
        except TimedOut:
            raise SandboxTimeoutError(f"sandbox {self.object_id} did not end within {timeout} s") from None
        return self._exit_image or self._saved()

    def _saved(self) -> Image:
        return Image._of(f"the exit snapshot of {self.object_id}", "sandbox_exit_image", self._life.handle)

    _experimental_get_exit_snapshot = get_exit_snapshot

    async def _within(self, operation: Operation, timeout: float, what: str) -> None:
        try:
            await operation.end(timeout)
        except BaseException as error:
            operation.cancel()
            if isinstance(error, TimedOut):
                late = f"{what} in sandbox {self.object_id} took longer than {timeout} s"
                raise SandboxTimeoutError(late) from None
            raise

    @both
    async def set_network_policy(
        self, *, block_network: bool = False, outbound_cidr_allowlist: Texts = None,
        outbound_domain_allowlist: Texts = None, outbound_cidr_denylist: Texts = None,
        outbound_local_cidrs: Texts = None, outbound_dns: str | None = None, outbound_tls_ports: Sequence[int] = (),
    ) -> int:  # fmt: skip
        """Replaces what the sandbox may reach, with parameters as create()'s, and returns the policy's generation.
        When it returns, what the new policy denies was cut."""
        handle = self._use()
        lists = (outbound_cidr_allowlist, outbound_domain_allowlist, outbound_cidr_denylist, outbound_local_cidrs)
        wanted = draft_policy(block_network, *lists, outbound_tls_ports, outbound_dns)
        with wanted:
            change = Operation(self._hub, "set_policy_begin", handle, wanted.handle)
        await change.end()
        generation = ctypes.c_uint64()
        call("operation_policy", change.handle, None, ctypes.byref(generation))
        return generation.value

    _experimental_set_outbound_network_policy = set_network_policy

    @both
    async def get_network_policy(self) -> NetworkPolicy:
        """What is in force, read back from the kernel."""
        operation = Operation(self._hub, "sandbox_policy_begin", self._use())
        await operation.end()
        return read_policy(operation)

    @both
    async def stats(self) -> SandboxStats:
        """What the sandbox uses and has done; of an ended one, what it had used in all."""
        operation = Operation(self._hub, "sandbox_stats_begin", self._use())
        await operation.end()
        return read_stats(operation)

    @both
    async def get_tags(self) -> dict[str, str]:
        self._use()
        return dict(self._tags)

    @both
    async def set_tags(self, tags: Mapping[str, str]) -> None:
        """Replaces the tags."""
        self._use()
        self._tags = dict(pairs("tags", tags))
