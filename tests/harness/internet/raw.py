"""The network half of a compromised sentry: frames written to S's interface, past every rule there.

    raw.py ADDRESS...

Run in the sandbox's network namespace S. gVisor itself holds just such a socket, so whatever leaves the machine
from here, a sandbox that broke gVisor could send. Prints how many frames went out.
"""

import itertools
import socket
import struct
import sys

GATEWAY_MAC = bytes.fromhex("020000000001")
SANDBOX_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6

# The sandbox's own address, the gateway's, the host's, a stranger's.
SOURCES = ("192.0.0.2", "192.0.0.1", "5.5.5.2", "8.8.4.4")
SOURCES6 = ("fd73:6278:6e65:7400::2", "fd73:6278:6e65:7400::1", "2a05:5:5::2", "2620:fe::fe")
# TCP, UDP, ICMP and its twin, IGMP, IP in IP, IPv6 in IP, GRE, ESP, SCTP, DCCP, UDP-Lite, and an unassigned one.
PROTOCOLS = (6, 17, 1, 58, 2, 4, 41, 47, 50, 132, 33, 136, 253)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def body(protocol, pseudo, port, flags=0x02):
    if protocol == 6:
        segment = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 5 << 4, flags, 64240, 0, 0)
        sum_ = checksum(pseudo + segment_pseudo(segment, 6) + segment)
        return segment[:16] + struct.pack("!H", sum_) + segment[18:]
    if protocol in (17, 136):
        data = b"raw-leak"
        length = 8 + len(data)
        datagram = struct.pack("!HHHH", 40000, port, length, 0) + data
        sum_ = checksum(pseudo + segment_pseudo(datagram, protocol) + datagram) or 0xFFFF
        return datagram[:6] + struct.pack("!H", sum_) + data
    if protocol == 1:
        echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"raw-leak"
        return echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    if protocol == 58:
        echo = struct.pack("!BBHHH", 128, 0, 0, 1, 1) + b"raw-leak"
        return echo[:2] + struct.pack("!H", checksum(pseudo + segment_pseudo(echo, 58) + echo)) + echo[4:]
    return b"raw-leak" * 3


def segment_pseudo(segment, protocol):
    """The end of the pseudo header. With 32 bits for the length it sums up the same for both families."""
    return struct.pack("!IHBB", len(segment), 0, 0, protocol)


def packet4(source, destination, protocol, port, flags=0x02):
    source, destination = socket.inet_aton(source), socket.inet_aton(destination)
    inner = body(protocol, source + destination, port, flags)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(inner), 7, 0x4000, 64, protocol, 0, source, destination)
    return b"\x08\x00" + header[:10] + struct.pack("!H", checksum(header)) + header[12:] + inner


def packet6(source, destination, protocol, port, flags=0x02):
    source = socket.inet_pton(socket.AF_INET6, source)
    destination = socket.inet_pton(socket.AF_INET6, destination)
    inner = body(protocol, source + destination, port, flags)
    return b"\x86\xdd" + struct.pack("!IHBB16s16s", 6 << 28, len(inner), protocol, 64, source, destination) + inner


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
