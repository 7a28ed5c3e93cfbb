"""gVisor sandboxes inside your own process, under the names of Modal's Sandboxes.

    import sbx, urllib.request

    with sbx.Sandbox.create("python3", "-m", "http.server", "12345", encrypted_ports=[12345]) as sb:
        tunnel = sb.tunnels()[12345]
        sb.wait_until_ready()
        print(urllib.request.urlopen(tunnel.url, context=tunnel.ssl_context()).read().decode())

One module over ctypes: no compiler, nothing but the standard library. Every method that waits has two forms: the plain
one, and `.aio` for asyncio (`await sb.wait.aio()`), on any event loop and in any thread. README.md beside this file
says which of Modal's parameters work.
"""

from __future__ import annotations

import asyncio
import codecs
import collections
import contextlib
import ctypes
import dataclasses
import enum
import functools
import itertools
import logging
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import warnings
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as _TimedOut
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Generator, Generic, Iterable, Mapping, Sequence, TypeVar

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec, Self

    P = ParamSpec("P")
    # A method that waits is a generator of what it waits for, a future, and for how many seconds.
    _Steps = Generator[tuple[Future[Any], float | None], Any, T]
else:
    P = TypeVar("P")

log = logging.getLogger("sbx")

#: Whether the first encrypted tunnel sets REQUESTS_CA_BUNDLE, unless the environment says already whom to trust.
trust_in_environment = True

# ---- errors: Modal's names, with the library's numbers ---------------------------------------------------------------


class Error(Exception):
    """What every error of this module is. `code` is the library's number (SBX_E...) and `os_error` an errno; or 0."""

    def __init__(self, message: str = "", code: int = 0, os_error: int = 0) -> None:
        super().__init__(message)
        self.message, self.code, self.os_error = message, code, os_error


class InvalidError(Error):
    """An argument, a setting or a handle that is not allowed; the message names it and the rule."""


class UnimplementedError(Error):
    """Something of Modal's that is not here, or a combination that the library doesn't support."""


class AlreadyExistsError(Error):
    """The name is taken by another live sandbox of this process."""


class NotFoundError(Error):
    """There is no such thing."""


class ConflictError(InvalidError):
    """Not possible in the state that the sandbox is in."""


class ResourceExhaustedError(Error):
    """A limit of the library or of the process is reached."""


class ExecutionError(Error):
    """The program could not be started in the sandbox."""


class ConnectionError(Error):
    """Nothing in the sandbox accepts connections there."""


class HostError(Error):
    """This machine lacks something, for example runsc; the message says what and how to get it."""


class InternalError(Error):
    """The sandbox's engine was lost, or a bug of the library."""


class ForkedError(Error):
    """Called in a child of fork: only the process that first created a sandbox can use the library."""


class ClientClosed(Error):
    """The object was closed or detached."""


class TimeoutError(Error):
    """The time given ran out."""


class SandboxTimeoutError(TimeoutError):
    """The sandbox lived for as long as it may, or was not there in time."""


class SandboxTerminatedError(Error):
    """The sandbox was ended from outside."""


_ERRORS: dict[int, type[Error]] = {
    -1001: InvalidError,  # EINVALID
    -1002: InvalidError,  # EHANDLE
    -1003: InvalidError,  # ESIZE
    -1004: TimeoutError,
    -1005: ClientClosed,
    -1006: ConflictError,  # ESTATE
    -1007: AlreadyExistsError,
    -1008: NotFoundError,
    -1009: UnimplementedError,  # EUNSUPPORTED
    -1010: ResourceExhaustedError,
    -1011: HostError,
    -1012: HostError,  # ERUNSC_MISSING
    -1013: HostError,  # ERUNSC_UNUSABLE
    -1014: InternalError,  # EENGINE
    -1015: ForkedError,
    -1017: HostError,  # ESYSTEM
    -1018: ConnectionError,  # EREFUSED
    -1019: ExecutionError,  # EEXEC
}

# ---- the shared library ----------------------------------------------------------------------------------------------


def _fields(layout: str) -> list[tuple[str, Any]]:
    """The fields of a struct, written as kind and name (see _KINDS); a number is an array of that many bytes."""
    words = [field.split() for field in layout.split(",")]
    return [(name, _KINDS[kind] if kind in _KINDS else ctypes.c_char * int(kind)) for kind, name in words]


_KINDS: dict[str, Any] = {
    "h": ctypes.c_void_p,  # a handle
    "&": ctypes.c_void_p,  # the address of a result, a struct or an array
    "e": ctypes.c_void_p,  # the error
    "s": ctypes.c_char_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint32,
    "q": ctypes.c_int64,
    "Q": ctypes.c_uint64,
    "z": ctypes.c_size_t,
    "v": None,
}


class _Error(ctypes.Structure):
    _fields_ = _fields("u size, i code, i os_error, u reserved, 496 message")


class _Event(ctypes.Structure):
    _fields_ = _fields(
        "u size, u kind, Q cookie, Q sequence, q time_ms, Q lost, i code, i reason, i rule, u protocol, u port, u count,"
        "64 address, 280 detail"
    )


