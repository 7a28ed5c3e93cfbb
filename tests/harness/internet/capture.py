"""Writes down each packet that passes an interface: capture.py LINK DIRECTORY

DIRECTORY gets packets, a line for each: protocol, source, destination, length, text; "ready" is said once it looks.
"""

import os
import signal
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from anywhere import Lines  # noqa: E402

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4

# Ethernet and IPv6 headers of the kernel's own multicast listener report: from :: to ff02::16, hop by hop.
REPORT = bytes(16) + socket.inet_pton(socket.AF_INET6, "ff02::16")


def describe(frame):
    """One frame as words. Nothing in it is trusted to be whole."""
    kind = int.from_bytes(frame[12:14], "big")
    packet = frame[14:]
    if kind == 0x0800 and len(packet) >= 20:
        family, transport = socket.AF_INET, packet[9]
        source, destination = packet[12:16], packet[16:20]
        body = packet[(packet[0] & 15) * 4 :]
    elif kind == 0x86DD and len(packet) >= 40:
        family, transport = socket.AF_INET6, packet[6]
        source, destination = packet[8:24], packet[24:40]
        body = packet[40:]
    else:
        return f"ethertype {kind:#06x} from {frame[6:12].hex()} to {frame[:6].hex()} length {len(frame)}"
    name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}.get(transport, f"protocol-{transport}")
    ports = struct.unpack("!HH", body[:4]) if transport in (6, 17) and len(body) >= 4 else ("-", "-")
    text = "".join(chr(byte) if 33 <= byte < 127 else "." for byte in body[8:48]) if transport == 17 else ""
    return (
        f"{name} {socket.inet_ntop(family, source)} {ports[0]} "
        f"{socket.inet_ntop(family, destination)} {ports[1]} length {len(frame)} {text}"
    ).rstrip()


def capture(link, packets, outgoing):
    """Only what comes in over the interface, or what goes out, too."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing is to be missed
    wire.bind((link, ETH_P_ALL))

    def run():
        while True:
            frame, where = wire.recvfrom(65536)
            report = frame[12:14] == b"\x86\xdd" and frame[20] == 0 and frame[22:54] == REPORT
            if (outgoing or where[2] != PACKET_OUTGOING) and not report:
                packets.add(describe(frame))

    threading.Thread(target=run, daemon=True).start()


def main():
    link, directory = sys.argv[1:]
    capture(link, Lines(os.path.join(directory, "packets")), True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
