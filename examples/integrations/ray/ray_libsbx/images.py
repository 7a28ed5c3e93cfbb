"""One pull of an image at a time on a node, whatever the number of hosts there."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import AsyncIterator

# Different images may share a lock: they are then pulled one after another.
_LOCKS = 16
# flock can't wait for a limited time, or be cancelled.
_INTERVAL = 0.1


@asynccontextmanager
async def pulled_once(key: str) -> AsyncIterator[None]:
    """Held while an image is pulled into the user's store. The second to come finds it there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "libsbx-ray"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2], "big") % _LOCKS
    with open(directory / f"pull-{number}.lock", "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_INTERVAL)
        yield