# The functions, by what they take, a letter a parameter, and what they return if that isn't an int. The tests compare
# this, and the structs, with the header.
_FUNCTIONS = {
    ">u": "abi_version",
    ">h": "policy_new_open policy_new_allowlist policy_new_blocked config_new exec_config_new",
    "h>v": "queue_free policy_free config_free sandbox_free sandbox_list_free tunnel_map_free exec_config_free "
    "process_free",
    "h>s": "sandbox_id",
    "h": "sandbox_state tunnel_map_count",
    "he": "queue_open_fd config_check exec_config_check terminate sandbox_failure process_failure",
    "hs": "policy_allow_cidr policy_allow_domain config_set_workdir config_set_user config_set_name config_set_rootfs "
    "config_add_tls_name exec_config_set_workdir exec_config_set_user",
    "hss": "config_set_env config_set_secret config_mount_read_only config_mount_writable exec_config_set_env "
    "exec_config_set_secret",
    "hh": "config_set_policy",
    "hhQ": "config_set_queue exec_config_set_queue",
    "hq": "config_set_timeout_ms config_set_idle_timeout_ms exec_config_set_timeout_ms",
    "hQ": "config_set_memory config_set_disk",
    "hi": "config_set_limit_mode",
    "huu": "exec_config_set_pty",
    "huue": "process_resize",
    "hu": "config_add_encrypted_port config_add_h2_port config_add_unencrypted_port tunnel_map_port "
    "config_set_cpu config_set_max_processes config_set_max_open_files",
    "hu>s": "tunnel_map_host tunnel_map_url tunnel_map_ca_pem tunnel_map_spki_sha256",
    "huq": "config_set_tcp_probe",
    "hue": "connect",
    "hii": "config_set_stream exec_config_set_stream",
    "hie": "signal sandbox_open_fd process_signal process_open_fd",
    "hz": "tunnel_map_container_port",
    "h&z": "config_set_command exec_config_set_command config_set_inbound_cidr_allowlist",
    "h&zq": "config_set_exec_probe",
    "u&e": "queue_new",
    "h&e": "runtime_sandboxes queue_next",
    "hh&e": "create_begin exec_begin",
    "hqe": "wait_ready",
    "hq&e": "tunnels",
}
_ABI_VERSION = 0x000100


def _load() -> ctypes.CDLL:
    """The shared library: SBX_LIBRARY and nothing else if that is set; else beside this file, in the build's directories
    of this checkout, and where the system looks."""
    named = os.environ.get("SBX_LIBRARY")
    here = Path(__file__).resolve().parent
    build = Path(os.environ.get("CARGO_TARGET_DIR") or here.parent.parent / "target")
    places = [named] if named else [str(at / "libsbx.so") for at in (here, build / "release", build / "debug")]
    if not named:
        places = [place for place in places if os.path.exists(place)] + ["libsbx.so.0"]
    tried = []
    for place in places:
        try:
            library = ctypes.CDLL(place)
            library.sbx_abi_version.restype = ctypes.c_uint32
            version = library.sbx_abi_version()
        except (OSError, AttributeError) as error:
            tried.append(f"{place}: {error}")
            continue
        # While the major number is 0, minor numbers differ as major ones do later.
        if version < _ABI_VERSION or version >> 8 != _ABI_VERSION >> 8:
            tried.append(f"{place}: its ABI is {version:#x}; this module was written for {_ABI_VERSION:#x}")
            continue
        for kinds, names in _FUNCTIONS.items():
            parameters, _, result = kinds.partition(">")
            for name in names.split():
                function = getattr(library, "sbx_" + name)
                function.argtypes = [_KINDS[kind] for kind in parameters]
                function.restype = _KINDS[result or "i"]
        return library
    raise ImportError(
        "libsbx was not found. Build it (cargo build --release), put libsbx.so beside "
        f"{Path(__file__).name}, install it, or name it in SBX_LIBRARY. Tried: {'; '.join(tried)}"
    )


_library = _load()
_STARTED, _FAILED, _READY, _EXITED, _PROCESS_EXITED, _PROCESS_STARTED = 1, 2, 3, 4, 5, 10
_TIMED_OUT_REASON, _ENDED_FROM_OUTSIDE = 3, (4, 5, 6, 7)
_STREAM_DESCRIPTOR, _TERMINAL, _LIMITS_WATCHDOG = 1, 3, 1


def _call(name: str, *arguments: Any) -> int:
    """Calls a function whose last parameter is the error, and raises that."""
    error = _Error(ctypes.sizeof(_Error))
    result: int = getattr(_library, "sbx_" + name)(*arguments, ctypes.byref(error))
    if result < 0:
        message = error.message.decode("utf-8", "replace") or f"sbx_{name} returned {result}"
        raise _ERRORS.get(result, InternalError)(message, result, error.os_error)
    return result


def _bytes(text: object) -> bytes:
    """A text as C takes it. What isn't valid UTF-8 is left to the library to refuse."""
    if not isinstance(text, (str, os.PathLike)):
        raise InvalidError(f"{text!r} is not a string")
    coded = os.fspath(text).encode("utf-8", "surrogateescape")
    if b"\0" in coded:
        raise InvalidError(f"{text!r} contains a NUL character")
    return coded


def _array(texts: Iterable[str]) -> Any:
    coded = [_bytes(text) for text in texts]
    return (ctypes.c_char_p * len(coded))(*coded)


def _text(name: str, *arguments: Any) -> str | None:
    found: bytes | None = getattr(_library, "sbx_" + name)(*arguments)
    return None if found is None else found.decode()


