"""Many sandboxes at once, while workers and nodes are killed; and what the pool costs beside one process."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import libsbx as sbx
import pytest
import ray
from conftest import HEAD, NODES, SANDBOXES, Later, eventually, processes, until_gone
from ray_libsbx import SandboxLostError, SandboxPool

# Each worker process starts in some seconds of a processor: fewer, larger hosts where there are many.
EACH = max(SANDBOXES // NODES // 2, min(25, SANDBOXES // NODES))
KILLS = 3 + SANDBOXES // 40


@pytest.fixture
def pool(nodes):
    with SandboxPool(sandboxes_per_host=EACH, timeout=3600) as pool:
        eventually(lambda: pool.stats().capacity == SANDBOXES, 300)
        yield pool


def test_all_are_in_flight_and_nodes_are_killed(pool, nodes):
    """Every sandbox is in use at once. Workers and nodes are killed at random; what was lost is done anew."""
    chance = random.Random(seed := int(os.environ.get("RAY_SEED", time.time())))
    print(f"RAY_SEED={seed}")
    held, lost, ids, over = {}, 0, [], threading.Event()

    async def one(number):
        """Holds a sandbox until the storm is over. It is then still what it was, or it was lost and is made anew."""
        nonlocal lost
        while True:
            try:
                async with await pool.create.aio() as sandbox:
                    ids.append(sandbox.object_id)
                    await sandbox.write_file.aio("/tmp/number", str(number))
                    assert (await sandbox.exec.aio("cat /tmp/number")).stdout == str(number)
                    held[number] = sandbox.node_id
                    while not over.is_set():
                        await asyncio.sleep(SANDBOXES / 32)  # some 32 programs a second in all
                        assert (await sandbox.exec.aio("cat /tmp/number")).stdout == str(number)
                    return
            except SandboxLostError:
                held.pop(number, None)
                lost += 1

    async def storm():
        await asyncio.gather(*(one(number) for number in range(SANDBOXES)))

    running = Later(asyncio.run, storm())
    # Ray's nodes are started in the main thread only.
    for number in range(KILLS):
        time.sleep(chance.uniform(1, 4))
        if number % 3 == 1:
            nodes.kill(chance.choice(list(nodes.of)))
            nodes.complete()
        elif up := [each for each in pool.stats().hosts if each.up]:
            os.kill(chance.choice(up).pid, signal.SIGKILL)
    eventually(lambda: running.at or len(held) == SANDBOXES, 1800)
    print(f"{pool.stats().used} sandboxes at once, {lost} lost and made anew, {KILLS} kills")
    over.set()
    assert running.over(600).error is None, running.error
    assert sorted(held) == list(range(SANDBOXES))
    eventually(lambda: pool.stats().used == 0)
    assert not until_gone(*ids)


def test_the_overhead_beside_one_process(pool):
    """In turn: a sandbox and its programs through the pool, and in this process."""
    times = {name: [] for name in ("create", "create by pool", "exec", "exec by pool")}

    def timed(name, work):
        begun = time.monotonic()
        result = work()
        times[name].append(time.monotonic() - begun)
        return result

    for _ in range(10):
        here = timed("create", sbx.Sandbox.create)
        with timed("create by pool", pool.create) as there:
            for _ in range(5):
                program = timed("exec", lambda: (process := here.exec("true")).wait() or process)
                assert program.returncode == 0
                assert timed("exec by pool", lambda: there.exec(["true"])).exit_code == 0
        here.close()
    for name, each in times.items():
        print(f"{name}: median {statistics.median(each) * 1000:.1f} ms of {len(each)}")
    for name in ("create", "exec"):
        more = statistics.median(times[f"{name} by pool"]) - statistics.median(times[name])
        print(f"overhead of {name}: {more * 1000:.1f} ms")


def test_warm_sandboxes_on_each_host(nodes):
    with SandboxPool(sandboxes_per_host=2, hosts=1, warm=1, timeout=600) as pool:
        host = pool._hosts[0]
        eventually(lambda: pool.stats().capacity == 2)
        eventually(lambda: ray.get(host.warm_stats.remote()).ready == 1)
        with pool.create() as sandbox:
            assert sandbox.exec("echo warm").stdout == "warm\n"
        assert ray.get(host.warm_stats.remote()).hits == 1


class Registry:
    """One image with busybox, on a registry that counts how often its layer is asked for."""

    def __init__(self):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(shutil.which("busybox"), "bin/busybox")
            for name in ("sh", "cat"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        plain = packed.getvalue()
        self.blobs, self.pulls = {}, 0
        config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}}
        config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]}
        kind = "application/vnd.oci.image"
        layer = self.blob(f"{kind}.layer.v1.tar+gzip", gzip.compress(plain, 1))
        self.layer = layer["digest"]
        described = {"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "layers": [layer]}
        described["config"] = self.blob(f"{kind}.config.v1+json", json.dumps(config).encode())
        self.manifest = json.dumps(described).encode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                last = self.path.rsplit("/", 1)[-1]
                is_manifest = "/manifests/" in self.path
                body = registry.manifest if is_manifest else registry.blobs.get(last, b"{}")
                registry.pulls += last == registry.layer
                self.send_response(200)
                self.send_header("Content-Type", described["mediaType"] if is_manifest else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.name = f"127.0.0.1:{self.server.server_port}/tools:1"

    def blob(self, kind, data):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": kind, "digest": digest, "size": len(data)}


def test_an_image_is_pulled_once_a_node(nodes):
    registry = Registry()
    with SandboxPool(sandboxes_per_host=SANDBOXES // NODES // 2, image=registry.name, timeout=600) as pool:
        eventually(lambda: pool.stats().capacity == SANDBOXES)

        async def create():
            return await asyncio.gather(*(pool.create.aio() for _ in range(2 * NODES)))

        sandboxes = asyncio.run(create())
        used = [each.used for each in pool.stats().hosts]
        assert used == [1] * 2 * NODES, "each host has one"
        assert all(each.exec("cat /bin/sh >/dev/null; echo of an image").stdout == "of an image\n" for each in sandboxes)
    assert registry.pulls == NODES
    registry.server.shutdown()


DRIVER = """
import sys, ray
from ray_libsbx import SandboxPool

ray.init(address=sys.argv[1], _node_ip_address=sys.argv[2], logging_level="ERROR")
pool = SandboxPool(hosts=1, sandboxes_per_host=1)
sandbox = pool.create()
print("sandbox", sandbox.object_id, flush=True)
sandbox.exec(["sleep", "1000"])
"""


def test_a_pool_ends_with_the_process_that_made_it(nodes):
    arguments = [sys.executable, "-c", DRIVER, nodes.cluster.address, HEAD]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as driver:
        object_id = next(line.split()[1] for line in driver.stdout if line.startswith("sandbox "))
        assert processes([object_id])
        driver.kill()
    assert not until_gone(object_id)
