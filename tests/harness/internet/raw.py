"""The network half of a compromised sentry: frames written to S's interface, past every rule there.

    raw.py ADDRESS...

Run in the sandbox's network namespace S. gVisor itself holds just such a socket, so whatever leaves the machine
from here, a sandbox that broke gVisor could send. Prints how many frames went out.
"""

import itertools
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from frames import BROADCAST, GATEWAY_MAC, SANDBOX_MAC, packet4, packet6  # noqa: E402

# The sandbox's own address, the gateway's, the host's, a stranger's.
SOURCES = ("192.0.0.2", "192.0.0.1", "5.5.5.2", "8.8.4.4")
SOURCES6 = ("fd73:6278:6e65::2", "fd73:6278:6e65::1", "2a05:5:5::2", "2620:fe::fe")
# TCP, UDP, ICMP and its twin, IGMP, IP in IP, IPv6 in IP, GRE, ESP, SCTP, DCCP, UDP-Lite, and an unassigned one.
PROTOCOLS = (6, 17, 1, 58, 2, 4, 41, 47, 50, 132, 33, 136, 253)


def frames(addresses):
    for address in addresses:
        make, sources = (packet6, SOURCES6) if ":" in address else (packet4, SOURCES)
        for source, protocol in itertools.product(sources, PROTOCOLS):
            for port in (53, 443, 4242) if protocol in (6, 17) else (0,):
                yield GATEWAY_MAC, make(source, address, protocol, port)
        # A connection's middle, an answer out of nothing, a reset: what a rule for "established" would let by.
        for flags in (0x10, 0x12, 0x18, 0x04):
            yield GATEWAY_MAC, make(sources[0], address, 6, 443, flags)
        yield BROADCAST, make(sources[0], address, 17, 9)
    # An ARP request and answer that claim addresses, and an ethertype that nobody knows.
    for operation, claimed in itertools.product((1, 2), ("192.0.0.1", "192.0.0.2", "5.5.5.1")):
        yield BROADCAST, b"\x08\x06" + struct.pack(
            "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, SANDBOX_MAC, socket.inet_aton(claimed), bytes(6),
            socket.inet_aton(claimed),
        )
    yield BROADCAST, b"\x88\xb5" + b"raw-leak" * 6


def main():
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("eth0", 0))
    sent = 0
    for destination, packet in frames(sys.argv[1:]):
        wire.send(destination + SANDBOX_MAC + packet)
        sent += 1
    print(sent)


main()