class _Made:
    """A config or a policy while it is being filled in. Its first bad value is what the library reports at the end."""

    def __init__(self, kind: str, how: str) -> None:
        self._kind = kind
        self.handle = getattr(_library, f"sbx_{kind}_{how}")()
        if not self.handle:
            _call("config_check", None)  # says why: a forked child, or no handles left

    def set(self, what: str, *arguments: Any) -> None:
        given = [_bytes(value) if isinstance(value, (str, os.PathLike)) else value for value in arguments]
        try:
            getattr(_library, f"sbx_{self._kind}_{what}")(self.handle, *given)
        except ctypes.ArgumentError:
            kinds = ", ".join(type(value).__name__ for value in arguments)
            raise InvalidError(f"{what} doesn't take {kinds}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        getattr(_library, f"sbx_{self._kind}_free")(self.handle)


# ---- waiting, in a plain and an asyncio form -------------------------------------------------------------------------


class _Method(Generic[P, T]):
    """A method that waits: called, it does so in this thread (and Ctrl-C works); `.aio` in the running event loop."""

    def __init__(self, steps: Callable[P, _Steps[T]]) -> None:
        self._steps = steps
        functools.update_wrapper(self, steps)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = self._steps(*args, **kwargs)
        step: Callable[[], tuple[Future[Any], float | None]] = functools.partial(next, steps)
        while True:
            try:
                future, seconds = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, future.result(seconds))
            except BaseException as error:
                step = functools.partial(steps.throw, error)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = self._steps(*args, **kwargs)
        step: Callable[[], tuple[Future[Any], float | None]] = functools.partial(next, steps)
        while True:
            try:
                future, seconds = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, await asyncio.wait_for(asyncio.wrap_future(future), seconds))
            except asyncio.TimeoutError as error:
                step = functools.partial(steps.throw, _TimedOut(*error.args))
            except BaseException as error:
                step = functools.partial(steps.throw, error)


class _both(Generic[P, T]):
    """Makes a method of such a generator."""

    def __init__(self, steps: Callable[Concatenate[Any, P], _Steps[T]]) -> None:
        self._steps = steps
        self.__doc__ = steps.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> _Method[P, T]:
        return _Method(functools.partial(self._steps, instance))


def _future() -> Future[Any]:
    """A future that no waiter can cancel for the others."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _settle(future: Future[Any], result: object = None) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


class _Life:
    """What is known of a sandbox, or of a program executed in one, from its events."""

    def __init__(self, failure: str = "sandbox_failure") -> None:
        self.failure = failure
        self.begun = threading.Lock()  # held while it is being begun: its handle isn't there yet
        self.started, self.ready, self.exited = _future(), _future(), _future()
        self.handle = ctypes.c_void_p()
        self.what = ""
        self.kept: Sandbox | None = None  # a detached sandbox, until its end

    def happened(self, event: _Event) -> bool:
        """Whether that was the last event."""
        with self.begun:
            handle = self.handle
        if event.kind in (_STARTED, _PROCESS_STARTED):
            _settle(self.started)
        elif event.kind == _READY:
            _settle(self.ready)
        elif event.kind in (_FAILED, _EXITED, _PROCESS_EXITED):
            ended: Error = ConflictError(f"{self.what} has ended")
            try:
                if event.kind == _FAILED or event.code < 0:
                    _call(self.failure, handle)
                _settle(self.exited, (event.code, event.reason))
            except Error as failure:
                ended = failure
            for future in (self.started, self.ready, self.exited):
                _settle(future, ended)
            self.kept = None
            return True
        elif event.detail:
            log.warning("%s: %s", self.what, event.detail.decode("utf-8", "replace"))
        return False


class _Hub:
    """One queue and one thread for all sandboxes of the process: events, and what their programs write."""

    def __init__(self) -> None:
        self.queue = ctypes.c_void_p()
        _call("queue_new", 65536, ctypes.byref(self.queue))
        self._cookies = itertools.count(1)
        self._lives: dict[int, Callable[[_Event], bool]] = {}
        self._handlers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._bell = _call("queue_open_fd", self.queue)
        self._runtime: Future[Any] | None = None
        self.watch(self._bell, select.EPOLLIN, self._ring)
        threading.Thread(target=self._run, name="libsbx-python", daemon=True).start()

    def runtime(self) -> Future[Any]:
        """The library's own runtime. Making it takes a moment, as runsc is asked what it is; once that failed, it is
        tried again the next time."""
        if self._runtime is None or (self._runtime.done() and self._runtime.exception()):
            made = self._runtime = _future()

            def make() -> None:
                sandboxes = ctypes.c_void_p()
                try:
                    _call("runtime_sandboxes", None, ctypes.byref(sandboxes))
                    _library.sbx_sandbox_list_free(sandboxes)
                    _settle(made)
                except BaseException as error:
                    _settle(made, error)

            threading.Thread(target=make, name="libsbx-python", daemon=True).start()
        return self._runtime

    def begin(self, life: _Life, how: str, on: ctypes.c_void_p | None, config: _Made) -> None:
        """Begins what this config asks for; its events are that life's."""
        cookie = next(self._cookies)
        self._lives[cookie] = life.happened
        config.set("set_queue", self.queue, cookie)
        try:
            with life.begun:
                _call(how, on, config.handle, ctypes.byref(life.handle))
        except BaseException:
            del self._lives[cookie]
            raise

    def watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._handlers.pop(fd, None)

    def check(self) -> None:
        """Raises in a forked child, whose copy of this has no thread."""
        if _hub is not self:
            _call("config_check", None)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                handler = self._handlers.get(fd)
                if handler is not None:
                    try:
                        handler()
                    except Exception:
                        log.exception("a descriptor's handler")

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 4096)
        event = _Event(ctypes.sizeof(_Event))
        while _call("queue_next", self.queue, ctypes.byref(event)) == 1:
            happened = self._lives.get(event.cookie)
            if happened is not None and happened(event):
                self._lives.pop(event.cookie, None)


