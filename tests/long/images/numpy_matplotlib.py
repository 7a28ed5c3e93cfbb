"""A Python image built by steps: wheels with compiled code from an index on this machine, a PNG out.

    numpy_matplotlib.py ARCHIVE WHEELS

Needs PYTHONPATH with the package.
"""

import functools
import http.server
import struct
import sys
import threading
import zlib

import libsbx as sbx

PROGRAM = """
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot, numpy
x = numpy.linspace(0, 2 * numpy.pi, 200)
figure, axes = matplotlib.pyplot.subplots(figsize=(4, 3), dpi=100)
axes.plot(x, numpy.sin(x))
figure.savefig("/srv/sine.png")
print(numpy.__version__, matplotlib.__version__)
"""


class Index(http.server.SimpleHTTPRequestHandler):
    """The list of a directory's files is an index for pip's --find-links."""

    def log_message(self, *_):
        pass


def size_of(png):
    """Width and height, if it is whole."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n", png[:8]
    at, kinds, size = 8, [], None
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0], kind
        kinds.append(kind)
        if kind == b"IHDR":
            size = struct.unpack(">II", data[:8])
        at += 12 + length
    assert kinds[-1] == b"IEND", kinds
    return size


def main(archive, wheels):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Index, directory=wheels))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = {80: f"127.0.0.1:{server.server_port}"}
    image = (
        sbx.Image.from_path(archive)
        .run_commands("ln -s python3 /usr/bin/python", "useradd --create-home artist && install -d -o artist /srv")
        .pip_install(
            "numpy", "matplotlib", find_links="http://192.0.0.1/",
            extra_options="--no-index --trusted-host 192.0.0.1 --break-system-packages --no-compile", host_services=service,
        )  # fmt: skip
        .env({"MPLCONFIGDIR": "/tmp/matplotlib"})
        .dockerfile_commands("USER artist", "WORKDIR /home/artist")
    )
    with sbx.Sandbox.create("sleep", "infinity", image=image, block_network=True, timeout=900) as sandbox:
        process = sandbox.exec("python", "-c", PROGRAM, timeout=300)
        versions = process.stdout.read().strip()
        assert process.wait() == 0, process.stderr.read()
        who = sandbox.exec("sh", "-c", "id -un; pwd; stat -c %U /srv/sine.png").stdout.read().split()
        assert who == ["artist", "/home/artist", "artist"], who
        png = sandbox.filesystem.read_bytes("/srv/sine.png")
    assert size_of(png) == (400, 300), size_of(png)
    server.shutdown()
    print(f"numpy and matplotlib {versions}: a PNG of {len(png)} bytes")


main(*sys.argv[1:])
