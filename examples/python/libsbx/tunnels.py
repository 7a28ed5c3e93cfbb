"""Where the ports of a sandbox are reached."""

from __future__ import annotations

import ctypes
import ssl
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .exception import InvalidError
from .native import decoded, filled, library
from .trust import alone, trust


@dataclass(frozen=True)
class Tunnel:
    """Where a port of the sandbox is reached. `ca_pem` is the certificate to trust, `spki_sha256` the key to pin."""

    host: str
    port: int
    unencrypted_host: str = ""
    unencrypted_port: int = 0
    ca_pem: str | None = field(default=None, repr=False)
    spki_sha256: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return "https://{}:{}".format(*self.tls_socket)

    @property
    def tls_socket(self) -> tuple[str, int]:
        if self.unencrypted_host:
            raise InvalidError("this tunnel is of raw TCP: use tcp_socket, or list the port in encrypted_ports")
        return (self.host, self.port)

    @property
    def tcp_socket(self) -> tuple[str, int]:
        if not self.unencrypted_host:
            raise InvalidError("this tunnel is encrypted: use tls_socket, or list the port in unencrypted_ports")
        return (self.unencrypted_host, self.unencrypted_port)

    def ssl_context(self) -> ssl.SSLContext:
        """For clients that take one (urllib, http.client, aiohttp, httpx): trusts this sandbox's authority alone."""
        return ssl.create_default_context(cadata=self.ca_pem)

    def ca_bundle(self) -> str:
        """For clients that take a file, such as requests.get(tunnel.url, verify=tunnel.ca_bundle()): one with this
        sandbox's authority alone, until the sandbox has ended. It is in memory."""
        if self.ca_pem is None:
            raise InvalidError("this tunnel is of raw TCP: there is nothing to verify")
        return alone(self.ca_pem)


def read_tunnels(found: ctypes.c_void_p, ended: Future[Any]) -> dict[int, Tunnel]:
    """The tunnels of the library's map, by container port. Their authority is trusted until `ended`."""
    tunnels = {}
    for index in range(library.sbx_tunnel_map_count(found)):
        said = filled("tunnel_map_tunnel", "tunnel", found, index)
        host, authority, pin = decoded(said.host) or "", decoded(said.ca_pem), decoded(said.spki_sha256)
        plain = (host, said.port) if said.url is None else ("", 0)
        tunnels[said.container_port] = Tunnel(host, said.port, plain[0], plain[1], authority, pin)
        if authority is not None:
            trust(authority, ended)
    return tunnels