_hub: _Hub | None = None
_lock = threading.Lock()


def _the_hub() -> _Hub:
    global _hub
    with _lock:
        if _hub is None:
            _hub = _Hub()
        return _hub


def _in_child() -> None:
    """After fork: the parent's thread isn't here, and its lock may have been held. The library refuses every call if the
    parent has used it; if it hasn't (a server that forks its workers first), the child is free to."""
    global _hub, _lock
    _hub, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_in_child)

# ---- what programs write and read ------------------------------------------------------------------------------------

_MOST_UNREAD = 16 << 20


class StreamType(enum.Enum):
    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL
    STDOUT = subprocess.STDOUT


class StreamReader(Generic[T]):
    """What a program writes. Iterating gives it as it comes (line by line, where that was asked for); read() waits for
    its end.

    A program never waits for a reader that isn't there: until somebody begins to read, the last 16 MiB are kept, and
    `lost` counts the bytes before them. From then on nothing is lost, and a program that is too fast waits.
    """

    def __init__(self, hub: _Hub, fd: int, text: bool = True, by_line: bool = False) -> None:
        self.lost = 0
        self._hub, self._fd = hub, fd
        self._by_line = by_line and text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None
        self._rest = ""
        self._pieces: collections.deque[Any] = collections.deque()
        self._finished = False
        # What follows is shared with the hub's thread.
        self._lock = threading.Lock()
        self._unread = bytearray()
        self._reading = self._paused = self._eof = False
        self._waiting: list[Future[Any]] = []
        if fd < 0:
            self._eof = True
        else:
            hub.watch(fd, select.EPOLLIN, self._readable)

    @_both
    def read(self) -> _Steps[T]:
        """Everything from here to the end of the stream."""
        pieces: list[Any] = []
        while True:
            piece = yield from self._next()
            if not piece:
                return ("" if self._decoder else b"").join(pieces)  # type: ignore[return-value]
            pieces.append(piece)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        piece: T = _Method(self._next)()
        if not piece:
            raise StopIteration
        return piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        piece: T = await _Method(self._next).aio()
        if not piece:
            raise StopAsyncIteration
        return piece

    def _next(self) -> _Steps[Any]:
        """The next piece; an empty one at the end."""
        while not self._pieces and not self._finished:
            data = yield from self._some()
            self._finished = not data
            piece: Any = self._decoder.decode(data, self._finished) if self._decoder else data
            if self._by_line:
                *lines, self._rest = (self._rest + piece).split("\n")
                self._pieces.extend(line + "\n" for line in lines)
                piece, self._rest = (self._rest, "") if self._finished else ("", self._rest)
            if piece:
                self._pieces.append(piece)
        return self._pieces.popleft() if self._pieces else ("" if self._decoder else b"")

    def _some(self) -> _Steps[bytes]:
        while True:
            self._hub.check()
            with self._lock:
                self._reading = True
                if self._unread or self._eof:
                    data = bytes(self._unread)
                    self._unread.clear()
                    if self._paused:
                        self._paused = False
                        self._hub.watch(self._fd, select.EPOLLIN, self._readable)
                    return data
                more = _future()
                self._waiting.append(more)
            yield more, None

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self._lock:
            self._unread += data
            surplus = len(self._unread) - _MOST_UNREAD
            if not data:
                self._eof = True
                self._hub.unwatch(self._fd)
                os.close(self._fd)
            elif surplus > 0 and self._reading:
                self._paused = True
                self._hub.unwatch(self._fd)
            elif surplus > 0:
                self.lost += surplus
                del self._unread[:surplus]
            waiting, self._waiting = self._waiting, []
        for more in waiting:
            _settle(more)


