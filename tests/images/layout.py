"""Writes an OCI image layout whose layers do everything that layers can do to one another.

layout.py DIRECTORY BUSYBOX
"""
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import gzip

TIME = 1_700_000_000


class Layer:
    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)
        self.count = 0

    def add(self, name, kind, mode=0o644, owner=(0, 0), content=b"", link="", device=(0, 0), records=None):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname = kind, mode, link
        entry.uid, entry.gid = owner
        entry.size = len(content)
        entry.devmajor, entry.devminor = device
        # Another time for each, so that a wrong one shows.
        self.count += 1
        entry.mtime = TIME + self.count
        entry.pax_headers = records or {}
        self.tar.addfile(entry, io.BytesIO(content))

    def file(self, name, content=b"", **more):
        self.add(name, tarfile.REGTYPE, content=content, **more)

    def directory(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, link, **more):
        self.add(name, tarfile.SYMTYPE, mode=0o777, link=link, **more)

    def link(self, name, link):
        self.add(name, tarfile.LNKTYPE, link=link)

    def gone(self, name):
        directory, _, base = name.rpartition("/")
        self.file(f"{directory}/.wh.{base}" if directory else f".wh.{base}")

    def opaque(self, directory):
        self.file(f"{directory}/.wh..wh..opq")

    def finish(self):
        self.tar.close()
        return self.bytes.getvalue()


def lowest(busybox):
    layer = Layer()
    layer.directory("bin")
    layer.file("bin/busybox", busybox, mode=0o755)
    for applet in ["sh", "find", "xargs", "stat", "sha256sum", "readlink"]:
        layer.symlink(f"bin/{applet}", "busybox")
    # Owners and modes.
    layer.directory("owned", mode=0o700, owner=(999, 998))
    layer.file("owned/file", b"private", mode=0o600, owner=(999, 998))
    layer.file("owned/large", b"", owner=(70_000, 4_000_000_000))
    layer.file("owned/setuid", b"x", mode=0o4755)
    layer.file("owned/setgid", b"x", mode=0o2755, owner=(1, 2))
    layer.directory("sticky", mode=0o1777)
    layer.file("owned/none", b"x", mode=0)
    # Kinds.
    layer.add("kinds/fifo", tarfile.FIFOTYPE, mode=0o640)
    layer.add("kinds/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    layer.add("kinds/loop", tarfile.BLKTYPE, mode=0o660, device=(7, 300))
    layer.symlink("kinds/absolute", "/owned/file")
    layer.symlink("kinds/up", "../../../../owned")
    layer.symlink("kinds/dangling", "nowhere")
    layer.symlink("kinds/long", "x/" * 1000 + "y", owner=(5, 6))
    # Names.
    long = "/".join(["d" * 200] * 5)
    layer.file(f"names/{long}/{'f' * 255}", b"long")
    layer.file("names/\u00e9 \u6f22 with spaces", b"odd")
    layer.file("names/-n", b"dash")
    layer.file("./names/./dot", b"dot")
    # Sizes around a block.
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000]:
        layer.file(f"sizes/{size}", bytes(i % 251 for i in range(size)))
    layer.file("sizes/zeros", b"a" + bytes(50_000) + b"b")
    # Hard links.
    layer.file("links/one", b"one", owner=(3, 4))
    layer.link("links/two", "links/one")
    layer.file("links/a", b"a")
    layer.link("links/b", "links/a")
    # Directories that are links, as where /usr is merged.
    layer.directory("usr/lib")
    layer.symlink("lib", "usr/lib")
    layer.file("lib/below", b"below")
    # What the next layers change.
    for name in ["file", "directory/a", "directory/b", "opaque/a", "opaque/sub/b", "kept/a", "kept/b", "again/a"]:
        layer.file(f"changed/{name}", name.encode(), owner=(7, 7))
    layer.file("changed/to_directory", b"file")
    layer.file("changed/to_file/inner", b"inner")
    layer.symlink("changed/to_real", "kept")
    layer.file("changed/twice", b"first")
    layer.file("changed/twice", b"second", mode=0o600)
    layer.file("changed/capable", b"x", records={"SCHILY.xattr.user.test": "value"})
    return layer.finish()


def middle():
    layer = Layer()
    layer.gone("changed/file")
    layer.gone("changed/directory")
    layer.gone("changed/never was there")
    layer.opaque("changed/opaque")
    layer.file("changed/opaque/new", b"new")
    layer.directory("changed/kept", mode=0o711, owner=(8, 8))
    layer.gone("changed/kept/a")
    layer.directory("changed/to_directory", mode=0o750)
    layer.file("changed/to_directory/inner", b"inner")
    layer.file("changed/to_file", b"now a file")
    layer.directory("changed/to_real")
    layer.file("changed/to_real/x", b"x")
    layer.gone("changed/again")
    layer.file("changed/again/b", b"b")
    # Through the link below.
    layer.file("lib/above", b"above")
    # Another name of a file below, and another content under one of two names.
    layer.link("links/three", "links/one")
    layer.file("links/two", b"two now")
    layer.gone("links/a")
    return layer.finish()


def top():
    layer = Layer()
    layer.file("changed/file", b"back again", mode=0o640, owner=(9, 9))
    layer.directory("changed/directory", mode=0o700)
    layer.file("changed/again/a", b"a again")
    layer.gone("changed/to_real/x")
    layer.file("sizes/4096", b"shorter")
    layer.symlink("usr/lib/link", "../../changed")
    return layer.finish()


def main():
    directory, busybox = sys.argv[1:]
    blobs = os.path.join(directory, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(content, media_type):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def write(name, value):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            json.dump(value, file)

    with open(busybox, "rb") as file:
        layers = [lowest(file.read()), middle(), top()]
    compressed = [gzip.compress(layers[0], 1, mtime=0), layers[1], gzip.compress(layers[2][:1000], mtime=0) + gzip.compress(layers[2][1000:], mtime=0)]
    media_type = "application/vnd.oci.image.layer.v1.tar"
    kinds = [f"{media_type}+gzip", media_type, f"{media_type}+gzip"]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(content, kind) for content, kind in zip(compressed, kinds)],
    }
    entry = blob(json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "odd"}
    write("oci-layout", {"imageLayoutVersion": "1.0.0"})
    write("index.json", {"schemaVersion": 2, "manifests": [entry]})


main()
