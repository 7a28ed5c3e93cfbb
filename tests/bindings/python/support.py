"""What the tests of the Python package share. It is found in examples/python, the library where the system looks."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

top = Path(os.environ.get("CARGO_MANIFEST_DIR") or Path(__file__).resolve().parents[3])
examples = top / "examples" / "python"
sys.path.insert(0, str(examples))

import sbx  # noqa: E402

__all__ = ["examples", "python", "sbx", "serve", "top", "unittest"]


def python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Another Python, which finds the package; an empty variable is unset."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(examples), os.environ.get("PYTHONPATH", "")])}
    variables.update(environment)
    variables = {name: value for name, value in variables.items() if value}
    return subprocess.run(
        [sys.executable, "-B", *arguments], env=variables, capture_output=True, text=True, timeout=120
    )


def serve(**settings: object) -> "sbx.Sandbox":
    """A sandbox with a web server on port 8000, ready."""
    sandbox = sbx.Sandbox.create("python3", "-m", "http.server", "8000", **settings)
    sandbox.wait_until_ready()
    return sandbox