class StreamWriter:
    """What a program reads: write() and write_eof() collect, drain() sends."""

    def __init__(self, hub: _Hub, fd: int, terminal: bool = False) -> None:
        self._hub, self._terminal = hub, terminal
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        weakref.finalize(self, self._socket.close)
        self._unsent = bytearray()
        self._eof = False

    def write(self, data: str | bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise ValueError("Stdin is closed. Cannot write to it.")
        self._unsent += data.encode() if isinstance(data, str) else data

    def write_eof(self) -> None:
        if self._terminal and not self._eof:
            self._unsent += b"\x04"  # Ctrl-D; the end of the stream would hang up
        self._eof = True

    @_both
    def drain(self) -> _Steps[None]:
        """Sends what was written; waits while the program doesn't read. BrokenPipeError if it never will."""
        self._hub.check()
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
                del self._unsent[:sent]
            except BlockingIOError:
                writable = _future()
                self._hub.watch(self._socket.fileno(), select.EPOLLOUT, functools.partial(_settle, writable))
                try:
                    yield writable, None
                finally:
                    self._hub.unwatch(self._socket.fileno())
        if self._eof and not self._terminal and self._socket.fileno() >= 0:
            # A forked child may have a copy: closing ours alone would not end the stream.
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.close()


# ---- tunnels, and whom to trust --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tunnel:
    """Where a port of the sandbox is reached. `ca_pem` is the certificate to trust, `spki_sha256` the key to pin."""

    host: str
    port: int
    unencrypted_host: str = ""
    unencrypted_port: int = 0
    ca_pem: str | None = dataclasses.field(default=None, repr=False)
    spki_sha256: str | None = dataclasses.field(default=None, repr=False)

    @property
    def url(self) -> str:
        host, port = self.tls_socket
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    @property
    def tls_socket(self) -> tuple[str, int]:
        if self.unencrypted_host:
            raise InvalidError("this tunnel is of raw TCP: use tcp_socket, or list the port in encrypted_ports")
        return (self.host, self.port)

    @property
    def tcp_socket(self) -> tuple[str, int]:
        if not self.unencrypted_host:
            raise InvalidError("this tunnel is encrypted: use tls_socket, or list the port in unencrypted_ports")
        return (self.unencrypted_host, self.unencrypted_port)

    def ssl_context(self) -> ssl.SSLContext:
        """For clients that take one (urllib, http.client, aiohttp, httpx): trusts this tunnel's authority alone."""
        return ssl.create_default_context(cadata=self.ca_pem)


class _Trust:
    """A file of the public authorities and ours. It is in memory, so that nothing is left of it however we end; the name
    holds in this process's children, too."""

    def __init__(self) -> None:
        self.path = ""
        self._file = -1
        self._known: set[str] = set()

    def add(self, pem: str) -> None:
        if pem in self._known:
            return
        self._known.add(pem)
        if self._file < 0:
            self._file = os.memfd_create("sbx-ca-bundle", os.MFD_CLOEXEC)
            self.path = f"/proc/{os.getpid()}/fd/{self._file}"
            os.write(self._file, self._public())
        os.write(self._file, b"\n" + pem.encode())
        if trust_in_environment and not os.environ.get("REQUESTS_CA_BUNDLE") and not os.environ.get("CURL_CA_BUNDLE"):
            os.environ["REQUESTS_CA_BUNDLE"] = self.path

    @staticmethod
    def _public() -> bytes:
        try:
            import certifi  # type: ignore[import-not-found, unused-ignore]

            roots = certifi.where()
        except ImportError:
            roots = ssl.get_default_verify_paths().cafile or ""
        return Path(roots).read_bytes() if roots else b""


_trust = _Trust()


def ca_bundle() -> str:
    """The path of a file with the public authorities and those of this process's tunnels, for clients that take one:
    requests.get(url, verify=sbx.ca_bundle()). There is one as soon as tunnels() has returned an encrypted one."""
    if not _trust.path:
        raise NotFoundError("there is no encrypted tunnel yet: call tunnels() first")
    return _trust.path


# ---- Modal's small things --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class App:
    """A name, and nothing else: there is no account that sandboxes belong to."""

    name: str | None = None

    @staticmethod
    def lookup(name: str, **_: object) -> App:
        return App(name)


class Secret:
    """Environment variables that are not to be shown."""

    def __init__(self, values: Mapping[str, str | None]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None]) -> Secret:
        return Secret(env_dict)

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> Secret:
        return Secret({name: os.environ[name] for name in env_keys})


@dataclasses.dataclass(frozen=True)
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
        return cls(exec_argv=argv, interval_ms=interval_ms)


# Parameters of Modal's that are not here, and what there is instead. Their defaults are accepted.
_NOT_HERE = {
    "image": "a directory of the host can be the root file system: rootfs=",
    "volumes network_file_systems": "a directory of the host can be mounted: mounts=, writable_mounts=",
    "pty pty_info": "only programs of exec() have terminals: exec(pty=True)",
    "custom_domain": "tunnels are on 127.0.0.1; tls_names= adds names to their certificate",
    "verbose": 'set the level of the logger "sbx"',
    "gpu cloud region runtime proxy client environment_name include_oidc_identity_token experimental_options "
    "_experimental_outbound_policy _experimental_enable_snapshot _experimental_persistent": "there is no such thing here",
}


def _refuse_others(others: Mapping[str, object]) -> None:
    reasons = {name: reason for names, reason in _NOT_HERE.items() for name in names.split()}
    for name, value in others.items():
        if name not in reasons:
            raise TypeError(f"Sandbox.create() got an unexpected keyword argument {name!r}")
        if value:
            raise UnimplementedError(f"Sandbox.create({name}=...) is not supported: {reasons[name]}")


def _program(arguments: Sequence[str], rootfs: object = None) -> Sequence[str]:
    """Modal's default image has a `python`; a distribution's /usr, which is ours, often has `python3` only."""
    if rootfs is None and arguments[:1] == ("python",):
        if not any(os.path.exists(f"/usr/{place}/python") for place in ("local/sbin", "local/bin", "sbin", "bin")):
            return ("python3", *arguments[1:])
    return arguments


# ---- sandboxes -------------------------------------------------------------------------------------------------------


class ContainerProcess:
    """A program started by Sandbox.exec(). It runs on if this object is lost."""

    def __init__(self, hub: _Hub, life: _Life, streams: Mapping[int, bool], terminal: bool, text: bool, by_line: bool):
        self._life = life
        weakref.finalize(self, _library.sbx_process_free, life.handle)
        if terminal:
            shared = _call("process_open_fd", life.handle, _TERMINAL)
            self.stdin = StreamWriter(hub, os.dup(shared), terminal=True)
            fds = {1: shared}
        else:
            fds = {
                stream: _call("process_open_fd", life.handle, stream) for stream, wanted in streams.items() if wanted
            }
            self.stdin = StreamWriter(hub, fds[0])
        self.stdout: StreamReader[Any] = StreamReader(hub, fds.get(1, -1), text, by_line)
        self.stderr: StreamReader[Any] = StreamReader(hub, fds.get(2, -1), text, by_line)

    @_both
    def wait(self) -> _Steps[int]:
        """Waits for the program's end and returns its code; -1 if its time ran out."""
        yield self._life.exited, None
        return self.returncode

    @_both
    def poll(self) -> _Steps[int | None]:
        """The code, or None while the program runs."""
        return self.returncode if self._life.exited.done() else None
        yield

    @property
    def returncode(self) -> int:
        if not self._life.exited.done():
            raise InvalidError("You must call wait() before accessing the returncode; poll() tells whether it runs.")
        code, reason = self._life.exited.result()
        return -1 if reason == _TIMED_OUT_REASON else code

    def send_signal(self, signal: int) -> None:
        """Sends the program, and what it has started, a signal."""
        _call("process_signal", self._life.handle, signal)

    def resize(self, rows: int, columns: int) -> None:
        """Gives the program's terminal another size."""
        _call("process_resize", self._life.handle, rows, columns)


