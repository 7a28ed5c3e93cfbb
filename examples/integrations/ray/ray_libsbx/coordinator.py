"""The actor that knows which host has a free sandbox, and in which order creations wait for one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Coroutine

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from .errors import PoolClosedError, PoolFullError, PoolTimeoutError
from .host import HostFullError
from .results import Created, HostStats, PoolStats

# How often a creation is begun anew when its host dies meanwhile.
_ATTEMPTS = 8
# Between two looks at a host that doesn't answer.
_INTERVAL = 0.2
# So many looks at which it was dead, and not to be restarted, and it is given up.
_DEATHS = 10


@dataclass
class _Host:
    """A host, as far as is known. `held` are its sandboxes, each with whether its creation is over."""

    number: int
    actor: ActorHandle
    capacity: int
    up: bool = False
    incarnation: str = ""
    node_id: str = ""
    pid: int = 0
    held: dict[str, bool] = field(default_factory=dict)

    def free(self) -> int:
        return self.capacity - len(self.held) if self.up else 0


@dataclass(eq=False)
class _Waiting:
    """A creation that waits for a free sandbox."""

    sandbox_id: str
    host: asyncio.Future[_Host]


class Coordinator:
    """Made by SandboxPool. It holds nothing that its hosts don't know: restarted, it asks them."""

    def __init__(self, names: list[str], capacity: int, max_waiting: int) -> None:
        self._max_waiting, self._why_gone = max_waiting, ""
        self._hosts: list[_Host] = []
        for number, name in enumerate(names):
            try:
                self._hosts.append(_Host(number, ray.get_actor(name), capacity))
            except ValueError as error:  # it was killed while this was restarted
                self._why_gone = str(error)
        self._waiting: deque[_Waiting] = deque()
        self._begun = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._created = self._lost = 0

    @ray.method(max_task_retries=-1)
    async def create(
        self, sandbox_id: str, args: tuple[str, ...], settings: bytes, wait: float | None
    ) -> tuple[int, Created]:
        """Creates a sandbox where one is free, and returns its host's number. The same id is the same sandbox."""
        self._begin()
        deadline = None if wait is None else time.monotonic() + wait
        attempt = 0
        while True:
            attempt += 1
            host = await self._acquire(sandbox_id, deadline)
            try:
                created = await host.actor.create.remote(sandbox_id, args, settings)
            except RayActorError:
                # Either it died with all that it had, or it still has the sandbox and tells so when it is reached again.
                self._release(host, sandbox_id)
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_INTERVAL)
            except RayTaskError as error:
                self._release(host, sandbox_id)
                if not isinstance(error.cause, HostFullError) or attempt == _ATTEMPTS:
                    raise error.cause from None
                await asyncio.sleep(_INTERVAL)
            except BaseException:
                self._start(self._give_up(host, sandbox_id))
                raise
            else:
                host.held[sandbox_id] = True
                self._created += 1
                return host.number, created

    @ray.method(max_task_retries=-1)
    async def stats(self) -> PoolStats:
        self._begin()
        hosts = [HostStats(each.node_id, each.pid, each.up, each.capacity, len(each.held)) for each in self._hosts]
        up = [each for each in hosts if each.up]
        total, used = sum(each.capacity for each in up), sum(each.used for each in up)
        return PoolStats(hosts, total, used, len(self._waiting), self._created, self._lost)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for host in self._hosts:
                self._start(self._follow(host))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, host: _Host) -> None:
        """Keeps what is known of a host true, until Ray has given it up."""
        deaths = 0
        while deaths < _DEATHS:
            try:
                turn, incarnation, host.node_id, host.pid, held = await host.actor.begin.remote()
                deaths = 0
                self._adopt(host, incarnation, held)
                while True:
                    for sandbox_id in await host.actor.ended.remote(turn):
                        host.held.pop(sandbox_id, None)
                    self._hand_out()
            except (RayActorError, RayTaskError) as error:
                # Mostly it is restarted, or waits for a node that has room for it.
                deaths = deaths + 1 if isinstance(error, ActorDiedError) else 0
                self._why_gone = str(error)
            host.up = False
            self._lost += sum(host.held.values())
            host.held.clear()
            await asyncio.sleep(_INTERVAL)
        self._hosts.remove(host)
        self._hand_out()

    def _adopt(self, host: _Host, incarnation: str, held: list[str]) -> None:
        if incarnation == host.incarnation:
            self._lost -= len(held)  # they were not lost: only the connection to the host was
        host.incarnation, host.up = incarnation, True
        elsewhere = {each for other in self._hosts if other is not host for each in other.held}
        for sandbox_id in held:
            host.held[sandbox_id] = True
            if sandbox_id in elsewhere:  # it was created anew when this host could not be reached
                self._start(self._give_up(host, sandbox_id))
        self._hand_out()

    async def _give_up(self, host: _Host, sandbox_id: str) -> None:
        try:
            await host.actor.terminate.remote(sandbox_id)
        except (RayActorError, RayTaskError):
            pass  # it isn't there
        self._release(host, sandbox_id)

    def _release(self, host: _Host, sandbox_id: str) -> None:
        host.held.pop(sandbox_id, None)
        self._hand_out()

    def _freest(self) -> _Host | None:
        host = max(self._hosts, key=_Host.free, default=None)
        return host if host is not None and host.free() > 0 else None

    def _hand_out(self) -> None:
        """Gives what is free to those who wait, in the order in which they came."""
        while self._waiting and (not self._hosts or self._freest()):
            next_one = self._waiting.popleft()
            if next_one.host.done():
                continue  # its time ran out, or its caller was cancelled
            host = self._freest()
            if host is None:
                next_one.host.set_exception(self._closed())
            else:
                host.held[next_one.sandbox_id] = False
                next_one.host.set_result(host)

    def _closed(self) -> PoolClosedError:
        return PoolClosedError(f"the pool has no host any more: {self._why_gone or 'it was made with none'}")

    async def _acquire(self, sandbox_id: str, deadline: float | None) -> _Host:
        for host in self._hosts:
            if sandbox_id in host.held:  # of a call that Ray has repeated
                return host
        if not self._hosts:
            raise self._closed()
        freest = None if self._waiting else self._freest()
        if freest is not None:
            freest.held[sandbox_id] = False
            return freest
        if len(self._waiting) >= self._max_waiting:
            raise PoolFullError(f"every sandbox is in use, and {len(self._waiting)} creations wait for one")
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        waiting = _Waiting(sandbox_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            return await asyncio.wait_for(waiting.host, left)
        except asyncio.TimeoutError:
            raise PoolTimeoutError("every sandbox is in use, and none became free in time") from None
        except asyncio.CancelledError:
            if waiting.host.done() and not waiting.host.cancelled():
                self._release(waiting.host.result(), sandbox_id)
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
