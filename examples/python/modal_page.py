"""The program of Modal's page on networking, but for its first line. It needs `pip install requests`."""

import libsbx as modal

import requests
import time

my_app = modal.App.lookup("my-app", create_if_missing=True)

sb = modal.Sandbox.create(
    "python",
    "-m",
    "http.server",
    "12345",
    encrypted_ports=[12345],
    app=my_app,
)

tunnel = sb.tunnels()[12345]

time.sleep(1)  # Wait for server to start.

print(f"Connecting to {tunnel.url}...")
print(requests.get(tunnel.url, timeout=5).text)

sb.detach()
