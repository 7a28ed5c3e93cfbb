"""Operations on a sandbox's files, as the library has them."""

from __future__ import annotations

import ctypes
import socket
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import Any, Iterator

from ..exception import Error, SandboxFilesystemError, UnimplementedError
from ..hub import Hub
from ..native import EVENT_OPERATION_DONE, call, library, new
from ..waiting import Bell, new_future, settle, until


@contextmanager
def modals_errors() -> Iterator[None]:
    """What the sandbox's file systems answer is one of Modal's errors of files, by its errno."""
    try:
        yield
    except Error as error:
        if error.os_error <= 0 and not isinstance(error, UnimplementedError):
            raise
        kind = Error._kinds.get(error.os_error, SandboxFilesystemError)
        raise kind(error.message, error.code, error.os_error) from None


class Operation:
    """One that was begun. It ends when this object is lost."""

    def __init__(self, hub: Hub, sandbox: ctypes.c_void_p, what: str, *arguments: Any, **options: Any) -> None:
        self.handle = ctypes.c_void_p()
        self._done, self.changes = done, changes = new_future(), Bell()

        def happened(event: Any) -> bool:
            over: bool = event.kind == EVENT_OPERATION_DONE
            if over:
                settle(done)
            changes.ring()
            return over

        chosen = ctypes.byref(new("file_options", **options))
        begin, place = f"file_{what}_begin", ctypes.byref(self.handle)
        with modals_errors():
            hub.begin(happened, lambda cookie: call(begin, sandbox, *arguments, chosen, cookie, place), changes.ring)
        weakref.finalize(self, library.sbx_file_operation_free, self.handle)

    async def end(self) -> None:
        await until(self._done)
        with modals_errors():
            call("file_operation_wait", self.handle, 0)

    def cancel(self) -> None:
        call("file_operation_cancel", self.handle)

    @contextmanager
    def stream(self) -> Iterator[socket.socket]:
        """The host's end of its stream; then waits, in this thread, until all was done."""
        broken, handle, closing = None, self.handle, threading.Lock()
        with socket.socket(fileno=call("file_operation_open_fd", self.handle)) as stream:
            stream.setblocking(True)

            def cut(_: object) -> None:
                """If it failed. The other end is the sandbox's, which need not close it."""
                with closing:
                    try:
                        call("file_operation_wait", handle, 0)
                    except Error:
                        with suppress(OSError):
                            stream.shutdown(socket.SHUT_RDWR)

            self._done.add_done_callback(cut)
            try:
                yield stream
                # A forked child may have a copy: closing ours alone would not end it.
                stream.shutdown(socket.SHUT_RDWR)
            except (ConnectionError, EOFError) as error:
                broken = error  # the operation knows why
            except BaseException:
                self.cancel()
                raise
            finally:
                with closing:
                    stream.close()
        with modals_errors():
            call("file_operation_wait", self.handle, -1)
        if broken is not None:
            raise broken
