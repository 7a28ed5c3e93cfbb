"""The server, driven over stdio by the official client, in both of the protocol's ages."""

import asyncio
import os
import sys
import time

import pytest
import pytest_asyncio

from mcp import Client, StdioServerParameters


def parameters(*flags):
    return StdioServerParameters(command=sys.executable, args=["-m", "mcp_libsbx", *flags], env=dict(os.environ))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["auto", "legacy"])
async def client(request):
    begun, over = asyncio.get_running_loop().create_future(), asyncio.Event()

    # The client has to be left by the task that has entered it, which those of a fixture needn't be.
    async def hold():
        async with Client(parameters("--timeout", "20"), mode=request.param) as client:
            begun.set_result(client)
            await over.wait()

    holding = asyncio.create_task(hold())
    await asyncio.wait({begun, holding}, return_when=asyncio.FIRST_COMPLETED)
    yield begun.result() if begun.done() else await holding
    over.set()
    await holding


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return result.content[0].text


async def test_tools_are_listed_with_schemas(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"run", "read", "write", "list", "policy"}
    assert tools["run"].input_schema["required"] == ["command"]
    assert set(tools["run"].output_schema["properties"]) == {"exit_code", "timed_out", "stdout", "stderr"}


async def test_run_gives_both_outputs_and_the_code(client):
    ran = await call(client, "run", command=["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert ran == {"exit_code": 7, "timed_out": False, "stdout": "out\n", "stderr": "err\n"}


async def test_run_is_in_gvisor(client):
    ran = await call(client, "run", command=["sh", "-c", "dmesg 2>/dev/null || cat /proc/version"])
    assert "gVisor" in ran["stdout"] or "4.19.0-gvisor" in ran["stdout"]


async def test_run_takes_stdin_and_a_directory(client):
    ran = await call(client, "run", command=["sh", "-c", "pwd; cat"], stdin="hé\n", workdir="/tmp")
    assert ran["stdout"] == "/tmp\nhé\n"


async def test_run_has_a_time(client):
    begun = time.monotonic()
    ran = await call(client, "run", command=["sleep", "60"], timeout=1)
    assert ran["timed_out"] and time.monotonic() - begun < 15


async def test_run_keeps_both_ends_of_much_output(client):
    ran = await call(client, "run", command=["sh", "-c", "echo first; yes | head -c 3000000; echo last"])
    assert ran["stdout"].startswith("first\n") and ran["stdout"].endswith("last\n")
    assert "bytes dropped" in ran["stdout"] and len(ran["stdout"]) < 40000


async def test_run_tells_that_a_program_is_missing(client):
    assert "no-such-program" in await refused(client, "run", command=["no-such-program"])


async def test_run_without_a_program_is_refused(client):
    await refused(client, "run", command=[])


async def test_arguments_are_checked(client):
    await refused(client, "run", command="ls")


async def test_files_are_written_read_and_listed(client):
    await call(client, "write", path="/tmp/some/where/a.txt", text="one\ntwo é\n")
    assert (await call(client, "read", path="/tmp/some/where/a.txt")) == {"result": "one\ntwo é\n"}
    listed = (await call(client, "list", path="/tmp/some/where"))["result"]
    assert [(each["name"], each["kind"], each["size"]) for each in listed] == [("a.txt", "file", 11)]
    ran = await call(client, "run", command=["cat", "/tmp/some/where/a.txt"])
    assert ran["stdout"] == "one\ntwo é\n"


async def test_files_that_are_missing_or_too_large_are_errors(client):
    assert "missing" in await refused(client, "read", path="/tmp/missing")
    assert "missing" in await refused(client, "list", path="/tmp/missing")
    await call(client, "run", command=["truncate", "-s", "300000", "/tmp/large"])
    assert "/tmp/large" in await refused(client, "read", path="/tmp/large")


async def test_calls_run_beside_each_other(client):
    begun = time.monotonic()
    ran = await asyncio.gather(*(call(client, "run", command=["sh", "-c", f"sleep 3; echo {n}"]) for n in range(4)))
    assert [each["stdout"] for each in ran] == [f"{n}\n" for n in range(4)]
    assert time.monotonic() - begun < 9


async def test_policy_is_closed_unless_the_operator_opens_it(client):
    assert await call(client, "policy") == {"mode": "blocked", "domains": [], "cidrs": [], "denied": []}


async def test_policy_tells_lists_and_denials():
    flags = ("--allow-domain", "example.com", "--allow-cidr", "192.0.2.0/24")
    async with Client(parameters(*flags)) as client:
        found = await call(client, "policy")
        assert (found["mode"], found["domains"], found["cidrs"]) == ("allowlist", ["example.com"], ["192.0.2.0/24"])
        program = "import socket; socket.create_connection(('8.8.8.8', 443), timeout=5)"
        assert (await call(client, "run", command=["python3", "-c", program]))["exit_code"] != 0
        denied = (await call(client, "policy"))["denied"]
        assert {"address": "8.8.8.8", "port": 443, "reason": "NOT_LISTED"} in denied


async def test_a_sandbox_that_has_ended_is_told_and_replaced():
    async with Client(parameters("--lifetime", "3")) as client:
        await call(client, "write", path="/tmp/file", text="x")
        time.sleep(5)
        assert "timedOut" in await refused(client, "read", path="/tmp/file")
        assert "/tmp/file" in await refused(client, "read", path="/tmp/file")


def processes():
    """Those of this user, which is a user of this test alone."""
    return {
        int(each) for each in os.listdir("/proc") if each.isdecimal() and os.stat(f"/proc/{each}").st_uid == os.getuid()
    }


async def test_nothing_is_left_when_the_client_goes():
    before = processes()
    async with Client(parameters()) as client:
        await call(client, "run", command=["sh", "-c", "sleep 1000 &"])
        assert len(processes() - before) > 1
    end = time.monotonic() + 10
    while processes() - before and time.monotonic() < end:
        await asyncio.sleep(0.1)
    assert not processes() - before
