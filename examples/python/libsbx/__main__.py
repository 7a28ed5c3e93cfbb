"""python3 -m libsbx: what this machine lacks for sandboxes, or one program in a sandbox of its own.

    python3 -m libsbx doctor [--json]
    python3 -m libsbx run [--image NAME] [--block-network] [--timeout SECONDS] ... -- COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading

from .checks import doctor
from .exception import Error, SandboxTimeoutError
from .image import Image
from .sandbox import Sandbox
from .streams import StreamReader


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    found = dict(text.partition("=")[::2] for text in texts)
    for text in texts:
        if "=" not in text:
            sys.exit(f"error: {option} {text}: it has no '='")
    return found


def _copy_out(reader: StreamReader[str], fd: int) -> None:
    # Bytes as they come: what a program writes need not be text.
    reader._decoder, reader._by_line = None, False
    with contextlib.suppress(BrokenPipeError, Error):
        for piece in reader:
            data = memoryview(piece)  # type: ignore[arg-type]
            while data:
                data = data[os.write(fd, data) :]


def _copy_in(sandbox: Sandbox) -> None:
    with contextlib.suppress(OSError, ValueError, Error):
        stdin = sandbox.stdin
        while data := os.read(0, 65536):
            stdin.write(data)
            stdin.drain()
        stdin.write_eof()
        stdin.drain()


def _run(options: argparse.Namespace) -> int:
    image = Image.from_registry(options.image) if options.image else None
    env = _pairs(options.env, "--env")
    mounts = _pairs(options.mount, "--mount")
    with Sandbox.create(
        *options.command, image=image, env=env, mounts={place: os.path.abspath(path) for place, path in mounts.items()},
        block_network=options.block_network, timeout=options.timeout, memory=options.memory, user=options.user,
        workdir=options.workdir, outbound_domain_allowlist=options.allow_domain, outbound_cidr_allowlist=options.allow_cidr,
    ) as sandbox:  # fmt: skip
        copies = [threading.Thread(target=_copy_out, args=(reader, fd)) for fd, reader in enumerate(sandbox._outputs, 1)]
        for copy in copies:
            copy.start()
        threading.Thread(target=_copy_in, args=(sandbox,), daemon=True).start()
        try:
            sandbox.wait(raise_on_termination=False)
        except SandboxTimeoutError as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            sandbox.terminate()
            for copy in copies:
                copy.join()
        if sandbox.exit_reason not in ("exited", "signalled", "timedOut"):
            print(f"error: the sandbox ended: {sandbox.exit_reason}", file=sys.stderr)
        return sandbox.returncode or 0


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m libsbx", description="gVisor sandboxes inside your own process")
    commands = parser.add_subparsers(dest="what", metavar="doctor | run")
    check = commands.add_parser("doctor", help="what this machine lacks for sandboxes, and what to do about it")
    check.add_argument("--json", action="store_true", help="one line of JSON, for programs")
    run = commands.add_parser("run", help="runs a program in a sandbox of its own, and exits with its code")
    run.add_argument("--image", help="an image of a registry, such as python:3.12; else the host's programs are shown")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("--mount", action="append", default=[], metavar="PLACE=PATH", help="a path of the host, read-only")
    run.add_argument("--block-network", action="store_true")
    run.add_argument("--allow-domain", action="append", metavar="DOMAIN", help="nothing else is reached")
    run.add_argument("--allow-cidr", action="append", metavar="RANGE", help="nothing else is reached")
    run.add_argument("--timeout", type=int, default=300, metavar="SECONDS")
    run.add_argument("--memory", type=int, metavar="MIB")
    run.add_argument("--user")
    run.add_argument("--workdir")
    run.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        if options.what == "run":
            return _run(options)
        report = doctor()
        print(report.json if getattr(options, "json", False) else report)
        return 0 if report.usable else 1
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(_main())