_sandboxes: weakref.WeakValueDictionary[str, Sandbox] = weakref.WeakValueDictionary()


def _create(
    *args: str,
    app: App | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    env: Mapping[str, str | None] | None = None,
    secrets: Iterable[Secret] | None = None,
    timeout: int = 300,
    idle_timeout: int | None = None,
    cpu: float | tuple[float, float] | None = None,
    memory: int | tuple[int, int] | None = None,
    workdir: str | None = None,
    block_network: bool = False,
    outbound_cidr_allowlist: Sequence[str] | None = None,
    outbound_domain_allowlist: Sequence[str] | None = None,
    inbound_cidr_allowlist: Sequence[str] | None = None,
    cidr_allowlist: Sequence[str] | None = None,
    encrypted_ports: Sequence[int] = (),
    h2_ports: Sequence[int] = (),
    unencrypted_ports: Sequence[int] = (),
    readiness_probe: Probe | None = None,
    user: str | None = None,
    rootfs: str | os.PathLike[str] | None = None,
    mounts: Mapping[str, str | os.PathLike[str]] | None = None,
    writable_mounts: Mapping[str, str | os.PathLike[str]] | None = None,
    tls_names: Sequence[str] = (),
    memory_watchdog: bool = False,
    max_processes: int | None = None,
    max_open_files: int | None = None,
    disk: int | None = None,
    **others: Any,
) -> _Steps[Sandbox]:
    """Creates a sandbox and returns once its program was started.

    The parameters and their defaults are Modal's, and these: `user`, `rootfs` (a directory), `mounts` and
    `writable_mounts` (place inside -> path on the host), `tls_names` (further names of the certificate), `memory_watchdog`
    (where the kernel can't hold the limit), `max_processes`, `max_open_files`, `disk` (MiB of files).
    """
    _refuse_others(others)
    if cidr_allowlist is not None:
        if outbound_cidr_allowlist is not None:
            raise InvalidError("Cannot specify both `cidr_allowlist` and `outbound_cidr_allowlist`.")
        outbound_cidr_allowlist = cidr_allowlist
    if block_network:
        if encrypted_ports or h2_ports or unencrypted_ports:
            raise InvalidError("Cannot specify open ports when `block_network` is enabled")
        for parameter, value in (
            ("outbound_cidr_allowlist", outbound_cidr_allowlist),
            ("outbound_domain_allowlist", outbound_domain_allowlist),
            ("inbound_cidr_allowlist", inbound_cidr_allowlist),
        ):
            if value is not None:
                raise InvalidError(f"`{parameter}` cannot be used when `block_network` is enabled")
    hub = _the_hub()
    life = _Life()
    with _Made("config", "new") as config:
        _fill(config, _program(args, rootfs), env, secrets, workdir=workdir, user=user, name=name, rootfs=rootfs)
        for place, source in (mounts or {}).items():
            config.set("mount_read_only", source, place)
        for place, source in (writable_mounts or {}).items():
            config.set("mount_writable", source, place)
        config.set("set_timeout_ms", _milliseconds(timeout))
        if idle_timeout is not None:
            config.set("set_idle_timeout_ms", _milliseconds(idle_timeout))
        for limit, most, unit in (
            ("cpu", cpu, 1000),
            ("memory", memory, 1 << 20),
            ("disk", disk, 1 << 20),
            ("max_processes", max_processes, 1),
            ("max_open_files", max_open_files, 1),
        ):
            if most is not None:
                config.set("set_" + limit, _limit(limit, most, unit))
        if memory_watchdog:
            config.set("set_limit_mode", _LIMITS_WATCHDOG)
        for kind, ports in (("encrypted", encrypted_ports), ("h2", h2_ports), ("unencrypted", unencrypted_ports)):
            for port in ports:
                config.set(f"add_{kind}_port", _port(port))
        for tls_name in tls_names:
            config.set("add_tls_name", tls_name)
        if inbound_cidr_allowlist is not None:
            ranges = _array(inbound_cidr_allowlist)
            config.set("set_inbound_cidr_allowlist", ranges, len(ranges))
        policy = _policy(block_network, outbound_cidr_allowlist, outbound_domain_allowlist)
        if policy is not None:
            with policy:
                config.set("set_policy", policy.handle)
        if readiness_probe is not None and readiness_probe.exec_argv is not None:
            command = _array(readiness_probe.exec_argv)
            config.set("set_exec_probe", command, len(command), readiness_probe.interval_ms)
        elif readiness_probe is not None:
            config.set("set_tcp_probe", _port(readiness_probe.tcp_port), readiness_probe.interval_ms)
        for stream in range(3 if args else 0):
            config.set("set_stream", stream, _STREAM_DESCRIPTOR)
        _call("config_check", config.handle)
        yield hub.runtime(), None
        hub.begin(life, "create_begin", None, config)
    object_id = _text("sandbox_id", life.handle) or ""
    life.what = f"sandbox {object_id}"
    sandbox = Sandbox(hub, life, object_id, name, tags or {})
    try:
        yield life.started, None
        out, err = [_call("sandbox_open_fd", life.handle, stream) if args else -1 for stream in (1, 2)]
        sandbox._stdout = StreamReader(hub, out, by_line=True)
        sandbox._stderr = StreamReader(hub, err, by_line=True)
    except BaseException:
        sandbox._close()
        raise
    _sandboxes[sandbox.object_id] = sandbox
    return sandbox


