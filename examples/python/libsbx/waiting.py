"""Waiting, in a plain and an asyncio form.

What waits is written once, as a coroutine over until(). `.aio` is that coroutine, for any event loop; the plain form
runs it to its end in this thread, where until() blocks (and Ctrl-C works).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as _TimeoutError
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Generic, TypeVar

from .exception import UnimplementedError

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec, Self

    P = ParamSpec("P")
else:
    P = TypeVar("P")

TimedOut = _TimeoutError
#: How many pieces are taken before others on the event loop have their turn.
AT_ONCE = 256
_thread = threading.local()


def runs_loop() -> bool:
    """Whether an asyncio event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
        return True
    except RuntimeError:
        return False


def is_plain() -> bool:
    """Whether this is the plain form. Else it is asyncio's, and there has to be a loop of asyncio's."""
    plain: bool = getattr(_thread, "is_plain", False)
    if not plain and not runs_loop():
        raise UnimplementedError(
            ".aio is for asyncio, and no event loop of asyncio's runs in this thread. Under trio, call the plain form "
            "in a thread: await trio.to_thread.run_sync(sandbox.wait)"
        )
    return plain


async def until(future: Future[T], seconds: float | None = None) -> T:
    """What the future gives; TimedOut if that takes longer."""
    if is_plain():
        return future.result(seconds)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except asyncio.TimeoutError:
        raise TimedOut from None


async def turn() -> None:
    """Lets others on an event loop have their turn: who finds what it looks for every time would keep it."""
    if not is_plain():
        await asyncio.sleep(0)


class Method(Generic[P, T]):
    """A method that waits."""

    def __init__(self, work: Callable[P, Coroutine[Any, Any, T]]) -> None:
        self.aio = work
        functools.update_wrapper(self, work)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        outer, _thread.is_plain = getattr(_thread, "is_plain", False), True
        try:
            self.aio(*args, **kwargs).send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            _thread.is_plain = outer
        raise AssertionError("it waits for something else than until()")


class both(Generic[P, T]):
    """Makes a method of such a coroutine."""

    def __init__(self, work: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self.__doc__ = work.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> Method[P, T]:
        return Method(functools.partial(self._work, instance))


class Part:
    """A part of a sandbox or of a program, that is of no use without it."""

    __slots__ = ("__dict__", "__weakref__", "_whole")
    _whole: object

    def _part_of(self, whole: object) -> Self:
        """The same part, as another object that keeps the whole alive. A whole that refers to its parts gives these
        away: if a part of its own referred to it, only the cyclic garbage collector would find that both are lost."""
        view = object.__new__(type(self))
        view.__dict__, view._whole = self.__dict__, whole
        return view


class Stream(Part, Generic[T]):
    """What comes piece by piece, to be iterated over in either form. None is the end."""

    _looked = 0

    async def _next(self) -> T | None:
        raise NotImplementedError

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        piece = Method(self._next)()
        if piece is None:
            raise StopIteration
        return piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await self._turns()
        piece = await self._next()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _turns(self) -> None:
        """For each piece, before it is taken: what is cancelled here takes none."""
        self._looked += 1
        if self._looked % AT_ONCE == 0:
            await turn()


def new_future() -> Future[Any]:
    """A future that no waiter can cancel for the others."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def settle(future: Future[Any], result: object = None) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


class Bell:
    """Wakes who waits for a change that one thread brings about: take `coming`, look, then wait for it."""

    def __init__(self) -> None:
        self.coming = new_future()

    def ring(self) -> None:
        came, self.coming = self.coming, new_future()
        settle(came)


def in_thread(work: Callable[..., T], *arguments: Any, daemon: bool = True) -> Future[T]:
    """Does what blocks in a thread of its own. One that isn't a daemon is waited for when the process ends."""
    done = new_future()

    def run() -> None:
        try:
            settle(done, work(*arguments))
        except BaseException as error:
            settle(done, error)

    threading.Thread(target=run, name="libsbx-python", daemon=daemon).start()
    return done
