"""The pool on a cluster whose nodes, workers and callers die."""

import asyncio
import os
import pickle
import signal
import socket
import ssl
import time

import libsbx as sbx
import pytest
import ray
from conftest import NODES, SANDBOXES, STRANGER, Later, eventually, processes, until_gone
from ray_libsbx import PoolClosedError, PoolFullError, PoolTimeoutError, SandboxLostError, SandboxPool

EACH = SANDBOXES // NODES // 2
SERVER = "import http.server as h; h.ThreadingHTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture(scope="module")
def shared(all_nodes):
    all_nodes.complete()
    with SandboxPool(sandboxes_per_host=EACH, timeout=600) as pool:
        eventually(lambda: pool.stats().capacity == SANDBOXES)
        yield pool


@pytest.fixture
def pool(nodes, shared):
    # What an earlier test has killed has come back.
    eventually(lambda: shared.stats().capacity == SANDBOXES and shared.stats().used == 0)
    return shared


def host_of(pool, sandbox):
    [host] = [each for each in pool.stats().hosts if each.node_id == sandbox.node_id and each.used]
    return host


def test_programs_and_files(pool):
    with pool.create() as sandbox:
        result = sandbox.exec("echo out; echo error >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr, result.truncated) == (3, "out\n", "error\n", False)
        assert sandbox.exec(["cat"], input="given").stdout == "given"
        assert sandbox.exec(["sleep", "1000"], timeout=0.5).exit_code == -1
        cut = sandbox.exec(["head", "-c", "100000", "/dev/zero"], max_output=1000)
        assert cut.truncated and len(cut.stdout) < 1100
        assert sandbox.exec("pwd; echo $A", cwd="/tmp", env={"A": "b"}).stdout == "/tmp\nb\n"
        sandbox.make_directory("/tmp/d")
        sandbox.write_file("/tmp/d/f", b"bytes")
        assert sandbox.read_file("/tmp/d/f") == b"bytes"
        assert [each.name for each in sandbox.list_files("/tmp/d")] == ["f"]
        sandbox.remove("/tmp/d", recursive=True)
        assert sandbox.stats().uptime_ms > 0
        assert sandbox.poll() is None
        assert sandbox.terminate().exit_code == 137
        assert sandbox.poll().reason == "terminated"


def test_errors_are_those_of_the_library(pool):
    with pool.create() as sandbox:
        with pytest.raises(FileNotFoundError) as missing:
            sandbox.read_file("/nowhere")
        assert isinstance(missing.value, sbx.exception.SandboxFilesystemNotFoundError) and missing.value.os_error == 2
        with pytest.raises(sbx.exception.ExecutionError):
            sandbox.exec(["/no/such/program"])
        sandbox.terminate()
        with pytest.raises(sbx.exception.NotFoundError, match="has ended"):
            sandbox.exec("true")
    with pytest.raises(sbx.exception.InvalidError, match="mtu"):
        pool.create(mtu=1)
    assert pool.stats().used == 0


def test_a_sandbox_is_handed_to_a_task(pool):
    @ray.remote(num_cpus=0)
    def run(sandbox):
        return sandbox.exec("echo from a task").stdout

    @ray.remote(num_cpus=0)
    def create(pool):
        return pool.create("sh", "-c", "exit 5")

    with pool.create() as sandbox:
        assert ray.get(run.remote(sandbox)) == "from a task\n"
    assert ray.get(create.remote(pool)).wait().exit_code == 5


def test_a_tunnel_is_for_the_other_nodes(pool, nodes):
    @ray.remote(num_cpus=0)
    def fetch(tunnel, source):
        context = tunnel.ssl_context()
        with socket.create_connection((tunnel.host, tunnel.port), 20, (source, 0)) as plain:
            with context.wrap_socket(plain, server_hostname=tunnel.host) as connection:
                connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                return connection.recv(12).decode()

    with pool.create("python3", "-c", SERVER, encrypted_ports=[8080]) as sandbox:
        sandbox.wait_until_ready(timeout=60)
        tunnel = sandbox.tunnels()[8080]
        assert tunnel.host == nodes.address(sandbox.node_id)
        [other] = [each for each in nodes.of if each != sandbox.node_id][:1]
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(other, soft=False)
        asked = fetch.options(scheduling_strategy=there)
        assert ray.get(asked.remote(tunnel, nodes.address(other))) == "HTTP/1.0 200"
        with pytest.raises(OSError):
            ray.get(asked.remote(tunnel, STRANGER))
        with socket.create_connection((tunnel.host, tunnel.port), 20) as plain, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(plain, server_hostname=tunnel.host)


def test_a_full_pool_lets_creations_wait_in_their_order(pool):
    pool_used = [pool.create() for _ in range(SANDBOXES)]
    try:
        assert pool.stats().used == SANDBOXES
        with pytest.raises(PoolTimeoutError):
            pool.create(wait=0)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            pool.create(wait=1)
        assert time.monotonic() - begun >= 1
        first = Later(pool.create, wait=120)
        eventually(lambda: pool.stats().waiting == 1)
        second = Later(pool.create, wait=120)
        eventually(lambda: pool.stats().waiting == 2)
        pool_used.pop().terminate()
        pool_used.append(first.over().result)
        assert second.at is None
        pool_used.pop(0).terminate()
        pool_used.append(second.over().result)
        assert pool_used[-1].exec("echo served").stdout == "served\n"
    finally:
        for sandbox in filter(None, pool_used):
            sandbox.terminate()


def test_too_many_wait(pool):
    with pytest.raises(sbx.exception.InvalidError):
        SandboxPool(sandboxes_per_host=0)
    with pytest.raises(sbx.exception.InvalidError, match="sandboxes"):
        SandboxPool(sandboxes_per_host=1_000_000)
    # Its host finds no room beside the other pool's: nothing is ever free.
    with SandboxPool(hosts=1, sandboxes_per_host=1, max_waiting=1) as none:
        waits = Later(none.create, wait=30)
        eventually(lambda: none.stats().waiting == 1)
        with pytest.raises(PoolFullError):
            none.create()
        none.close()
        assert isinstance(waits.over().error, PoolClosedError)


def test_a_caller_that_is_cancelled_leaves_nothing(pool):
    async def work():
        async with await pool.create.aio() as sandbox:
            program = asyncio.ensure_future(sandbox.exec.aio(["sleep", "4242"]))
            while "sleep 4242" not in (await sandbox.exec.aio("cat /proc/*/cmdline | tr '\\0' ' '")).stdout:
                await asyncio.sleep(0.1)
            program.cancel()
            with pytest.raises(asyncio.CancelledError):
                await program
            while "sleep 4242" in (await sandbox.exec.aio("cat /proc/*/cmdline | tr '\\0' ' '")).stdout:
                await asyncio.sleep(0.1)
        creations = [asyncio.ensure_future(pool.create.aio()) for _ in range(3)]
        await asyncio.sleep(0.2)
        for each in creations:
            each.cancel()
        for created in await asyncio.gather(*creations, return_exceptions=True):
            if not isinstance(created, BaseException):  # it was too quick to be cancelled
                await created.terminate.aio()

    asyncio.run(work())
    eventually(lambda: pool.stats().used == 0)


def test_a_worker_that_is_killed_takes_its_own_sandboxes_only(pool):
    lost, kept = pool.create(), pool.create()
    host = host_of(pool, lost)
    assert host_of(pool, kept).pid != host.pid
    goes_on = Later(kept.exec, "sleep 3; echo done")
    waits = Later(lost.exec, ["sleep", "1000"])
    assert processes([lost.object_id]) and processes(["runsc-sandbox"])
    time.sleep(1)
    at = time.monotonic()
    os.kill(host.pid, signal.SIGKILL)
    assert not until_gone(lost.object_id)
    print(f"gone {time.monotonic() - at:.2f} s after the worker was killed")
    assert isinstance(waits.over().error, SandboxLostError)
    print(f"the caller's error came {waits.at - at:.2f} s after it")
    with pytest.raises(SandboxLostError):
        lost.exec("true")
    with pytest.raises(SandboxLostError):
        lost.terminate()
    assert goes_on.over().result.stdout == "done\n"
    kept.terminate()
    eventually(lambda: pool.stats().capacity == SANDBOXES)
    print(f"all hosts were up again {time.monotonic() - at:.1f} s after it")


def test_a_node_that_is_lost_takes_its_own_sandboxes_only(pool, nodes):
    sandboxes = [pool.create() for _ in range(2 * NODES)]
    victim = sandboxes[0].node_id
    lost = [each for each in sandboxes if each.node_id == victim]
    kept = [each for each in sandboxes if each.node_id != victim]
    assert lost and kept
    goes_on = [Later(each.exec, "sleep 5; echo done") for each in kept]
    waits = [Later(each.exec, ["sleep", "1000"]) for each in lost]
    time.sleep(1)
    before = pool.stats().lost
    at = time.monotonic()
    killed = Later(nodes.kill, victim)
    assert not until_gone(*(each.object_id for each in lost))
    print(f"gone {time.monotonic() - at:.2f} s after the node was killed")
    assert all(isinstance(each.over().error, SandboxLostError) for each in waits)
    print(f"the last caller's error came {max(each.at for each in waits) - at:.2f} s after it")
    killed.over()
    assert all(each.over().result.stdout == "done\n" for each in goes_on)
    # What is left of the cluster serves.
    with pool.create(wait=60) as sandbox:
        assert sandbox.exec("echo served").stdout == "served\n"
    for each in kept:
        each.terminate()
    assert pool.stats().lost - before == len(lost)
    nodes.complete()
    eventually(lambda: pool.stats().capacity == SANDBOXES)


def test_a_coordinator_that_is_killed_asks_the_hosts(pool):
    kept = pool.create()
    waits = Later(kept.exec, "sleep 5; echo done")
    there = pool._coordinator.__ray_call__.remote(lambda _: (os.getpid(), ray.get_runtime_context().get_node_id()))
    pid, node = ray.get(there)
    assert node == ray.get_runtime_context().get_node_id()
    os.kill(pid, signal.SIGKILL)
    with pool.create(wait=120) as sandbox:
        assert sandbox.exec("echo served").stdout == "served\n"
    assert waits.over().result.stdout == "done\n"
    eventually(lambda: pool.stats().used == 1)
    kept.terminate()
    eventually(lambda: pool.stats().used == 0)


def test_handles_are_pickled(pool):
    with pool.create() as sandbox:
        assert ray.get(ray.put(sandbox)).exec("echo same").stdout == "same\n"
    for error in (sbx.exception.InvalidError("text", 1, 2), SandboxLostError("text")):
        assert str(pickle.loads(pickle.dumps(error))) == "text"
