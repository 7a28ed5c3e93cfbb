"""One queue and one thread for all sandboxes of the process: events, and what their programs write."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import itertools
import logging
import os
import re
import resource
import select
import socket
import threading
from concurrent.futures import Future
from typing import Any, Callable

from . import native
from .exception import ConflictError, Error
from .native import call
from .waiting import new_future, settle

log = logging.getLogger("libsbx")

MOST_EVENTS, MOST_DESCRIPTORS = 65536, 1 << 20


def guarded(work: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns. The hub's thread goes on whatever it raises, and whatever the host's own logging raises."""
    try:
        return work(*arguments)
    except BaseException:
        with contextlib.suppress(BaseException):
            log.exception("an error in the thread libsbx-python")


class Hub:
    def __init__(self) -> None:
        self.queue = ctypes.c_void_p()
        call("queue_new", MOST_EVENTS, ctypes.byref(self.queue))
        self._cookies = itertools.count(1)
        self._takers: dict[int, tuple[Callable[[Any], bool], Callable[[], None]]] = {}
        self._lock = threading.Lock()  # held while something is begun: its events wait until its handle is there
        self._handlers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._bell = call("queue_open_fd", self.queue)
        self.watch(self._bell, select.EPOLLIN, self._ring)
        self._asked: collections.deque[Callable[[], None]] = collections.deque()
        asked, self._asking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(asked, select.EPOLLIN, functools.partial(_empty, asked))
        threading.Thread(target=self._run, name="libsbx-python", daemon=True).start()

    def begin(
        self, taker: Callable[[Any], bool], start: Callable[[int], object], look: Callable[[], None] = lambda: None
    ) -> None:
        """Begins something with a cookie. Its events are the taker's, until it has said that one was the last. After a
        loss of events, `look` finds out what they would have told."""
        with self._lock:
            cookie = next(self._cookies)
            start(cookie)
            self._takers[cookie] = taker, look

    def watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Only in the hub's thread, where no event of it can be on its way."""
        if fd in self._handlers:
            self._epoll.unregister(fd)
            del self._handlers[fd]

    def writable(self, fd: int) -> Future[Any]:
        """What comes when the descriptor takes something. It is watched no longer than that, however late somebody
        looks."""
        room = new_future()

        def found() -> None:
            self.unwatch(fd)
            settle(room)

        self.watch(fd, select.EPOLLOUT, found)
        return room

    def close(self, stream: socket.socket) -> None:
        """Closes what may be watched. A forked child may have a copy: epoll wouldn't forget it by itself."""

        def forget() -> None:
            self.unwatch(stream.fileno())
            stream.close()

        if stream.fileno() in self._handlers:
            self.soon(forget)
        else:
            stream.close()

    def soon(self, work: Callable[[], None]) -> None:
        """Has the hub's thread do it. Takes no lock: also for finalizers, which come in the middle of anything. In a
        forked child, which may have closed the descriptor, nothing is done."""
        if is_here(self):
            self._asked.append(work)
            with contextlib.suppress(BlockingIOError):
                os.write(self._asking, b"\0")

    def check(self) -> None:
        """Raises in a forked child, whose copy of this has no thread."""
        if not is_here(self):
            call("config_check", None)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                handler = self._handlers.get(fd)
                if handler is not None:
                    guarded(handler)
            while self._asked:
                guarded(self._asked.popleft())

    def _ring(self) -> None:
        _empty(self._bell)
        event = native.new("event")
        while call("queue_next", self.queue, ctypes.byref(event)) == 1:
            with self._lock:
                taker, _ = self._takers.get(event.cookie, (None, None))
                looks = [look for _, look in self._takers.values()] if event.lost > 0 else []
            for look in looks:
                guarded(look)
            if taker is not None and guarded(taker, event):
                self._takers.pop(event.cookie, None)


def _empty(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)


_hub: Hub | None = None
_lock = threading.Lock()


def _raise_descriptor_limit() -> None:
    """The soft limit of descriptors becomes the hard one, as Node and Go do for themselves: a sandbox takes 18, and the
    usual 1,024 are those of select(). SBX_RAISE_NOFILE=0 leaves it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard if hard != resource.RLIM_INFINITY else MOST_DESCRIPTORS, MOST_DESCRIPTORS)
    if os.environ.get("SBX_RAISE_NOFILE") != "0" and soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def the_hub() -> Hub:
    global _hub
    with _lock:
        if _hub is None:
            _raise_descriptor_limit()
            _hub = Hub()
        return _hub


def is_here(hub: Hub) -> bool:
    """Whether its thread is in this process, not in the parent of a fork."""
    return _hub is hub


def _in_child() -> None:
    """After fork: the parent's thread isn't here, and its lock may have been held. The library refuses every call if
    the parent has used it; if it hasn't (a server that forks its workers first), the child is free to."""
    global _hub, _lock
    _hub, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_in_child)


class Life:
    """What is known of a sandbox, or of a program executed in one, from its events."""

    def __init__(self, failure: str = "sandbox_failure") -> None:
        self._failure = failure
        self.started, self.ready, self.exited = new_future(), new_future(), new_future()
        self.handle, self.what = ctypes.c_void_p(), ""
        self.on_denied: Callable[[Any], None] = lambda event: None
        self.kept: object = None  # a detached sandbox, until its end
        self.asked = False  # whether somebody waits until it is ready

    @property
    def reason(self) -> str | None:
        """Why it ended, or None. A later library may know further reasons."""
        if not self.exited.done() or self.exited.exception():
            return None
        reason = self.exited.result()[1]
        return native.EXIT_REASONS[reason] if reason < len(native.EXIT_REASONS) else "unknown"

    def why(self) -> str:
        """The same in words, with a colon before them."""
        return ": " + re.sub("[A-Z]", lambda letter: " " + letter[0].lower(), self.reason) if self.reason else ""

    def begin(self, hub: Hub, how: str, on: ctypes.c_void_p | None, config: native.Draft) -> None:
        """Begins what this config asks for."""

        def start(cookie: int) -> None:
            config.set("set_queue", hub.queue, cookie)
            call(how, on, config.handle, ctypes.byref(self.handle))

        hub.begin(self._happened, start, self._look)

    def _look(self) -> None:
        if self.asked:
            with contextlib.suppress(Error):
                call("wait_ready", self.handle, 0)
                settle(self.ready)

    def _happened(self, event: Any) -> bool:
        if event.kind in (native.EVENT_STARTED, native.EVENT_PROCESS_STARTED, native.EVENT_READY):
            settle(self.ready if event.kind == native.EVENT_READY else self.started)
        elif event.kind in (native.EVENT_FAILED, native.EVENT_EXITED, native.EVENT_PROCESS_EXITED):
            ended: Error | None = None
            try:
                if event.kind == native.EVENT_FAILED or event.code < 0:
                    call(self._failure, self.handle)
                settle(self.exited, (event.code, event.reason))
            except Error as failure:
                ended = failure
            ended = ended or ConflictError(f"{self.what} has ended{self.why()}")
            for future in (self.started, self.ready, self.exited):
                settle(future, ended)
            self.kept = None
            return True
        else:
            if event.kind == native.EVENT_DENIED:
                self.on_denied(event)
            if event.detail:
                log.warning("%s: %s", self.what, event.detail.decode("utf-8", "replace"))
        return False
