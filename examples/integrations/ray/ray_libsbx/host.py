"""The actor that has libsbx in its process: a host of so many sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import os
import select
import signal
import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Coroutine

import libsbx as sbx
import ray
from ray import cloudpickle

from .errors import SandboxLostError
from .images import pulled_once
from .results import Created, Ended, ExecResult

# How many ended sandboxes' exit codes, and how many images, a host remembers.
_ENDED_KEPT = 4096
_IMAGES_KEPT = 32
# For how long the list of the cluster's nodes is good.
_NODES_FRESH = 5.0
_log = logging.getLogger(__name__)


class HostFullError(Exception):
    """The host has no free sandbox: what the coordinator believed isn't so."""


def end_with_parent() -> None:
    """Ends this process when its parent, the raylet, has ended. Ray's own look is once a second; a sandbox of a node that
    is lost should be gone sooner."""
    parent = os.getppid()
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        while not poll.poll():
            pass
        os._exit(1)

    threading.Thread(target=watch, name="libsbx-parent", daemon=True).start()


class SandboxHost:
    """Made by SandboxPool, one worker process each. All methods are for the coordinator and for PooledSandbox."""

    def __init__(self, capacity: int, settings: bytes, warm: int, inbound: list[str] | None) -> None:
        end_with_parent()
        self._capacity, self._inbound, self._warm = capacity, inbound, warm
        self._args, self._settings = cloudpickle.loads(settings)
        self._incarnation = os.urandom(8).hex()
        self._address = ray.util.get_node_ip_address()
        self._node = ray.get_runtime_context().get_node_id()
        self._created: dict[str, asyncio.Task[Created]] = {}
        self._sandboxes: dict[str, sbx.Sandbox] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()
        self._unreported: list[str] = []
        self._reported = asyncio.Event()
        self._images: OrderedDict[str, sbx.Image] = OrderedDict()
        self._pulling = asyncio.Lock()
        self._nodes: tuple[float, list[str]] = (-_NODES_FRESH, [])
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = ""

    async def begin(self) -> tuple[str, str, str, int, list[str]]:
        """Begins a turn of ended(): the turn, and this host's incarnation, node and process, and the sandboxes that it
        has. A coordinator that is gone gets nothing any more."""
        if self._warm and not self._turn:
            self._start(self._keep_warm())
        self._turn = os.urandom(8).hex()
        self._unreported.clear()
        self._reported.set()
        return self._turn, self._incarnation, self._node, os.getpid(), list(self._created)

    async def ended(self, turn: str) -> list[str]:
        """Waits until sandboxes have ended of which the turn hasn't been told, and tells which."""
        while turn == self._turn:
            if self._unreported:
                ids, self._unreported = self._unreported, []
                return ids
            self._reported.clear()
            await self._reported.wait()
        raise SandboxLostError("the host was restarted, or another coordinator has asked")

    async def create(self, sandbox_id: str, args: tuple[str, ...], settings: bytes) -> Created:
        """Creates it, or tells of the one that has this id already."""
        task = self._created.get(sandbox_id)
        if task is None:
            if len(self._created) >= self._capacity:
                raise HostFullError
            task = self._created[sandbox_id] = self._start(self._create(sandbox_id, args, settings))
        try:
            return await asyncio.shield(task)
        except BaseException:
            # The caller has been cancelled, or there is no sandbox: in both cases no caller has its id.
            task.cancel()
            raise

    async def holds(self, sandbox_id: str) -> bool:
        return sandbox_id in self._created

    async def exec(
        self, sandbox_id: str, argv: list[str], data: bytes | None, most: int, options: dict[str, Any]
    ) -> ExecResult:
        sandbox = self._sandbox(sandbox_id)
        kept = sbx.Capture(head=most - most // 2, tail=most // 2)
        begun = time.monotonic()
        process = await sandbox.exec.aio(*argv, stdout=kept, stderr=kept, **options)
        try:
            with contextlib.suppress(BrokenPipeError, sbx.ClientClosed):
                if data:
                    process.stdin.write(data)
                process.stdin.write_eof()
                await process.stdin.drain.aio()
            code = await process.wait.aio()
        except asyncio.CancelledError:
            with contextlib.suppress(sbx.Error):  # it has ended
                process.send_signal(signal.SIGKILL)
            raise
        taken = time.monotonic() - begun
        out, err = process.captured("stdout"), process.captured("stderr")
        return ExecResult(code, out.text, err.text, taken, bool(out.dropped or err.dropped))

    async def files(self, sandbox_id: str, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        result = await getattr(self._sandbox(sandbox_id).filesystem, method).aio(*args, **options)
        return list(result) if method == "list_files" else result

    async def call(self, sandbox_id: str, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return await getattr(self._sandbox(sandbox_id), method).aio(*args, **options)

    async def wait(self, sandbox_id: str, timeout: float | None) -> Ended | None:
        """How it ended, once it has; None if that takes longer."""
        if sandbox_id in self._created:
            sandbox = self._sandboxes.get(sandbox_id)
            try:
                if sandbox is not None:
                    await asyncio.wait_for(sandbox.wait.aio(raise_on_termination=False), timeout)
            except asyncio.TimeoutError:
                return None
            except sbx.Error:
                pass  # its time ran out, or its engine was lost: the exit code says so
            if sandbox is not None:
                return Ended(sandbox.returncode, sandbox.exit_reason)
        return self._ended_as(sandbox_id)

    async def terminate(self, sandbox_id: str) -> Ended:
        """Ends it, and waits until nothing is left of it."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            if task := self._created.get(sandbox_id):
                task.cancel()
                return Ended(None, "terminated")
            return self._ended_as(sandbox_id)
        await sandbox.terminate.aio(wait=True)
        return Ended(sandbox.returncode, sandbox.exit_reason)

    async def warm_stats(self) -> sbx.WarmStats:
        return await sbx.warm_stats.aio()

    def _sandbox(self, sandbox_id: str) -> sbx.Sandbox:
        if sandbox := self._sandboxes.get(sandbox_id):
            return sandbox
        ended = self._ended_as(sandbox_id)
        raise sbx.NotFoundError(f"sandbox {sandbox_id} has ended ({ended.reason}, {ended.exit_code})")

    def _ended_as(self, sandbox_id: str) -> Ended:
        if sandbox_id in self._ended:
            return self._ended[sandbox_id]
        raise SandboxLostError(f"sandbox {sandbox_id} is gone: its host was restarted, or it ended long ago")

    async def _create(self, sandbox_id: str, args: tuple[str, ...], pickled: bytes) -> Created:
        sandbox = None
        try:
            settings = {**self._settings, **cloudpickle.loads(pickled)}
            sandbox = await sbx.Sandbox.create.aio(*(args or self._args), **await self._resolved(settings))
            tunnels = {} if settings.get("block_network") else await sandbox.tunnels.aio()
            self._sandboxes[sandbox_id] = sandbox
            self._start(self._follow(sandbox_id, sandbox))
            return Created(sandbox.object_id, self._node, tunnels)
        except BaseException:
            if sandbox is not None and sandbox_id not in self._sandboxes:
                await sandbox.close.aio()
            self._gone(sandbox_id)
            raise

    async def _follow(self, sandbox_id: str, sandbox: sbx.Sandbox) -> None:
        try:
            with contextlib.suppress(sbx.Error):  # how it ended is kept below
                await sandbox.wait.aio(raise_on_termination=False)
        finally:
            self._ended[sandbox_id] = Ended(sandbox.returncode, sandbox.exit_reason)
            while len(self._ended) > _ENDED_KEPT:
                self._ended.popitem(last=False)
            self._sandboxes.pop(sandbox_id, None)
            self._gone(sandbox_id)
            await sandbox.close.aio()

    def _gone(self, sandbox_id: str) -> None:
        if self._created.pop(sandbox_id, None) is not None:
            self._unreported.append(sandbox_id)
            self._reported.set()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it

    async def _keep_warm(self) -> None:
        try:
            await sbx.keep_warm.aio(self._warm, *self._args, **await self._resolved(self._settings))
        except Exception as error:
            # A creation with the same settings says it to its caller.
            _log.warning("no sandboxes are kept warm: %s", error)

    async def _resolved(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The arguments of Sandbox.create(): images opened, tunnels bound to this node's address."""
        settings = dict(settings)
        image = settings.pop("image", None)
        if image is not None:
            settings["image"] = await self._image(image)
        ports = [*settings.get("encrypted_ports", ()), *settings.get("h2_ports", ()), *settings.get("unencrypted_ports", ())]
        if ports:
            bound = {port: self._address for port in ports}
            settings["bind_ports"] = {**bound, **(settings.get("bind_ports") or {})}
            if settings.get("tls_certificate") is None:
                settings["tls_names"] = [*settings.get("tls_names", ()), self._address]
            if settings.get("inbound_cidr_allowlist") is None:
                settings["inbound_cidr_allowlist"] = self._inbound if self._inbound is not None else await self._cluster()
        return settings

    async def _image(self, image: str | Callable[[], sbx.Image]) -> sbx.Image:
        key = image if isinstance(image, str) else hashlib.sha256(cloudpickle.dumps(image)).hexdigest()
        async with self._pulling:
            found = self._images.get(key)
            if found is None:
                if callable(image):
                    found = image()
                elif image.startswith(("/", "./")):
                    found = sbx.Image.from_path(image)
                else:
                    found = sbx.Image.from_registry(image)
                async with pulled_once(key):
                    await found.pull.aio()
                self._images[key] = found
                if len(self._images) > _IMAGES_KEPT:
                    self._images.popitem(last=False)
            self._images.move_to_end(key)
            return found

    async def _cluster(self) -> list[str]:
        """The addresses of the cluster's nodes, each as a range."""
        looked, addresses = self._nodes
        if time.monotonic() - looked >= _NODES_FRESH:
            nodes = await asyncio.to_thread(ray.nodes)
            found = {ipaddress.ip_network(node["NodeManagerAddress"]) for node in nodes if node["Alive"]}
            addresses = sorted(map(str, found))
            self._nodes = (time.monotonic(), addresses)
        return addresses
