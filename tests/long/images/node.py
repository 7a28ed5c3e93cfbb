"""A Debian root with Node: a server of its own, reached by https through its tunnel.

    node.py ARCHIVE

Needs PYTHONPATH with the package.
"""

import json
import sys
import urllib.request

import libsbx as sbx

SERVER = """
const os = require('os');
require('http').createServer((request, response) => {
    response.end(JSON.stringify({ node: process.version, uid: process.getuid(), home: os.homedir(), path: request.url }));
}).listen(8080);
"""


def main(archive):
    image = sbx.Image.from_path(archive)
    with sbx.Sandbox.create("node", "-e", SERVER, image=image, encrypted_ports=[8080], timeout=600) as sandbox:
        sandbox.wait_until_ready(timeout=180)
        tunnel = sandbox.tunnels()[8080]
        with urllib.request.urlopen(tunnel.url + "/where?it=is", context=tunnel.ssl_context(), timeout=60) as page:
            said = json.load(page)
    version = said.pop("node")
    assert said == {"uid": 0, "home": "/root", "path": "/where?it=is"}, said
    print(f"node {version}: its own server answered through the tunnel")


main(*sys.argv[1:])
