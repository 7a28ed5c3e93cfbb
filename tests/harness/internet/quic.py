"""QUIC through the UDP relay, with a real client in the sandbox and a real server out there: quic.py INTERNET QUIC

INTERNET is the directory of an internet.py that is ready and has started the server; QUIC is quic/main.go, compiled.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from library import DENIED, NOT_LISTED, Sandbox, lib, policy  # noqa: E402
from wire import Wire, same  # noqa: E402

ONE, OTHER, SIX = "93.184.216.34", "8.8.8.8", "2606:4700:4700::1111"
PORT, MEBIBYTES = 4433, 4
BYTES = MEBIBYTES << 20


def transfer(sandbox, address):
    """So many MiB there and as many back: the program's code, and what it said."""
    host = f"[{address}]" if ":" in address else address
    return sandbox.ask("run", "/quic", "transfer", f"{host}:{PORT}", str(MEBIBYTES))


def a_transfer_goes_there_and_back(sandbox, wire, address):
    wire.seen()
    before = sandbox.stats()
    same(transfer(sandbox, address), [0, f"{BYTES}\n"])
    after = sandbox.stats()
    # A connection is one flow, however many datagrams it takes, and those are what the capture saw.
    same(after.egress_flows_total - before.egress_flows_total, 1)
    assert after.egress_bytes_out - before.egress_bytes_out > BYTES
    assert after.egress_bytes_in - before.egress_bytes_in > BYTES
    assert sum(f" {address} {PORT} " in line and line.startswith("udp ") for line in wire.seen()) > BYTES / 1500


def nothing_goes(sandbox, wire, address):
    wire.seen()
    code, said = transfer(sandbox, address)
    assert code == 1 and "timeout" in said, (code, said)
    event = sandbox.wait_for(DENIED)
    # A connection from before the change may have a last word to say, or an ICMP message about one: denied, too.
    while (event["address"], event["port"], event["protocol"]) != (address.encode(), PORT, 17):
        event = sandbox.wait_for(DENIED)
    same(event["reason"], NOT_LISTED)
    same(wire.seen(), [])


def main():
    internet, program = sys.argv[1:]
    wire = Wire(internet)

    def prepare(config):
        same(lib.sbx_config_add_mount(config, os.fsencode(program), b"/quic", 0), 0)

    with Sandbox(policy("open"), prepare) as sandbox:
        for address in (ONE, OTHER, SIX):
            a_transfer_goes_there_and_back(sandbox, wire, address)
        # What worked before is denied after.
        same(sandbox.set_policy(policy("allowlist", [f"{OTHER}/32"])), 1)
        nothing_goes(sandbox, wire, ONE)
        a_transfer_goes_there_and_back(sandbox, wire, OTHER)
    with Sandbox(policy("allowlist", ["93.184.216.0/24", f"{SIX}/128"]), prepare) as sandbox:
        a_transfer_goes_there_and_back(sandbox, wire, ONE)
        a_transfer_goes_there_and_back(sandbox, wire, SIX)
        nothing_goes(sandbox, wire, OTHER)


main()