class Sandbox:
    """A running sandbox, made by Sandbox.create(). Leaving a `with` block ends it, and so does losing the last reference
    to it, unless it was detached; this process's end does in any case."""

    def __init__(self, hub: _Hub, life: _Life, object_id: str, name: str | None, tags: Mapping[str, str]) -> None:
        self._hub, self._life, self.name = hub, life, name
        self.object_id = object_id
        self._tags = dict(tags)
        self._attached = True
        self._tunnels: dict[int, Tunnel] | None = None
        self._stdin: StreamWriter | None = None
        self._stdout: StreamReader[str]
        self._stderr: StreamReader[str]
        self._close = weakref.finalize(self, _library.sbx_sandbox_free, life.handle)

    def __repr__(self) -> str:
        return f"Sandbox({self.object_id!r})"

    create = _Method(_create)

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
        for sandbox in Sandbox.list():
            if sandbox.name == name:
                return Sandbox.from_id(sandbox.object_id)
        raise NotFoundError(f"this process has no live sandbox named {name!r}")

    @staticmethod
    def list(*, app_id: str | None = None, tags: Mapping[str, str] | None = None, **_: object) -> list[Sandbox]:
        """The live sandboxes of this process that have these tags."""
        wanted = (tags or {}).items()
        return [sb for sb in _sandboxes.copy().values() if sb.poll() is None and wanted <= sb._tags.items()]

    def _use(self) -> ctypes.c_void_p:
        """The handle, for a call. In a forked child the library refuses it."""
        if not self._attached or not self._close.alive:
            raise ClientClosed(f"sandbox {self.object_id} was {'closed' if self._attached else 'detached'}")
        self._hub.check()
        return self._life.handle

    @_both
    def tunnels(self, timeout: float = 50) -> _Steps[dict[int, Tunnel]]:
        """Where the ports are reached, by container port. That a tunnel exists doesn't mean that the server inside
        answers: wait_until_ready()."""
        handle = self._use()
        if self._tunnels is None:
            found = ctypes.c_void_p()
            _call("tunnels", handle, 0, ctypes.byref(found))
            try:
                self._tunnels = _read_tunnels(found)
            finally:
                _library.sbx_tunnel_map_free(found)
        return dict(self._tunnels)
        yield

    @_both
    def wait_until_ready(self, *, timeout: float = 300) -> _Steps[None]:
        """Waits until the server inside answers: the readiness probe, or without one a connection to the first port."""
        if timeout <= 0:
            raise InvalidError(f"`timeout` must be positive, got: {timeout}")
        handle = self._use()
        try:
            _call("wait_ready", handle, 0)  # looks, and begins to ask
        except TimeoutError:
            try:
                yield self._life.ready, timeout
            except _TimedOut:
                raise SandboxTimeoutError(f"sandbox {self.object_id} was not ready within {timeout} s") from None

    @_both
    def wait(self, raise_on_termination: bool = True) -> _Steps[None]:
        """Waits until nothing of the sandbox is left. Raises SandboxTimeoutError if its lifetime ran out and, unless
        told otherwise, SandboxTerminatedError if it was ended from outside."""
        if not self._life.exited.done():
            self._hub.check()
        _, reason = yield self._life.exited, None
        if reason == _TIMED_OUT_REASON:
            raise SandboxTimeoutError(f"sandbox {self.object_id} reached its timeout")
        if reason in _ENDED_FROM_OUTSIDE and raise_on_termination:
            raise SandboxTerminatedError(f"sandbox {self.object_id} was terminated")

    @_both
    def poll(self) -> _Steps[int | None]:
        """The exit code, or None while the sandbox runs."""
        return self.returncode
        yield

    @property
    def returncode(self) -> int | None:
        """The program's own; 128 + n for a signal; 124 when its time ran out, 137 when terminated; None while it runs."""
        if not self._life.exited.done() or self._life.exited.exception():
            return None
        code: int = self._life.exited.result()[0]
        return code

    @_both
    def terminate(self, *, wait: bool = False) -> _Steps[int | None]:
        """Ends the sandbox; if it has ended, does nothing. With `wait` returns the exit code once nothing is left."""
        if not self._life.exited.done():
            _call("terminate", self._use())
            if wait:
                yield self._life.exited, None
        return self.returncode if wait else None

    @_both
    def detach(self) -> _Steps[None]:
        """Gives the object up, not the sandbox: that runs on until its timeout, or until this process ends."""
        if self._attached and not self._life.exited.done():
            self._life.kept = self
        self._attached = False
        return
        yield

    @_both
    def close(self) -> _Steps[None]:
        """Ends the sandbox, waits until nothing of it is left, and frees it; what is known of it stays known."""
        if self._close.alive:
            self._hub.check()
            _call("terminate", self._life.handle)
            yield self._life.exited, None
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close.aio()

    def __del__(self) -> None:
        if self._close.alive and not self._life.exited.done() and _hub is self._hub:
            warnings.warn(f"{self!r} was lost and is ended: terminate() or detach() it", ResourceWarning, source=self)

    def send_signal(self, signal: int) -> None:
        """Sends the sandbox's program a signal."""
        _call("signal", self._use(), signal)

    @property
    def stdin(self) -> StreamWriter:
        if self._stdin is None:
            self._stdin = StreamWriter(self._hub, _call("sandbox_open_fd", self._use(), 0))
        return self._stdin

    @property
    def stdout(self) -> StreamReader[str]:
        return self._stdout

    @property
    def stderr(self) -> StreamReader[str]:
        return self._stderr

    @_both
    def exec(
        self,
        *args: str,
        stdout: StreamType = StreamType.PIPE,
        stderr: StreamType = StreamType.PIPE,
        timeout: float | None = None,
        workdir: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Iterable[Secret] | None = None,
        text: bool = True,
        bufsize: int = -1,
        pty: bool = False,
        user: str | None = None,
    ) -> _Steps[ContainerProcess]:
        """Starts a program in the sandbox. Streams give text as it comes, lines with bufsize=1, bytes with text=False;
        with pty=True the program has a terminal of 24 lines and 80 columns in their place."""
        if StreamType.STDOUT in (stdout, stderr):
            raise UnimplementedError("StreamType.STDOUT is not supported: read the stream and print it")
        if bufsize not in (-1, 1) or (bufsize == 1 and not text):
            raise InvalidError("bufsize must be -1, or 1 for lines of text")
        handle = self._use()
        life = _Life("process_failure")
        streams = {0: True, 1: stdout is StreamType.PIPE, 2: stderr is StreamType.PIPE}
        with _Made("exec_config", "new") as config:
            _fill(config, _program(args), env, secrets, workdir=workdir, user=user)
            if timeout is not None:
                config.set("set_timeout_ms", _milliseconds(timeout))
            if pty:
                config.set("set_pty", 24, 80)
            for stream, wanted in () if pty else streams.items():
                config.set("set_stream", stream, _STREAM_DESCRIPTOR if wanted else 0)
            _call("exec_config_check", config.handle)
            life.what = f"{args[0]!r} in sandbox {self.object_id}" if args else ""
            self._hub.begin(life, "exec_begin", handle, config)
        process = ContainerProcess(self._hub, life, streams, pty, text, bufsize == 1)
        yield life.started, None
        return process

    @_both
    def get_tags(self) -> _Steps[dict[str, str]]:
        self._use()
        return dict(self._tags)
        yield

    @_both
    def set_tags(self, tags: Mapping[str, str]) -> _Steps[None]:
        """Replaces the tags."""
        self._use()
        self._tags = dict(tags)
        return
        yield


