"""Runs inside a sandbox and does what it is told: a line of JSON each on standard input, answered by one each.

Connections are kept by name, so that a test can see what becomes of one.
"""

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

held = {}
PATIENCE = 10


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def word(error):
    if isinstance(error, TimeoutError):
        return "silence"
    return errno.errorcode.get(error.errno, str(error))


def connect(name, address, port):
    held[name] = socket.socket(family_of(address), socket.SOCK_STREAM)
    held[name].settimeout(PATIENCE)
    held[name].connect((address, port))
    return "connected"


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(min(count - len(data), 1 << 20))
        if not more:
            raise EOFError
        data += more
    return data


def echo(name, count):
    """Sends so many bytes and reads them back."""
    data = os.urandom(min(count, 1 << 16)) * max(1, count >> 16)
    connection = held[name]
    sender = threading.Thread(target=lambda: connection.sendall(data), daemon=True)
    sender.start()
    same = exactly(connection, len(data)) == data
    sender.join()
    return "same" if same else "different"


def fate(name, patience):
    """What comes next on a connection: silence, data, the end, or an error."""
    held[name].settimeout(patience)
    return "data" if held[name].recv(1) else "end"


def close(name):
    held.pop(name).close()
    return "closed"


def serve(port):
    """An echo for whoever comes."""
    listener = socket.create_server(("0.0.0.0", port), backlog=128)

    def one(connection):
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def run():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return "serving"


def udp(address, port, sizes):
    """Datagrams of these sizes to an echo, one after the other: how many came back whole, from there."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as bound:
        bound.settimeout(PATIENCE)
        whole = 0
        for size in sizes:
            data = os.urandom(size)
            bound.sendto(data, (address, port))
            back, peer = bound.recvfrom(1 << 16)
            whole += back == data and peer[:2] == (address, port)
        return whole


def udp_many(address, port, flows, rounds):
    """That many sockets at once, each with its own datagrams: how many of all answers were its own."""
    sockets = []
    for _ in range(flows):
        bound = socket.socket(family_of(address), socket.SOCK_DGRAM)
        bound.settimeout(PATIENCE)
        bound.connect((address, port))
        sockets.append(bound)
    own = 0
    for turn in range(rounds):
        for index, bound in enumerate(sockets):
            bound.send(struct.pack("!II", turn, index))
        for index, bound in enumerate(sockets):
            own += bound.recv(64) == struct.pack("!II", turn, index)
    for bound in sockets:
        bound.close()
    return own


def udp_send(address, port, count):
    """Datagrams that nobody waits for an answer to."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as bound:
        sent = 0
        for _ in range(count):
            try:
                bound.sendto(b"x", (address, port))
                sent += 1
            except OSError:
                pass
        return sent


def udp_ports(address, first, count):
    """One datagram to each of so many ports, one right after the other."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sender:
        for port in range(first, first + count):
            sender.sendto(b"x", (address, port))
    return count


def scan(address, first, count):
    """Connects to so many ports, one after the other: the results with their numbers."""
    results = {}
    for port in range(first, first + count):
        with socket.socket(family_of(address), socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect((address, port))
                came = "connected"
            except OSError as error:
                came = word(error)
        results[came] = results.get(came, 0) + 1
    return results


def churn(address, port, seconds):
    """Connects and closes, again and again: how often."""
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        connection = socket.socket(family_of(address))
        try:
            connection.connect((address, port))
        except OSError:
            pass
        connection.close()
        count += 1
    return count


def fill(name, address, port, count):
    """Opens so many connections, writes to all as long as they take it, and reads nothing: the bytes taken."""
    mine, taken = [], 0
    for index in range(count):
        connection = held[f"{name}{index}"] = socket.create_connection((address, port), PATIENCE)
        connection.setblocking(False)
        mine.append(connection)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + 2:
        for connection in mine:
            try:
                taken += connection.send(bytes(1 << 20))
                idle_since = time.monotonic()
            except BlockingIOError:
                pass
            except ConnectionError:
                mine = [other for other in mine if other is not connection]
        time.sleep(0.01)
    return taken


def drain(name, count):
    """Reads what waits on so many connections: how many live and have something."""
    live = 0
    for index in range(count):
        connection = held[f"{name}{index}"]
        connection.setblocking(True)
        connection.settimeout(PATIENCE)
        live += len(connection.recv(1 << 16)) > 0
    return live


def hold_many(name, address, port, count):
    """Opens so many connections and keeps those that live: how many answer an echo."""
    live = 0
    for index in range(count):
        connection = socket.socket(family_of(address), socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            connection.connect((address, port))
            connection.sendall(b"?")
            if connection.recv(1) == b"?":
                held[f"{name}{index}"] = connection
                live += 1
        except OSError:
            connection.close()
    return live


class Hammer:
    """Works in the background until it is stopped."""

    def __init__(self, work):
        self.stopped, self.count, self.failures = False, 0, []
        self.thread = threading.Thread(target=self.run, args=(work,), daemon=True)
        self.thread.start()

    def run(self, work):
        while not self.stopped:
            try:
                work()
                self.count += 1
            except (OSError, EOFError) as error:
                self.failures.append(word(error) if isinstance(error, OSError) else "end")
                # What is refused is refused at once: leave the others their turn.
                time.sleep(0.005)

    def stop(self):
        self.stopped = True
        self.thread.join()
        return [self.count, len(self.failures), sorted(set(self.failures))]


def hammer_echo(name, connection):
    """Echoes on a connection that is held, again and again."""
    def work():
        held[connection].sendall(b"0123456789abcdef" * 64)
        exactly(held[connection], 1024)

    held[name] = Hammer(work)
    return "going"


def hammer_connect(name, address, port):
    """New connections, again and again, each with an echo."""
    def work():
        with socket.socket(family_of(address), socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect((address, port))
            connection.sendall(b"?")
            exactly(connection, 1)

    held[name] = Hammer(work)
    return "going"


def hammer_udp(name, address, port):
    """Datagrams from ever new ports, without a look at the answers."""
    def work():
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as bound:
            bound.sendto(b"hammer", (address, port))

    held[name] = Hammer(work)
    return "going"


def progress(name):
    return held[name].count


def stop(name):
    return held.pop(name).stop()


def run(*words):
    """A program to its end: its code, and what it said."""
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return [ended.returncode, ended.stdout]


def pause(seconds):
    time.sleep(seconds)
    return "paused"


known = {work.__name__: work for work in (
    connect, echo, fate, close, serve, udp, udp_many, udp_send, udp_ports, scan, hold_many, hammer_echo, hammer_connect,
    hammer_udp, progress, stop, run, pause, churn, fill, drain,
)}
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    what, *arguments = json.loads(line)
    try:
        answer = known[what](*arguments)
    except EOFError:
        answer = "end"
    except OSError as error:
        answer = word(error)
    print(json.dumps(answer), flush=True)
