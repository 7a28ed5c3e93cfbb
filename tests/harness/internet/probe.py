"""Runs inside a sandbox and tries to reach addresses in every way it has.

    probe.py ADDRESS...

A line for each attempt: protocol, address, port, what came of it. "reached" is written for an answer from a server
there and for nothing else. The last line is "done" and their number; then it waits to be ended.

The first attempts are at a server of its own, which must be reached: that shows that the rest means something.
"""

import concurrent.futures
import errno
import signal
import socket
import struct
import sys
import threading

TCP_PORTS = (53, 80, 443, 853, 4242)
UDP_PORTS = (9, 53, 123, 443, 4242)
PATIENCE = 1.5


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def outcome(attempt, *arguments):
    try:
        return "reached" if attempt(*arguments) else "silence"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def tcp(address, port):
    with socket.socket(family_of(address), socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect((address, port))
        # The gateway may take the connection before it knows that there is nobody.
        connection.sendall(b"probe\n")
        return connection.recv(64) == b"reached\n"


def udp(address, port):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as bound:
        bound.settimeout(PATIENCE)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        bound.connect((address, port))
        bound.send(b"probe " + address.encode())
        return bound.recv(64) == b"reached\n"


def ping(address, _port):
    """An echo request by a ping socket, which needs no privilege in gVisor."""
    family = family_of(address)
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    kind = 128 if family == socket.AF_INET6 else 8
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as bound:
        bound.settimeout(PATIENCE)
        bound.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + b"probe", (address, 0))
        return b"probe" in bound.recv(256)


def raw(address, _port):
    """A protocol that nobody asked for, and an attempt at a raw socket."""
    with socket.socket(family_of(address), socket.SOCK_RAW, 253) as bound:
        bound.settimeout(PATIENCE)
        bound.sendto(b"probe", (address, 0))
        return bool(bound.recv(256))


def serve_oneself():
    listener = socket.create_server(("0.0.0.0", 8421))

    def run():
        while True:
            connection, _ = listener.accept()
            connection.sendall(b"reached\n")
            connection.close()

    threading.Thread(target=run, daemon=True).start()


def main():
    serve_oneself()
    own = [("own", tcp, "127.0.0.1", 8421), ("own", tcp, "192.0.0.2", 8421)]
    attempts = []
    for address in sys.argv[1:]:
        attempts += [("tcp", tcp, address, port) for port in TCP_PORTS]
        attempts += [("udp", udp, address, port) for port in UDP_PORTS]
        attempts += [("icmp", ping, address, 0), ("raw", raw, address, 0)]
    for name, attempt, address, port in own:
        print(name, address, port, outcome(attempt, address, port), flush=True)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for (name, _, address, port), came in zip(
            attempts, pool.map(lambda item: outcome(item[1], item[2], item[3]), attempts)
        ):
            print(name, address, port, came, flush=True)
    print("done", len(attempts), flush=True)
    signal.pause()


main()
