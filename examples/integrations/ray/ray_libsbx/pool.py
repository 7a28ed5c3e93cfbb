"""The pool, and its sandboxes, from any process of the cluster."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any, Callable, Sequence

import libsbx as sbx
import ray
from libsbx.waiting import both, until
from ray import cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .coordinator import Coordinator
from .errors import PoolClosedError, SandboxLostError, SandboxUnreachableError
from .host import SandboxHost
from .results import Created, Ended, ExecResult, PoolStats

#: Of an output of exec(), the most bytes that are kept, half of them from its end.
MAX_OUTPUT = 1 << 20
_MIB = 1 << 20
# Calls that run at once on a host, for each of its sandboxes, and beside those.
_CALLS_EACH, _CALLS_BESIDE = 32, 64


async def _answer(reference: ray.ObjectRef) -> Any:
    """What a call of an actor returns. A caller that is cancelled cancels the call."""
    try:
        return await until(reference.future())
    except RayTaskError as error:
        raise error.cause from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        ray.cancel(reference)
        raise


class SandboxPool:
    """Hosts of libsbx sandboxes on a cluster, each a worker process with `sandboxes_per_host` of them.

    A host takes that many of its node's resource `sandboxes` (ray start --resources='{"sandboxes": 64}'), `memory` MiB of
    the node's memory for each, and `cpus_per_host`. Ray chooses the nodes, and starts a host anew elsewhere when its
    process or node is lost; its sandboxes are lost then. Without `hosts` there are as many as the nodes have room for now.

    `warm` sandboxes are kept ready on each host. Creations that find no sandbox free wait in their order, `max_waiting`
    at most. All else are arguments of libsbx's Sandbox.create() for each sandbox, which create() can replace: `image` is a
    registry's name, the path of an archive on the nodes, or a function that returns an Image, and `memory` is each
    sandbox's limit, too. Encrypted and other ports listen on their node's address, for `inbound` (CIDRs), or without it for
    the addresses of the cluster's nodes.

    It ends with close() and with the process that made it. Other tasks and actors may be given it, or its sandboxes.
    """

    def __init__(
        self, *args: str, hosts: int | None = None, sandboxes_per_host: int = 16, memory: int | None = None,
        cpus_per_host: float = 0, warm: int = 0, max_waiting: int = 1024, inbound: Sequence[str] | None = None,
        image: str | Callable[[], sbx.Image] | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        if sandboxes_per_host < 1 or max_waiting < 0 or not 0 <= warm <= sandboxes_per_host:
            raise sbx.InvalidError("sandboxes_per_host must be at least 1, max_waiting and warm at least 0, warm at most it")
        if image is not None:
            settings["image"] = image
        if memory is not None:
            settings["memory"] = memory
        resources = {"sandboxes": sandboxes_per_host}
        options: dict[str, Any] = dict(
            num_cpus=cpus_per_host, resources=resources, max_restarts=-1, scheduling_strategy="SPREAD",
            max_concurrency=_CALLS_EACH * sandboxes_per_host + _CALLS_BESIDE,
        )  # fmt: skip
        if memory is not None:
            options["memory"] = memory * _MIB * sandboxes_per_host
        arguments = (sandboxes_per_host, cloudpickle.dumps((args, settings)), warm, inbound and list(inbound))
        if hosts is None:
            totals = (node["Resources"].get("sandboxes", 0) for node in ray.nodes() if node["Alive"])
            hosts = sum(int(total) // sandboxes_per_host for total in totals)
        if hosts < 1:
            raise sbx.InvalidError(
                f"no node has {sandboxes_per_host} of the resource `sandboxes`: start it with --resources, or say hosts="
            )
        # By names, since Ray keeps handles among an actor's arguments in memory that a restart may not find.
        names = [f"libsbx-host-{uuid.uuid4().hex}" for _ in range(hosts)]
        host = ray.remote(SandboxHost)
        self._hosts = [host.options(name=name, **options).remote(*arguments) for name in names]
        # On this process's node, and no other: the pool doesn't outlive either.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        at_once = max_waiting + sandboxes_per_host * hosts + _CALLS_BESIDE
        actor = ray.remote(Coordinator).options(
            num_cpus=0, max_restarts=-1, max_concurrency=at_once, scheduling_strategy=here
        )
        self._coordinator = actor.remote(names, sandboxes_per_host, max_waiting)

    @both
    async def create(self, *args: str, wait: float | None = None, **settings: Any) -> PooledSandbox:
        """A sandbox, where one is free. If none is, waits for `wait` seconds at most, without it for as long as it takes:
        PoolTimeoutError, or PoolFullError at once if too many wait already. With 0 it doesn't wait."""
        sandbox_id = uuid.uuid4().hex
        call = self._coordinator.create.remote(sandbox_id, args, cloudpickle.dumps(settings), wait)
        try:
            number, created = await _answer(call)
        except RayActorError as error:
            raise PoolClosedError(f"the pool can't be reached: {error}") from None
        return PooledSandbox(sandbox_id, self._hosts[number], created)

    @both
    async def stats(self) -> PoolStats:
        """Its hosts, what is in use, and how many wait."""
        try:
            return await _answer(self._coordinator.stats.remote())
        except RayActorError as error:
            raise PoolClosedError(f"the pool can't be reached: {error}") from None

    def close(self) -> None:
        """Ends all of its sandboxes and hosts."""
        for actor in (self._coordinator, *self._hosts):
            ray.kill(actor)

    def __enter__(self) -> SandboxPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PooledSandbox:
    """A sandbox of a pool. It lives until terminate(), the end of a `with` block, its own `timeout` (300 seconds unless it
    was created with another), or its host's end, and longer than this object and the process that created it."""

    def __init__(self, pool_id: str, host: ActorHandle, created: Created) -> None:
        self._id, self._host, self._tunnels = pool_id, host, created.tunnels
        self.object_id, self.node_id = created.object_id, created.node_id

    def __repr__(self) -> str:
        return f"PooledSandbox({self.object_id!r})"

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return await _answer(getattr(self._host, method).remote(self._id, *arguments))
        except RayActorError as error:
            why = str(error).splitlines()[0]
        try:
            holds = await _answer(self._host.holds.remote(self._id))
        except RayActorError:
            holds = False
        kind = SandboxUnreachableError if holds else SandboxLostError
        raise kind(f"sandbox {self.object_id} on node {self.node_id}: {why}") from None

    @both
    async def exec(
        self, command: str | Sequence[str], timeout: float | None = None, cwd: str | None = None,
        env: dict[str, str] | None = None, *, input: str | bytes | None = None, user: str | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """Runs a program, or with a string a command of /bin/sh, and waits for its end. Of each output at most
        `max_output` bytes are kept, half of them from its end."""
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        options = {"timeout": timeout, "workdir": cwd, "env": env, "user": user}
        data = input.encode() if isinstance(input, str) else input
        return await self._call("exec", argv, data, max_output, options)

    @both
    async def write_file(self, path: str, content: str | bytes, **options: Any) -> None:
        await self._call("files", "write_bytes", (content.encode() if isinstance(content, str) else content, path), options)

    @both
    async def read_file(self, path: str, **options: Any) -> bytes:
        """A file of up to 100 MiB."""
        return await self._call("files", "read_bytes", (path,), options)

    @both
    async def list_files(self, path: str, **options: Any) -> list[sbx.FileInfo]:
        return await self._call("files", "list_files", (path,), options)

    @both
    async def make_directory(self, path: str, **options: Any) -> None:
        await self._call("files", "make_directory", (path,), options)

    @both
    async def remove(self, path: str, **options: Any) -> None:
        await self._call("files", "remove", (path,), options)

    @both
    async def upload_file(self, local_path: str | os.PathLike[str], remote_path: str) -> None:
        """Copies a file of this process's machine."""
        await self._call("files", "write_bytes", (Path(local_path).read_bytes(), remote_path), {})

    @both
    async def download_file(self, remote_path: str, local_path: str | os.PathLike[str]) -> None:
        """Copies a file of up to 100 MiB to this process's machine."""
        Path(local_path).write_bytes(await self._call("files", "read_bytes", (remote_path,), {}))

    def tunnels(self) -> dict[int, sbx.Tunnel]:
        """Where its ports are reached, by container port, with the authority to trust."""
        return dict(self._tunnels)

    @both
    async def wait_until_ready(self, *, timeout: float = 300) -> None:
        """As libsbx's: until the probe, or without one the first port, answers."""
        await self._call("call", "wait_until_ready", (), {"timeout": timeout})

    @both
    async def set_network_policy(self, **policy: Any) -> int:
        return await self._call("call", "set_network_policy", (), policy)

    @both
    async def stats(self) -> sbx.SandboxStats:
        return await self._call("call", "stats", (), {})

    @both
    async def wait(self, timeout: float | None = None) -> Ended | None:
        """How the sandbox ended, once it has; None if that takes longer than `timeout`."""
        return await self._call("wait", timeout)

    @both
    async def poll(self) -> Ended | None:
        """How it ended, or None while it runs."""
        return await self._call("wait", 0)

    @both
    async def terminate(self) -> Ended:
        """Ends it, and waits until nothing is left of it."""
        return await self._call("terminate")

    def __enter__(self) -> PooledSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.terminate()
        except SandboxLostError:
            pass  # nothing is left of it

    async def __aenter__(self) -> PooledSandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.terminate.aio()
        except SandboxLostError:
            pass  # nothing is left of it
