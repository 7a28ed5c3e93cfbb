"""A deployment for SWE-ReX: its server in a gVisor sandbox on this machine.

    from libsbx_swerex import SbxDeployment
    from swerex.runtime.abstract import Command

    deployment = SbxDeployment()
    await deployment.start()
    print(await deployment.runtime.execute(Command(command=["uname", "-a"])))
    await deployment.stop()
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Any, Sequence

import libsbx
import swerex
from swerex import REMOTE_EXECUTABLE_NAME
from swerex.deployment.abstract import AbstractDeployment
from swerex.deployment.hooks.abstract import CombinedDeploymentHook, DeploymentHook
from swerex.exceptions import DeploymentNotStartedError
from swerex.runtime.abstract import IsAliveResponse
from swerex.runtime.remote import RemoteRuntime
from swerex.utils.log import get_logger

__all__ = ["SbxDeployment"]

PORT = 8880
_PACKAGES = "/opt/swe-rex"
# Not by PYTHONPATH, which all that the server starts would inherit. SWE-ReX waits for its own prompt, and takes bash's first
# one for it unless a file for bash sets another, as /etc/bash.bashrc does elsewhere.
_MOUNTED = f"""
import pathlib, sys
prompt = pathlib.Path.home() / ".bashrc"
if not prompt.exists():
    prompt.write_text("PS1='$ '\\n")
sys.path.insert(0, {_PACKAGES!r})
from swerex.server import main
main()
"""


class SbxDeployment(AbstractDeployment):
    """`options` are libsbx.Sandbox.create()'s: `image`, `user`, `env`, limits, what it may reach, ...

    With `image` or `rootfs` the server is the `swerex-remote` of that; another `command` may start it. Without, the
    packages beside `swerex` here are mounted, and the host's python3, which must be of the same version, runs them. The
    server is reached at a port of 127.0.0.1, by a token that is made for it. The sandbox lives for an hour, unless
    `timeout` says otherwise.
    """

    def __init__(
        self, *, command: Sequence[str] | None = None, startup_timeout: float = 60, runtime_timeout: float = 60,
        logger: logging.Logger | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self.logger = logger or get_logger("rex-deploy")
        self._startup_timeout, self._runtime_timeout = startup_timeout, runtime_timeout
        self._options = {"timeout": 3600, **options}
        if command is None and self._options.keys() & {"image", "rootfs"}:
            command = [REMOTE_EXECUTABLE_NAME]
        if command is None:
            command = ["python3", "-c", _MOUNTED]
            self._options["mounts"] = {**(options.get("mounts") or {}), _PACKAGES: str(Path(swerex.__file__).parents[1])}
        self._command = list(command)
        self._options["unencrypted_ports"] = [*(options.get("unencrypted_ports") or ()), PORT]
        self._hooks = CombinedDeploymentHook()
        self._sandbox: libsbx.Sandbox | None = None
        self._runtime: RemoteRuntime | None = None

    def add_hook(self, hook: DeploymentHook) -> None:
        self._hooks.add_hook(hook)

    async def is_alive(self, *, timeout: float | None = None) -> IsAliveResponse:
        sandbox, runtime = self.sandbox, self.runtime
        if sandbox.returncode is not None:
            return IsAliveResponse(is_alive=False, message=await self._last_words(sandbox))
        return await runtime.is_alive(timeout=timeout)

    async def start(self) -> None:
        if self._sandbox is not None:
            self.logger.warning("the deployment was started already")
            return
        self._hooks.on_custom_step("Starting sandbox")
        token = secrets.token_urlsafe(32)
        arguments = ["--port", str(PORT), "--auth-token", token]
        sandbox = await libsbx.Sandbox.create.aio(*self._command, *arguments, **self._options)
        try:
            self._hooks.on_custom_step("Starting runtime")
            address = (await sandbox.tunnels.aio())[PORT]
            runtime = RemoteRuntime(
                host=f"http://{address.host}", port=address.port, auth_token=token, timeout=self._runtime_timeout,
                logger=self.logger,
            )  # fmt: skip
            await asyncio.wait_for(self._answering(sandbox, runtime), self._startup_timeout)
        except BaseException:
            await sandbox.close.aio()
            raise
        self._sandbox, self._runtime = sandbox, runtime

    async def stop(self) -> None:
        """Ends the sandbox with all that runs in it."""
        sandbox, self._sandbox, self._runtime = self._sandbox, None, None
        if sandbox is not None:
            await sandbox.close.aio()

    @property
    def runtime(self) -> RemoteRuntime:
        if self._runtime is None:
            raise DeploymentNotStartedError()
        return self._runtime

    @property
    def sandbox(self) -> libsbx.Sandbox:
        if self._sandbox is None:
            raise DeploymentNotStartedError()
        return self._sandbox

    async def _answering(self, sandbox: libsbx.Sandbox, runtime: RemoteRuntime) -> None:
        while not await runtime.is_alive(timeout=5):
            if sandbox.returncode is not None:
                raise RuntimeError(await self._last_words(sandbox))
            await asyncio.sleep(0.1)

    @staticmethod
    async def _last_words(sandbox: libsbx.Sandbox) -> str:
        said = await sandbox.stderr.read.aio()
        return f"the server's sandbox has ended, with {sandbox.returncode} ({sandbox.exit_reason}): {said}"
