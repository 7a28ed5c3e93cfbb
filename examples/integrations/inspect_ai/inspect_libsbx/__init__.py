"""libsbx as a sandbox of Inspect: Task(..., sandbox="libsbx")."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import posixpath
from pathlib import Path
from typing import Any, Literal, overload

import libsbx as sbx
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    sandboxenv,
)
from pydantic import BaseModel

_DAY = 24 * 60 * 60
# A Capture keeps no more than this of each end.
_MOST_CAPTURED = 16 << 20


class LibsbxConfig(BaseModel, frozen=True, extra="forbid"):
    """What a sample's sandbox is. Without an image it shows the host's programs, read-only.

    image: reference of a registry, such as "python:3.12-slim"
    name: name of an image in libsbx's store
    path: archive of `docker save`, OCI layout, or root file system
    dockerfile: path of a Dockerfile; its directory is what it copies from
    build_domains: what the steps of the Dockerfile may reach; nothing if it is empty
    allow_domains, allow_cidrs: what the sandbox may reach; nothing if both are empty
    user, workdir: in place of the image's
    memory, cpu: limits, in MiB and processors
    lifetime: seconds after which the sandbox is ended
    """

    image: str | None = None
    name: str | None = None
    path: str | None = None
    dockerfile: str | None = None
    build_domains: tuple[str, ...] = ()
    allow_domains: tuple[str, ...] = ()
    allow_cidrs: tuple[str, ...] = ()
    user: str | None = None
    workdir: str | None = None
    memory: int | None = None
    cpu: float | None = None
    lifetime: int = _DAY

    @staticmethod
    def of(config: SandboxEnvironmentConfigType | None) -> LibsbxConfig:
        """A string is the path of a Dockerfile or of what `path` takes: Inspect takes every string for one."""
        if config is None or isinstance(config, LibsbxConfig):
            return config or LibsbxConfig()
        if not isinstance(config, str):
            raise TypeError(f"a sandbox of libsbx takes a LibsbxConfig or a string, not {type(config).__name__}")
        is_dockerfile = "dockerfile" in os.path.basename(config).lower()
        return LibsbxConfig(dockerfile=config) if is_dockerfile else LibsbxConfig(path=config)

    def options(self) -> dict[str, Any]:
        """Arguments of Sandbox.create()."""
        options: dict[str, Any] = dict(timeout=self.lifetime, user=self.user, workdir=self.workdir)
        options.update(memory=self.memory, cpu=self.cpu)
        if self.allow_domains or self.allow_cidrs:
            options.update(outbound_domain_allowlist=list(self.allow_domains))
            options.update(outbound_cidr_allowlist=list(self.allow_cidrs))
        else:
            options.update(block_network=True)
        return {name: value for name, value in options.items() if value is not None}


@functools.lru_cache(maxsize=None)
def _image(config: LibsbxConfig) -> sbx.Image | None:
    chosen = [name for name in ("image", "name", "path", "dockerfile") if getattr(config, name) is not None]
    if len(chosen) > 1:
        raise ValueError(f"a sandbox has one image, and the configuration has {' and '.join(chosen)}")
    if config.image is not None:
        return sbx.Image.from_registry(config.image)
    if config.name is not None:
        return sbx.Image.from_name(config.name)
    if config.path is not None:
        return sbx.Image.from_path(config.path)
    if config.dockerfile is not None:
        file = Path(config.dockerfile).absolute()
        network: dict[str, Any] = {}
        if config.build_domains:
            network.update(outbound_domain_allowlist=list(config.build_domains))
        return sbx.Image.from_dockerfile(file, context_dir=file.parent, **network)
    return None


@sandboxenv(name="libsbx")
class LibsbxSandboxEnvironment(SandboxEnvironment):
    """A sandbox of this process. Files are read and written as the user that programs run as."""

    def __init__(self, sandbox: sbx.Sandbox, user: str | None, workdir: str) -> None:
        super().__init__()
        self.sandbox, self._user, self._workdir = sandbox, user, workdir

    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:
        """Pulls or builds the image, once for all samples."""
        if (image := _image(LibsbxConfig.of(config))) is not None:
            await image.pull.aio()

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        wanted = LibsbxConfig.of(config)
        options, said = wanted.options(), {}
        if (image := _image(wanted)) is not None:
            await image.pull.aio()
            said = image.config.get("config") or {}
            options.update(image=image)
            if said.get("Entrypoint") or said.get("Cmd"):
                # In place of the image's own program; without one the sandbox waits for exec() by itself.
                options.update(entrypoint=["sleep", "infinity"])
        workdir = wanted.workdir or said.get("WorkingDir") or ("/tmp" if image is None else "/")
        sandbox = await sbx.Sandbox.create.aio(**{**options, "workdir": workdir})
        return {"default": cls(sandbox, wanted.user or said.get("User") or None, workdir)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            await environment.as_type(cls).sandbox.close.aio()

    @classmethod
    def config_files(cls) -> list[str]:
        return ["Dockerfile"]

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return LibsbxConfig(**config)

    @classmethod
    def default_concurrency(cls) -> int | None:
        return 4 * (os.cpu_count() or 1)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Of each output the last bytes are kept, up to Inspect's limit and 16 MiB. A command whose time ran out isn't
        run again: there is no connection that could have been at fault."""
        kept = sbx.Capture(0, min(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE, _MOST_CAPTURED))
        place = self._place(cwd) if cwd else self._workdir
        options: dict[str, Any] = dict(stdout=kept, stderr=kept, workdir=place, env=env, user=user, timeout=timeout)
        with _as_inspect_has_it():
            try:
                process = await self.sandbox.exec.aio(*cmd, **options)
            except sbx.exception.ExecutionError as error:
                if error.os_error == errno.EACCES:
                    raise PermissionError(errno.EACCES, error.message, cmd[0]) from None
                # As a shell has it: 127 is what isn't there.
                return ExecResult(False, 127 if error.os_error == errno.ENOENT else 126, "", error.message)
            feeding = asyncio.ensure_future(_feed(process, input))
            try:
                code = await process.wait.aio()
            except BaseException:
                with contextlib.suppress(sbx.Error):
                    process.send_signal(9)
                raise
            finally:
                feeding.cancel()
            if process.exit_reason == "timedOut":
                raise TimeoutError(f"{cmd[0]!r} took longer than {timeout} s")
            return ExecResult(code == 0, code, *(_text(process.captured(name)) for name in ("stdout", "stderr")))

    async def write_file(self, file: str, contents: str | bytes) -> None:
        data = contents.encode() if isinstance(contents, str) else contents
        with _as_inspect_has_it():
            await self.sandbox.filesystem.write_bytes.aio(data, self._place(file), user=self._user)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        with _as_inspect_has_it():
            try:
                data = await self.sandbox.filesystem.read_bytes.aio(self._place(file), limit=limit, user=self._user)
            except sbx.exception.SandboxFilesystemFileTooLargeError:
                text_of_limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR
                raise OutputLimitExceededError(limit_str=text_of_limit, truncated_output=None) from None
        return data.decode() if text else data

    def _place(self, path: str) -> str:
        return posixpath.join(self._workdir, path)


async def _feed(process: sbx.ContainerProcess, data: str | bytes | None) -> None:
    # A program needn't read what it is given, and may have ended.
    with contextlib.suppress(OSError, sbx.Error):
        if data:
            process.stdin.write(data)
        process.stdin.write_eof()
        await process.stdin.drain.aio()


def _text(captured: sbx.Captured) -> str:
    return (captured.head + captured.tail).decode("utf-8", "replace")


@contextlib.contextmanager
def _as_inspect_has_it() -> Any:
    try:
        yield
    except sbx.exception.TimeoutError as error:
        raise TimeoutError(error.message) from error
    except (
        sbx.exception.ClientClosed,
        sbx.exception.ConflictError,
        sbx.exception.InternalError,
        sbx.exception.SandboxTerminatedError,
    ) as error:
        raise SandboxUnavailableError(error.message) from error
