"""A Harbor environment: trials in gVisor sandboxes of Harbor's own process.

    harbor run -d terminal-bench@2.0 -a oracle --environment-import-path libsbx_harbor:SbxEnvironment
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import tempfile
from ipaddress import ip_network
from pathlib import Path
from signal import SIGKILL
from typing import Any, override

import libsbx
from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities, EnvironmentResourceCapabilities
from harbor.environments.definition import (
    COMPOSE_FILE_NAME,
    DOCKERFILE_NAME,
    require_agent_environment_definition,
    should_use_prebuilt_docker_image,
)
from harbor.environments.options import EnvironmentOptions
from harbor.models.task.config import (
    NetworkAllowlistEntryType,
    NetworkMode,
    NetworkPolicy,
    classify_network_allowlist_entry,
)
from harbor.models.trial.config import ResourceMode
from pydantic import Field

__all__ = ["SbxEnvironment", "SbxOptions"]

_NAMES = (NetworkAllowlistEntryType.HOSTNAME, NetworkAllowlistEntryType.WILDCARD_HOSTNAME)
_MOST_KEPT = 16 << 20
_SILENCE = 0.25
_SHELL = "if [ -x /bin/bash ]; then exec /bin/bash -c \"$1\"; fi; exec /bin/sh -c \"$1\""


class SbxOptions(EnvironmentOptions):
    """By --environment-kwarg."""

    lifetime_sec: int = Field(86400, description="Seconds after which the sandbox is ended.")
    max_processes: int | None = Field(None, description="Limit of processes.")
    build_domains: list[str] | None = Field(
        None, description="What the steps of a Dockerfile may reach: every public address if nothing is said."
    )
    tls_ports: list[int] = Field(
        default_factory=list, description="Ports on which names of an allowlist are reached, beside 443."
    )


class SbxEnvironment(BaseEnvironment):
    options_model = SbxOptions
    options: SbxOptions

    _sandbox: libsbx.Sandbox | None = None

    @staticmethod
    @override
    def type() -> str:
        return "libsbx"

    @property
    @override
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(
            disable_internet=True,
            network_allowlist=True,
            network_allowlist_hostnames=True,
            network_allowlist_wildcard_hostnames=True,
            network_allowlist_ipv4_addresses=True,
            network_allowlist_ipv6_addresses=True,
            network_allowlist_ipv4_cidrs=True,
            network_allowlist_ipv6_cidrs=True,
            dynamic_network_policy=True,
            mounted=True,
        )

    @classmethod
    @override
    def resource_capabilities(cls) -> EnvironmentResourceCapabilities:
        return EnvironmentResourceCapabilities(cpu_limit=True, memory_limit=True, fractional_cpus=True)

    @property
    def sandbox(self) -> libsbx.Sandbox:
        if self._sandbox is None:
            raise RuntimeError("the environment was not started")
        return self._sandbox

    @override
    def _validate_definition(self) -> None:
        if (self.environment_dir / COMPOSE_FILE_NAME).exists():
            raise ValueError("libsbx runs no Docker Compose tasks")
        image = self.task_env_config.docker_image
        require_agent_environment_definition(self.environment_dir, docker_image=image)
        for mount in self._host_mounts:
            if mount["type"] != "bind":
                raise ValueError(f"libsbx mounts directories of the host only, not {mount}")

    # Starting and stopping.

    @override
    async def start(self, force_build: bool) -> None:
        image = await self._image(force_build)
        made: dict[str, Any] = dict(image=image, timeout=self.options.lifetime_sec, env=self._startup_env())
        made.update(max_processes=self.options.max_processes, workdir=self.task_env_config.workdir)
        made.update(self._allowed(self.network_policy))
        if storage := self._effective_storage_mb:
            made["disk"] = storage
        for kind, read_only in (("mounts", True), ("writable_mounts", False)):
            chosen = [each for each in self._host_mounts if bool(each.get("read_only")) == read_only]
            made[kind] = {each["target"]: each["source"] for each in chosen}
        for source in made["writable_mounts"].values():
            Path(source).mkdir(parents=True, exist_ok=True)
        said = image.config.get("config") or {}
        if said.get("Entrypoint") or said.get("Cmd"):
            # In place of the image's own program; without one the sandbox waits for commands by itself.
            made["entrypoint"] = ["sleep", "infinity"]
        self._sandbox = await self._limited(made)
        try:
            await self.ensure_dirs(self._mount_targets(writable_only=True))
            await self._upload_environment_dir_after_start()
        except BaseException:
            await self.stop(delete=True)
            raise

    async def _image(self, force_build: bool) -> libsbx.Image:
        wanted = self.task_env_config.docker_image
        if wanted and should_use_prebuilt_docker_image(
            self.environment_dir, docker_image=wanted, force_build=force_build
        ):
            image = libsbx.Image.from_name(wanted)
            try:
                await image.pull.aio()
            except (libsbx.exception.NotFoundError, libsbx.exception.InvalidError):
                image = libsbx.Image.from_registry(wanted)
                await image.pull.aio()
            return image
        domains = self.options.build_domains
        network = dict(block_network=False) if domains is None else dict(outbound_domain_allowlist=domains)
        file = self.environment_dir / DOCKERFILE_NAME
        image = libsbx.Image.from_dockerfile(
            file, context_dir=self.environment_dir, force_build=force_build, **network
        )
        await image.pull.aio()
        return image

    async def _limited(self, made: dict[str, Any]) -> libsbx.Sandbox:
        """With the limits that the task asks for. Where the machine can't hold them, a trial that insists on them fails;
        one that doesn't has its memory watched."""
        cpu = self._resource_limit_value("cpu", auto_mode=ResourceMode.LIMIT)
        memory = self._resource_limit_value("memory", auto_mode=ResourceMode.LIMIT)
        try:
            return await libsbx.Sandbox.create.aio(**made, cpu=cpu, memory=memory)
        except libsbx.exception.HostError as error:
            modes = {self._resource_mode("cpu"), self._resource_mode("memory")}
            if (cpu is None and memory is None) or not modes <= {ResourceMode.AUTO, ResourceMode.IGNORE}:
                raise
            self.logger.warning("without the limit of processors, and with memory watched: %s", error)
            return await libsbx.Sandbox.create.aio(**made, memory=memory, memory_watchdog=memory is not None)

    @override
    async def stop(self, delete: bool) -> None:
        """Ends the sandbox. It is this process's, and can't be kept."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.close.aio()

    # The network.

    def _allowed(self, policy: NetworkPolicy) -> dict[str, Any]:
        """Never `block_network`, which would leave nothing to be opened later: empty lists reach nothing either."""
        if policy.network_mode == NetworkMode.PUBLIC:
            return {}
        names = [each for each in policy.allowed_hosts if classify_network_allowlist_entry(each) in _NAMES]
        ranges = [str(ip_network(each)) for each in policy.allowed_hosts if each not in names]
        allowed: dict[str, Any] = dict(outbound_domain_allowlist=names, outbound_cidr_allowlist=ranges)
        if names and self.options.tls_ports:
            allowed["outbound_tls_ports"] = self.options.tls_ports
        return allowed

    @override
    async def _apply_network_policy(self, network_policy: NetworkPolicy) -> None:
        await self.sandbox.set_network_policy.aio(**self._allowed(network_policy))

    # Commands.

    @override
    async def exec(
        self, command: str, cwd: str | None = None, env: dict[str, str] | None = None, timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:  # fmt: skip
        wanted = self._resolve_user(user)
        heard = self._output_callback()
        process = await self.sandbox.exec.aio(
            "/bin/sh", "-c", _SHELL, "harbor", command, workdir=cwd or self.task_env_config.workdir, text=False,
            env=self._merge_env(env), user=None if wanted is None else str(wanted), timeout=timeout_sec,
        )  # fmt: skip
        outputs = [_Output(process.stdout), _Output(process.stderr)]
        readers = [
            asyncio.ensure_future(output.read(heard, name)) for output, name in zip(outputs, ("stdout", "stderr"))
        ]
        try:
            process.stdin.write_eof()
            await process.stdin.drain.aio()
            code = await _ended(process, readers, outputs)
        except BaseException:
            with contextlib.suppress(libsbx.Error):
                process.send_signal(SIGKILL)
            raise
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        if process.exit_reason == "timedOut":
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        stdout, stderr = (output.text() for output in outputs)
        return ExecResult(stdout=stdout or None, stderr=stderr or None, return_code=code)

    # Files.

    @override
    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        files = self.sandbox.filesystem
        await files.copy_from_local.aio(source_path, target_path)
        mode = Path(source_path).stat().st_mode & 0o777
        changed = await self.exec(f'chmod {mode:o} "$TARGET"', cwd="/", env={"TARGET": target_path}, user="root")
        if changed.return_code != 0:
            raise RuntimeError(f"the mode of {target_path!r} couldn't be set: {changed.stderr}")

    @override
    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        await self.sandbox.filesystem.copy_tree_from_local.aio(source_dir, target_dir)

    @override
    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        target = Path(target_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        await self.sandbox.filesystem.copy_to_local.aio(source_path, target)

    @override
    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        target = Path(target_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".libsbx-") as beside:
            tree = Path(beside) / "tree"
            await self.sandbox.filesystem.copy_tree_to_local.aio(source_dir, tree)
            await asyncio.to_thread(_merge, tree, target)


class _Output:
    """What comes of one output: the last bytes are kept."""

    def __init__(self, stream: Any) -> None:
        self.heard = asyncio.get_running_loop().time()
        self._stream, self._kept, self._dropped = stream, bytearray(), 0

    async def read(self, listener: Any, name: str) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for piece in self._stream:
            self.heard = asyncio.get_running_loop().time()
            self._kept += piece
            if (surplus := len(self._kept) - _MOST_KEPT) > 0:
                del self._kept[:surplus]
                self._dropped += surplus
            if listener is not None and (text := decoder.decode(piece)):
                await listener(text, name)

    def text(self) -> str:
        note = f"[{self._dropped} bytes dropped]\n" if self._dropped else ""
        return note + self._kept.decode("utf-8", "replace")


async def _ended(process: libsbx.ContainerProcess, readers: list[Any], outputs: list[_Output]) -> int:
    """Its code, once its outputs have ended, or are silent: what it has left behind may hold them open."""
    ending, reading = asyncio.ensure_future(process.wait.aio()), asyncio.gather(*readers)
    try:
        await asyncio.wait({ending, reading}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()  # a listener's error
        code = await ending
        now = asyncio.get_running_loop().time
        while not reading.done() and (silent := now() - max(output.heard for output in outputs)) < _SILENCE:
            await asyncio.wait({reading}, timeout=_SILENCE - silent)
        if reading.done():
            reading.result()
        return code
    finally:
        ending.cancel()
        reading.cancel()


def _merge(tree: Path, target: Path) -> None:
    """Moves what is in `tree` over what is in `target`. What is there is replaced and never followed: an earlier
    download may have left a link."""
    target.mkdir(exist_ok=True)
    for entry in os.scandir(tree):
        place = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            if place.is_symlink() or not place.is_dir():
                place.unlink(missing_ok=True)
            _merge(Path(entry.path), place)
        else:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            os.replace(entry.path, place)
