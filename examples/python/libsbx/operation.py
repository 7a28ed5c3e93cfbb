"""What was begun in the library and goes on by itself, and its result."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Callable

from .hub import Hub
from .native import EVENT_CHECKED, EVENT_OPERATION_DONE, EVENT_POLICY_APPLIED, EVENT_PROGRESS, call, library
from .waiting import Bell, new_future, settle, until

_ENDS = (EVENT_OPERATION_DONE, EVENT_POLICY_APPLIED, EVENT_CHECKED)


class Operation:
    """One that was begun. It is cancelled when this object is lost."""

    def __init__(
        self, hub: Hub, begin: str, *arguments: Any, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self.handle = ctypes.c_void_p()
        self._done, self.changes = done, changes = new_future(), Bell()

        def happened(event: Any) -> bool:
            over: bool = event.kind in _ENDS
            if event.kind == EVENT_PROGRESS:
                progress(*event.value)
            if over:
                settle(done)
            changes.ring()
            return over

        place = ctypes.byref(self.handle)
        hub.begin(happened, lambda cookie: call(begin, *arguments, hub.queue, cookie, place), changes.ring)
        weakref.finalize(self, library.sbx_operation_free, self.handle)

    async def end(self, seconds: float | None = None) -> None:
        """Waits for its end; TimedOut if that takes longer."""
        await until(self._done, seconds)
        self._check()

    def _check(self) -> None:
        """Raises what it failed with."""
        call("operation_wait", self.handle, 0)

    def cancel(self) -> None:
        call("operation_cancel", self.handle)
