"""A web server in a gVisor sandbox, reached over TLS: python3 examples/python/http_server.py"""

import urllib.request

import libsbx as sbx

sandbox = sbx.Sandbox.create("python3", "-m", "http.server", "12345", encrypted_ports=[12345])
tunnel = sandbox.tunnels()[12345]
print(tunnel.url)

# A tunnel is there at once; the server behind it takes a moment.
sandbox.wait_until_ready()
with urllib.request.urlopen(tunnel.url, context=tunnel.ssl_context()) as page:
    print(page.read().decode())

print("ended with", sandbox.terminate(wait=True))