def _policy(blocked: bool, ranges: Sequence[str] | None, domains: Sequence[str] | None) -> _Made | None:
    """None is the default. An empty list is a list: it allows nothing."""
    if blocked:
        return _Made("policy", "new_blocked")
    if ranges is None and domains is None:
        return None
    policy = _Made("policy", "new_allowlist")
    for cidr in ranges or ():
        policy.set("allow_cidr", cidr)
    for domain in domains or ():
        policy.set("allow_domain", domain)
    return policy


def _fill(
    config: _Made,
    command: Sequence[str],
    env: Mapping[str, str | None] | None,
    secrets: Iterable[Secret] | None,
    **texts: object,
) -> None:
    """What a sandbox's program and executed ones have in common. Without a command a sandbox waits for exec()."""
    if command:
        argv = _array(command)
        config.set("set_command", argv, len(argv))
    for secret in secrets or ():
        for key, value in secret._values.items():
            config.set("set_secret", key, value)
    for key, variable in (env or {}).items():
        if variable is not None:
            config.set("set_env", key, variable)
    for setting, text in texts.items():
        if text is not None:
            config.set("set_" + setting, text)


def _limit(name: str, value: object, unit: int) -> int:
    """Of (request, limit) the limit: nobody else is here whom a request could be weighed against."""
    limit = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    if not isinstance(limit, (int, float)) or not 0 < limit <= 1 << 20:
        raise InvalidError(f"{name} must be a number up to {1 << 20}, or a pair (request, limit), got: {value!r}")
    return round(limit * unit)


def _milliseconds(seconds: object) -> int:
    if not isinstance(seconds, (int, float)) or not 0 < seconds < 1 << 53:
        raise InvalidError(f"timeout must be a positive number of seconds, got: {seconds!r}")
    return max(1, round(seconds * 1000))


def _port(port: object) -> int:
    # ctypes would cut it down to 32 bits.
    if not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidError(f"a port must be an integer from 1 to 65535, got: {port!r}")
    return port


def _read_tunnels(found: ctypes.c_void_p) -> dict[int, Tunnel]:
    tunnels = {}
    for index in range(_library.sbx_tunnel_map_count(found)):
        container_port = _library.sbx_tunnel_map_container_port(found, index)
        host = _text("tunnel_map_host", found, container_port) or ""
        port = _library.sbx_tunnel_map_port(found, container_port)
        if _text("tunnel_map_url", found, container_port) is None:
            tunnels[container_port] = Tunnel(host, port, host, port)
            continue
        authority = _text("tunnel_map_ca_pem", found, container_port)
        pin = _text("tunnel_map_spki_sha256", found, container_port)
        tunnels[container_port] = Tunnel(host, port, ca_pem=authority, spki_sha256=pin)
        if authority is not None:
            _trust.add(authority)
    return tunnels


# Programs say `modal.exception.SandboxTimeoutError`, and `from modal.exception import ...`.
exception = sys.modules[__name__ + ".exception"] = sys.modules[__name__]
