"""Errors of the pool. What a sandbox or the library answers is an error of libsbx, as without a pool."""

from __future__ import annotations


class SandboxError(Exception):
    """What every error of the pool is."""


class PoolFullError(SandboxError):
    """Every sandbox of the pool is in use, and as many creations wait as may."""


class PoolTimeoutError(SandboxError, TimeoutError):
    """No sandbox became free in time."""


class PoolClosedError(SandboxError):
    """The pool was closed, or the process that made it has ended."""


class SandboxLostError(SandboxError):
    """The sandbox is gone with its host: the worker process or the node has died. What was called may have been done."""


class SandboxUnreachableError(SandboxError):
    """The connection to the sandbox's host broke during the call, and the sandbox lives. What was called may have been
    done."""
