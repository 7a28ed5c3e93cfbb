"""The server's command line, which is where its sandbox is decided: the client has no say in it."""

from __future__ import annotations

import argparse
from typing import Any

import libsbx as sbx

from .server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="mcp-libsbx", description="An MCP server on stdio with one sandbox")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--image", help="image of a registry; without one the sandbox shows the host's programs")
    images.add_argument("--path", help="image in files: of docker save, an OCI layout, a root file system")
    parser.add_argument("--allow-domain", action="append", default=[], help="name that may be reached, over TLS")
    parser.add_argument("--allow-cidr", action="append", default=[], help="addresses that may be reached")
    parser.add_argument("--mount", action="append", default=[], metavar="INSIDE=HOST", help="read-only directory")
    parser.add_argument("--user", help="who programs run as")
    parser.add_argument("--workdir", help="where programs start")
    parser.add_argument("--memory", type=int, help="limit in MiB")
    parser.add_argument("--lifetime", type=int, default=3600, help="seconds until the sandbox is ended (3600)")
    parser.add_argument("--timeout", type=float, default=60, help="most seconds of one program (60)")
    said = parser.parse_args()

    options: dict[str, Any] = dict(timeout=said.lifetime, user=said.user, workdir=said.workdir, memory=said.memory)
    if said.allow_domain or said.allow_cidr:
        options.update(outbound_domain_allowlist=said.allow_domain, outbound_cidr_allowlist=said.allow_cidr)
    else:
        options.update(block_network=True)
    if said.image is not None:
        options.update(image=sbx.Image.from_registry(said.image))
    if said.path is not None:
        options.update(image=sbx.Image.from_path(said.path))
    if said.mount:
        options.update(mounts=dict(each.split("=", 1) for each in said.mount))
    serve({name: value for name, value in options.items() if value is not None}, said.timeout)


if __name__ == "__main__":
    main()
