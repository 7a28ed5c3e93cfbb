"""Frames as anybody may write them: whole and with the right sums, whoever they claim to be from."""

import socket
import struct

GATEWAY_MAC = bytes.fromhex("020000000001")
SANDBOX_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def body(protocol, pseudo, port, flags=0x02, own_port=40000):
    if protocol == 6:
        segment = struct.pack("!HHIIBBHHH", own_port, port, 1, 1, 5 << 4, flags, 64240, 0, 0)
        sum_ = checksum(pseudo + segment_pseudo(segment, 6) + segment)
        return segment[:16] + struct.pack("!H", sum_) + segment[18:]
    if protocol in (17, 136):
        data = b"raw-leak"
        length = 8 + len(data)
        datagram = struct.pack("!HHHH", own_port, port, length, 0) + data
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


def packet4(source, destination, protocol, port, flags=0x02, own_port=40000):
    source, destination = socket.inet_aton(source), socket.inet_aton(destination)
    inner = body(protocol, source + destination, port, flags, own_port)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(inner), 7, 0x4000, 64, protocol, 0, source, destination)
    return b"\x08\x00" + header[:10] + struct.pack("!H", checksum(header)) + header[12:] + inner


def packet6(source, destination, protocol, port, flags=0x02):
    source = socket.inet_pton(socket.AF_INET6, source)
    destination = socket.inet_pton(socket.AF_INET6, destination)
    inner = body(protocol, source + destination, port, flags)
    return b"\x86\xdd" + struct.pack("!IHBB16s16s", 6 << 28, len(inner), protocol, 64, source, destination) + inner
