"""A pool of libsbx sandboxes on a Ray cluster.

    with SandboxPool(sandboxes_per_host=16) as pool, pool.create() as sandbox:
        print(sandbox.exec("echo hello").stdout)
"""

from .errors import PoolClosedError as PoolClosedError, PoolFullError as PoolFullError
from .errors import PoolTimeoutError as PoolTimeoutError, SandboxError as SandboxError
from .errors import SandboxLostError as SandboxLostError, SandboxUnreachableError as SandboxUnreachableError
from .pool import PooledSandbox as PooledSandbox, SandboxPool as SandboxPool
from .results import Ended as Ended, ExecResult as ExecResult, HostStats as HostStats, PoolStats as PoolStats
