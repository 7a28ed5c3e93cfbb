"""What a server does with kernels, by jupyter_client's managers."""

import contextlib
import os
import socket
import time

import libsbx
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.manager import KernelManager, start_new_kernel


@pytest.fixture(scope="module")
def started():
    manager, client = start_new_kernel(kernel_name="sandboxed", startup_timeout=120)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel()


def run(client, code, timeout=60):
    """The result, or what was printed."""
    said = []

    def heard(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "execute_result":
            said.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            said.append(content["ename"])

    client.execute_interactive(code, timeout=timeout, output_hook=heard)
    return "".join(said)


def test_it_is_in_a_sandbox_that_reaches_nothing(started):
    assert "gvisor" in run(started[1], "print(open('/proc/version').read().lower())")
    connect = "import socket\nsocket.create_connection(('8.8.8.8', 53), timeout=3)"
    assert "Error" in run(started[1], connect)


def test_of_the_environment_it_gets_what_its_spec_names(started):
    said = run(started[1], "import os; print(os.environ.get('GIVEN'), os.environ.get('SECRET_OF_TEST'))")
    assert said == "to somebody None\n"


def test_much_output_comes_whole(started):
    assert len(run(started[1], "print('x' * 5_000_000)")) == 5_000_001


def test_a_cell_is_interrupted_with_what_it_has_started(started):
    manager, client = started
    number = client.execute("import subprocess\nsubprocess.run(['sleep', '1000'])")
    while client.get_iopub_msg(timeout=30)["msg_type"] != "execute_input":
        pass
    time.sleep(1)
    begun = time.monotonic()
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != number:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt" and time.monotonic() - begun < 15
    assert run(client, "1 + 1") == "2"


def test_what_is_asked_comes_by_the_fifth_port(started):
    _, client = started
    number = client.execute("print(input('name? '))", allow_stdin=True)
    assert client.get_stdin_msg(timeout=30)["content"]["prompt"] == "name? "
    client.input("somebody")
    while True:
        message = client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == number:
            assert message["content"]["text"] == "somebody\n"
            break


def test_restarted_it_has_its_files_and_ports_and_no_variables():
    manager, client = start_new_kernel(kernel_name="sandboxed", startup_timeout=120)
    known = manager.get_connection_info()
    run(client, "kept = open('/tmp/kept', 'w').write('kept')")
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=120)
    assert manager.get_connection_info() == known
    assert run(client, "print(open('/tmp/kept').read(), 'kept' in globals())") == "kept False\n"
    # The sandbox's own end is the kernel's, and the next one is found where the last one was.
    manager.provisioner._sandbox.terminate(wait=True)
    assert not manager.is_alive()
    manager.restart_kernel()
    client.wait_for_ready(timeout=120)
    assert manager.get_connection_info() == known
    assert run(client, "import os; os.path.exists('/tmp/kept')") == "False"
    client.stop_channels()
    manager.shutdown_kernel()


def test_a_kernel_of_another_user():
    manager, client = start_new_kernel(kernel_name="user", startup_timeout=120)
    assert run(client, "import os; print(os.getuid() != 0, os.getcwd())") == "True /\n"
    client.stop_channels()
    manager.shutdown_kernel()


def processes():
    """This process and its descendants."""
    parents = {}
    for each in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{each}/stat", errors="replace") as file:
                parents[int(each)] = int(file.read().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


async def test_nothing_is_left_after_the_shutdown():
    before = processes()
    manager = AsyncKernelManager(kernel_name="sandboxed")
    await manager.start_kernel()
    port = manager.get_connection_info()["shell_port"]
    assert len(processes() - before) > 1
    await manager.shutdown_kernel(now=True)
    assert not await manager.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    end = time.monotonic() + 10
    while processes() - before and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes() - before


def test_what_it_cannot_do_is_refused():
    before = processes()
    with pytest.raises(libsbx.Error):
        KernelManager(kernel_name="missing").start_kernel()
    assert not processes() - before
    with pytest.raises(RuntimeError):
        KernelManager(kernel_name="sandboxed", transport="ipc").start_kernel()
