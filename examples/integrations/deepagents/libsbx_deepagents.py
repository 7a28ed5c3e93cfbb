"""A sandbox backend for LangChain's deepagents: a gVisor sandbox on this machine.

    import libsbx
    from deepagents import create_deep_agent
    from libsbx_deepagents import SbxSandbox

    with libsbx.Sandbox.create(block_network=True) as sandbox:
        agent = create_deep_agent(model=..., backend=SbxSandbox(sandbox))
"""

from __future__ import annotations

import contextlib
import posixpath
from signal import SIGKILL

import libsbx
from deepagents.backends.protocol import ExecuteResponse, FileDownloadResponse, FileUploadResponse
from deepagents.backends.sandbox import BaseSandbox

__all__ = ["SbxSandbox"]

TIMED_OUT = 124


class SbxSandbox(BaseSandbox):
    """Runs an agent's commands in a sandbox, and moves its files. The sandbox stays the caller's, who ends it.

    Commands and files have the rights of `user`, or of the sandbox's own user. A command has `timeout` seconds unless a
    call says otherwise (0: as long as the sandbox). Of its output, the first and the last `most_output` / 2 bytes are
    kept; the agent sees that something is missing. The sandbox needs a `python3` and the `shell`.
    """

    def __init__(
        self, sandbox: libsbx.Sandbox, *, user: str | None = None, timeout: int = 1800, most_output: int = 16 << 20,
        shell: str = "bash",
    ) -> None:  # fmt: skip
        self._sandbox, self._user, self._timeout, self._shell = sandbox, user, timeout, shell
        self._capture = libsbx.Capture(most_output // 2, most_output - most_output // 2)

    @property
    def id(self) -> str:
        return self._sandbox.object_id

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        process = self._sandbox.exec(self._shell, "-c", command, **self._options(timeout))
        with _killed_unless_it_ends(process):
            process.wait()
        return _response(process)

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        process = await self._sandbox.exec.aio(self._shell, "-c", command, **self._options(timeout))
        with _killed_unless_it_ends(process):
            await process.wait.aio()
        return _response(process)

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        done = [FileUploadResponse(path=path, error=_refusal(path)) for path, _ in files]
        for response, (path, content) in zip(done, files):
            if response.error is None:
                with _noted_in(response):
                    self._sandbox.filesystem.write_bytes(content, path, user=self._user)
        return done

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        done = [FileUploadResponse(path=path, error=_refusal(path)) for path, _ in files]
        for response, (path, content) in zip(done, files):
            if response.error is None:
                with _noted_in(response):
                    await self._sandbox.filesystem.write_bytes.aio(content, path, user=self._user)
        return done

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        done = [FileDownloadResponse(path=path, error=_refusal(path)) for path in paths]
        for response in done:
            if response.error is None:
                with _noted_in(response):
                    response.content = self._sandbox.filesystem.read_bytes(response.path, user=self._user)
        return done

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        done = [FileDownloadResponse(path=path, error=_refusal(path)) for path in paths]
        for response in done:
            if response.error is None:
                with _noted_in(response):
                    response.content = await self._sandbox.filesystem.read_bytes.aio(response.path, user=self._user)
        return done

    def _options(self, timeout: int | None) -> dict:
        seconds = self._timeout if timeout is None else timeout
        streams = dict(stdout=self._capture, stderr=libsbx.StreamType.STDOUT)
        return dict(streams, user=self._user, timeout=seconds or None)


@contextlib.contextmanager
def _killed_unless_it_ends(process: libsbx.ContainerProcess):
    try:
        yield
    except BaseException:
        with contextlib.suppress(libsbx.Error):
            process.send_signal(SIGKILL)
        raise


def _response(process: libsbx.ContainerProcess) -> ExecuteResponse:
    output, code = process.captured(), process.returncode
    text = output.text
    if process.exit_reason == "timedOut":
        text, code = f"{text}\nThe command ran out of time and was killed.", TIMED_OUT
    return ExecuteResponse(output=text, exit_code=code, truncated=output.dropped > 0)


def _refusal(path: str) -> str | None:
    return None if posixpath.isabs(path) and "\0" not in path else "invalid_path"


@contextlib.contextmanager
def _noted_in(response: FileUploadResponse | FileDownloadResponse):
    try:
        yield
    except FileNotFoundError:
        response.error = "file_not_found"
    except PermissionError:
        response.error = "permission_denied"
    except IsADirectoryError:
        response.error = "is_directory"
    except NotADirectoryError:
        response.error = "invalid_path"
    except libsbx.SandboxFilesystemError as error:
        response.error = str(error)
