"""Errors: Modal's names, with the library's numbers."""

from __future__ import annotations

import errno as _errno

from . import abi as _abi

# What the library's text of limits that can't be held doesn't say in Python's words.
_ABOUT_LIMITS = "the limits of memory and processor"
_WATCHDOG = ". Or give memory_watchdog=True, and no cpu=: memory is watched then, and a sandbox with more is ended"


class Error(Exception):
    """What every error of this package is. `code` is the library's number (SBX_E...) and `os_error` an errno; or 0."""

    # The kinds of errors by the library's numbers and, for what files answer, by the sandbox's errnos.
    _kinds: dict[int, type[Error]] = {}

    def __init__(self, message: str = "", code: int = 0, os_error: int = 0) -> None:
        message += _WATCHDOG if code == _abi.EHOST and _ABOUT_LIMITS in message else ""
        super().__init__(message)
        self.message, self.code, self.os_error = message, code, os_error

    def __str__(self) -> str:
        return self.message

    def __init_subclass__(cls, of: tuple[int, ...] = ()) -> None:
        Error._kinds.update(dict.fromkeys(of, cls))


class InvalidError(Error, of=(_abi.EINVALID, _abi.EHANDLE, _abi.ESIZE)):
    """An argument, a setting or a handle that is not allowed; the message names it and the rule."""


class UnimplementedError(Error, of=(_abi.EUNSUPPORTED,)):
    """Something of Modal's that is not here, or a combination that the library doesn't support."""


class AlreadyExistsError(Error, of=(_abi.EEXISTS,)):
    """The name is taken by another live sandbox of this process."""


class NotFoundError(Error, of=(_abi.ENOTFOUND,)):
    """There is no such thing."""


class ConflictError(InvalidError, of=(_abi.ESTATE,)):
    """Not possible in the state that the sandbox is in."""


class ResourceExhaustedError(Error, of=(_abi.ELIMIT,)):
    """A limit of the library or of the process is reached."""


class ExecutionError(Error, of=(_abi.EEXEC,)):
    """The program could not be started in the sandbox."""


class ImageError(Error, of=(_abi.EIMAGE,)):
    """An image can't be used or made: malformed, refused by its registry, or kept where it isn't safe."""


class ConnectionError(Error, of=(_abi.EREFUSED,)):
    """Nothing in the sandbox accepts connections there."""


class HostError(Error, of=(_abi.EHOST, _abi.ERUNSC_MISSING, _abi.ERUNSC_UNUSABLE, _abi.ESYSTEM)):
    """This machine lacks something, for example runsc; the message says what and how to get it."""


class InternalError(Error, of=(_abi.EENGINE, _abi.EPANIC, _abi.EINTERNAL)):
    """The sandbox's engine was lost, or a bug of the library."""


class ForkedError(Error, of=(_abi.EFORKED,)):
    """Called in a child of fork: only the process that first created a sandbox can use the library."""


class ClientClosed(Error, of=(_abi.ECLOSED,)):
    """The object was closed or detached."""


class TimeoutError(Error, of=(_abi.ETIMEDOUT,)):
    """The time given ran out."""


class SandboxTimeoutError(TimeoutError):
    """The sandbox lived for as long as it may, or was not there in time."""


class SandboxTerminatedError(Error):
    """The sandbox was ended from outside."""


class SandboxFilesystemError(Error, OSError):
    """What the sandbox's file systems answered; `os_error` and `errno` are the number. Where Python has a class for
    that, the error is one of that, too: FileNotFoundError, PermissionError, ..."""

    errno = property(lambda self: self.os_error or None)
    strerror = property(lambda self: self.message)


class SandboxFilesystemNotFoundError(SandboxFilesystemError, FileNotFoundError, of=(_errno.ENOENT,)):
    """There is no such file or directory in the sandbox."""


class SandboxFilesystemPathAlreadyExistsError(SandboxFilesystemError, FileExistsError, of=(_errno.EEXIST,)):
    """Something of that name is there."""


class SandboxFilesystemIsADirectoryError(SandboxFilesystemError, IsADirectoryError, of=(_errno.EISDIR,)):
    """It is a directory."""


class SandboxFilesystemNotADirectoryError(SandboxFilesystemError, NotADirectoryError, of=(_errno.ENOTDIR,)):
    """It, or something on the way to it, is no directory."""


class SandboxFilesystemDirectoryNotEmptyError(SandboxFilesystemError, of=(_errno.ENOTEMPTY,)):
    """The directory has something in it: remove(recursive=True)."""


class SandboxFilesystemPermissionError(
    SandboxFilesystemError, PermissionError, of=(_errno.EACCES, _errno.EPERM, _errno.EROFS)
):
    """The sandbox doesn't allow it."""


class SandboxFilesystemFileTooLargeError(SandboxFilesystemError, of=(_errno.EFBIG,)):
    """It is more than is read or listed at once, or than the limit that was given."""
