"""A smolagents executor whose code runs in a libsbx sandbox: CodeAgent(..., executor=LibsbxExecutor())."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import libsbx as sbx
from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.utils import AgentError

_INTERPRETER = Path(__file__).with_name("interpreter.py")
_MISSING = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        print(name)
"""
_MOST_ANSWERED = 64 << 20
# For a cell that was interrupted to say so.
_GRACE = 5


class LibsbxExecutor(RemotePythonExecutor):
    """Code runs in one interpreter, which keeps its variables, in one sandbox. `create_kwargs` are arguments of
    Sandbox.create(): without an image it shows the host's programs, and unless they say something of the network it has
    none. A cell is interrupted after `timeout` seconds."""

    def __init__(
        self,
        additional_imports: list[str] | None = None,
        logger: AgentLogger | None = None,
        allow_pickle: bool = False,
        timeout: float = 60,
        create_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(additional_imports or [], logger or AgentLogger(level=LogLevel.ERROR), allow_pickle)
        options = dict(create_kwargs or {})
        if not any("network" in name or name.startswith("outbound") or "cidr" in name for name in options):
            options["block_network"] = True
        self._timeout = timeout
        self.sandbox = sbx.Sandbox.create(**{"timeout": 24 * 3600, **options})
        try:
            self.installed_packages = list(self.install_packages(self.additional_imports))
            program = ("python3", "-u", "-c", _INTERPRETER.read_text())
            self._process = self.sandbox.exec(*program, stderr=sbx.StreamType.DEVNULL)
            self._answers = iter(self._process.stdout)
        except BaseException:
            self.cleanup()
            raise

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        answer = self._ask(code)
        logs = str(answer.get("logs", ""))
        if "final" in answer:
            value = self._deserialize_final_answer(str(answer["final"]), self.allow_pickle)
            return CodeOutput(output=value, logs=logs, is_final_answer=True)
        if "error" in answer:
            raise AgentError(logs + str(answer["error"]), self.logger)
        return CodeOutput(output=answer.get("result"), logs=logs, is_final_answer=False)

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        """With the sandbox's own pip, which has to reach an index, those that aren't there."""
        found = self.sandbox.exec("python3", "-c", _MISSING, *additional_imports)
        missing = found.stdout.read().split()
        if missing:
            pip = ("python3", "-m", "pip", "install", *missing)
            process = self.sandbox.exec(*pip, stdout=sbx.Capture(), stderr=sbx.Capture())
            if process.wait() != 0:
                raise AgentError(process.captured("stderr").text, self.logger)
        return additional_imports

    def cleanup(self) -> None:
        self.sandbox.close()

    delete = cleanup

    def _ask(self, code: str) -> dict[str, Any]:
        timers = [
            threading.Timer(self._timeout, self._signal, (signal.SIGINT,)),
            threading.Timer(self._timeout + _GRACE, self._signal, (signal.SIGKILL,)),
        ]
        try:
            for timer in timers:
                timer.start()
            self._process.stdin.write(json.dumps(code) + "\n")
            self._process.stdin.drain()
            answer = ""
            while not answer.endswith("\n"):
                answer += next(self._answers, "")
                if len(answer) > _MOST_ANSWERED:
                    self._signal(signal.SIGKILL)
                    raise AgentError("the code's answer has no end", self.logger)
                if self._process.poll() is not None and not answer.endswith("\n"):
                    answer += "".join(self._answers)
                    break
            said = json.loads(answer)
            if not isinstance(said, dict):
                raise ValueError(answer)
            return said
        except (ValueError, BrokenPipeError, sbx.Error) as error:
            raise AgentError(f"the interpreter in the sandbox has ended, and its variables are lost: {error}", self.logger)
        finally:
            for timer in timers:
                timer.cancel()

    def _signal(self, number: int) -> None:
        try:
            self._process.send_signal(number)
        except sbx.Error:
            pass  # it has ended
