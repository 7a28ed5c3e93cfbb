"""A kernel provisioner for Jupyter: each kernel in a gVisor sandbox of the server's own process.

A kernel's kernel.json asks for it:

    "metadata": {"kernel_provisioner": {"provisioner_name": "libsbx", "config": {"image": "quay.io/jupyter/base-notebook"}}}
"""

from __future__ import annotations

import contextlib
import json
import signal
import uuid
from typing import Any

import libsbx
from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import CFloat, Dict, Int, List, Unicode

__all__ = ["SbxProvisioner"]

_DIRECTORY = "/run/jupyter-kernel"
_PORTS = {"shell_port": 50001, "iopub_port": 50002, "stdin_port": 50003, "control_port": 50004, "hb_port": 50005}


class SbxProvisioner(KernelProvisionerBase):
    """Its traits are what "config" of a kernel.json may hold. Without an image the sandbox shows the host's programs,
    read-only. Of the server's environment the kernel gets what "env" of its kernel.json names, and nothing else."""

    image = Unicode("", help="reference of a registry").tag(config=True)
    image_name = Unicode("", help="name of an image in libsbx's store").tag(config=True)
    image_path = Unicode("", help="archive of `docker save`, OCI layout, or root file system").tag(config=True)
    user = Unicode("", help="in place of the image's").tag(config=True)
    workdir = Unicode("", help="in place of the image's; /tmp without an image").tag(config=True)
    mounts = Dict(help="place inside -> directory of the host, read-only").tag(config=True)
    writable_mounts = Dict(help="the same, writable").tag(config=True)
    allow_domains = List(Unicode(), help="what the kernel may reach; nothing without these").tag(config=True)
    allow_cidrs = List(Unicode(), help="what the kernel may reach; nothing without these").tag(config=True)
    memory = Int(0, help="limit in MiB").tag(config=True)
    cpu = CFloat(0, help="limit in processors").tag(config=True)
    max_processes = Int(0, help="limit").tag(config=True)
    timeout = Int(86400, help="seconds after which the sandbox is ended").tag(config=True)

    _sandbox: libsbx.Sandbox | None = None
    _kernel: libsbx.ContainerProcess | None = None

    @property
    def has_process(self) -> bool:
        return self._kernel is not None

    async def poll(self) -> int | None:
        return 0 if self._kernel is None else self._kernel.poll()

    async def wait(self) -> int | None:
        if (kernel := self._kernel) is None:
            return 0
        code = await kernel.wait.aio()
        self._kernel = None
        if code not in (0, 128 + signal.SIGKILL, 128 + signal.SIGTERM):
            self.log.warning("the kernel ended with %s: %s", code, kernel.captured().text)
        return code

    async def send_signal(self, signum: int) -> None:
        if self._kernel is not None:
            with contextlib.suppress(libsbx.exception.ConflictError):  # it has ended
                self._kernel.send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """A kernel that is started again has its sandbox with what it wrote, and its ports."""
        if not restart and (sandbox := self._sandbox) is not None:
            self._sandbox, self._kernel = None, None
            await sandbox.close.aio()

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager = self.parent
        if getattr(manager, "transport", "tcp") != "tcp":
            raise RuntimeError("a kernel in a sandbox is reached by TCP alone")
        if getattr(manager, "transport_encryption", "disabled") == "required":
            raise RuntimeError("transport_encryption='required' isn't there: the tunnels are of this machine")
        values = {"{connection_file}": f"{_DIRECTORY}/connection.json", "{resource_dir}": self.kernel_spec.resource_dir}
        command = [*self.kernel_spec.argv, *kwargs.pop("extra_arguments", [])]
        for name, value in values.items():
            command = [part.replace(name, value) for part in command]
        kwargs = await super().pre_launch(cmd=command, **kwargs)
        kwargs["env"] = {name: kwargs["env"][name] for name in self.kernel_spec.env if name in kwargs["env"]}
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        try:
            if self._sandbox is None or self._sandbox.returncode is not None:
                await self._start_sandbox()
            sandbox, known = self._sandbox, self.connection_info
            inside = {**known, **_PORTS, "ip": "0.0.0.0", "key": known["key"].decode()}
            await sandbox.filesystem.write_text.aio(json.dumps(inside), f"{_DIRECTORY}/connection.json")
            options: dict[str, Any] = dict(stdout=libsbx.Capture(), stderr=libsbx.StreamType.STDOUT, env=kwargs["env"])
            self._kernel = await sandbox.exec.aio(*cmd, **options)
        except BaseException:
            await self.cleanup()
            raise
        return known

    async def _start_sandbox(self) -> None:
        # Where clients know them already, with the ports that they know.
        ports = {inside: ("127.0.0.1", self.connection_info[name]) for name, inside in _PORTS.items() if self._sandbox}
        network = dict(outbound_domain_allowlist=self.allow_domains, outbound_cidr_allowlist=self.allow_cidrs)
        made: dict[str, Any] = dict(timeout=self.timeout, memory=self.memory or None, cpu=self.cpu or None)
        made.update(max_processes=self.max_processes or None, user=self.user or None, workdir=self.workdir or None)
        made.update(network, mounts=self.mounts, writable_mounts=self.writable_mounts)
        made.update(unencrypted_ports=list(_PORTS.values()), bind_ports=ports)
        if (image := self._image()) is None:
            made["workdir"] = self.workdir or "/tmp"
        else:
            await image.pull.aio()
            said = image.config.get("config") or {}
            if said.get("Entrypoint") or said.get("Cmd"):
                # In place of the image's own program; without one the sandbox waits for the kernel by itself.
                made["entrypoint"] = ["sleep", "infinity"]
            made["image"] = image
        self._sandbox = sandbox = await libsbx.Sandbox.create.aio(**made)
        tunnels = await sandbox.tunnels.aio()
        session = getattr(self.parent, "session", None)
        self.connection_info = {
            **{name: tunnels[inside].port for name, inside in _PORTS.items()},
            "transport": "tcp",
            "ip": "127.0.0.1",
            "key": session.key if session is not None else uuid.uuid4().hex.encode(),
            "signature_scheme": session.signature_scheme if session is not None else "hmac-sha256",
            "kernel_name": getattr(self.parent, "kernel_name", ""),
        }

    def _image(self) -> libsbx.Image | None:
        if self.image:
            return libsbx.Image.from_registry(self.image)
        if self.image_name:
            return libsbx.Image.from_name(self.image_name)
        return libsbx.Image.from_path(self.image_path) if self.image_path else None
