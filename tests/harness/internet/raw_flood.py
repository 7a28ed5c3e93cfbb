"""A sentry that is somebody else's by now, at its worst: raw_flood.py ALLOWED DENIED...

Run in the sandbox's network namespace S. Writes frames as fast as it can until its standard input ends: connections
that it begins and never completes and datagrams, all from ever other ports, to ALLOWED, which the policy lets through,
and to the DENIED. Prints how many frames went out.
"""

import itertools
import os
import random
import select
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from frames import GATEWAY_MAC, SANDBOX_MAC, packet4  # noqa: E402

OWN, FORGED = "192.0.0.2", ("192.0.0.3", "5.5.5.2", "8.8.4.4")
TCP, UDP = 6, 17


def packets(allowed, denied):
    ports = random.sample(range(1024, 65536), 4096)
    for port in ports:
        yield packet4(OWN, allowed, TCP, 7, own_port=port)
        yield packet4(OWN, allowed, UDP, 9, own_port=port)
        yield packet4(random.choice(FORGED), allowed, random.choice((TCP, UDP)), 9, own_port=port)
        for protocol in (TCP, UDP):
            yield packet4(OWN, random.choice(denied), protocol, random.randrange(1, 65536), own_port=port)


def main():
    allowed, *denied = sys.argv[1:]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("eth0", 0))
    frames = [GATEWAY_MAC + SANDBOX_MAC + packet for packet in packets(allowed, denied)]
    print("ready", flush=True)
    for sent in itertools.count():
        if sent % 64 == 0 and select.select([sys.stdin], [], [], 0)[0]:
            break
        wire.send(frames[sent % len(frames)])
    print(sent)


main()
