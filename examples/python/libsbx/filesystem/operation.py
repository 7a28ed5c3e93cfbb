"""Operations on a sandbox's files, as the library has them."""

from __future__ import annotations

import ctypes
import socket
import threading
from contextlib import contextmanager, suppress
from typing import Any, Iterator

from ..exception import Error, SandboxFilesystemError, UnimplementedError
from ..hub import Hub
from ..native import call, new
from ..operation import Operation


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


class FileOperation(Operation):
    """One of them. Its errors are Modal's."""

    def __init__(self, hub: Hub, sandbox: ctypes.c_void_p, what: str, *arguments: Any, **options: Any) -> None:
        chosen = ctypes.byref(new("file_options", **options))
        with modals_errors():
            super().__init__(hub, f"file_{what}_begin", sandbox, *arguments, chosen)

    def _check(self) -> None:
        with modals_errors():
            super()._check()

    @contextmanager
    def stream(self) -> Iterator[socket.socket]:
        """The host's end of its stream; then waits, in this thread, until all was done."""
        broken, handle, closing = None, self.handle, threading.Lock()
        with socket.socket(fileno=call("operation_open_fd", self.handle)) as stream:
            stream.setblocking(True)

            def cut(_: object) -> None:
                """If it failed. The other end is the sandbox's, which need not close it."""
                with closing:
                    try:
                        call("operation_wait", handle, 0)
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
            call("operation_wait", self.handle, -1)
        if broken is not None:
            raise broken
