"""Runs inside a sandbox: an argument is `WHAT ADDRESS PORT [NUMBER]`, all are tried at once. A line for each says what
came of it, in their order, then "done".

reach   whether the server there says "reached"
up      sends NUMBER MiB and ends; whole if the server's count and CRC are right
down    has the server send NUMBER MiB; whole if they are all there, in order
both    sends NUMBER MiB to an echo while it comes back; whole if the same came
first   ends its half after NUMBER MiB and reads what the echo has left
last    reads to the server's end and sends NUMBER MiB after it; their count and CRC
reset   sends a byte; whether the connection is reset
cut     connects, sends a byte and resets the connection
hold    connects and says so, then whether the connection is cut
"""

import concurrent.futures
import errno
import os
import socket
import struct
import sys
import threading
import zlib

MIB = 1 << 20
PATIENCE = 60
# To get somewhere at all: the first packet is sent again after 1, 3, 7 and 15 seconds.
REACH_PATIENCE = 20


def connect(address, port, patience):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(patience)
    connection.connect((address, int(port)))
    return connection


def send(connection, mebibytes):
    length = crc = 0
    for number in range(mebibytes):
        data = struct.pack(">Q", number) + os.urandom(MIB - 8)
        length += len(data)
        crc = zlib.crc32(data, crc)
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    return f"{length} {crc}"


def receive(connection):
    length = crc = 0
    while data := connection.recv(MIB):
        length += len(data)
        crc = zlib.crc32(data, crc)
    return f"{length} {crc}"


def reach(connection, _):
    connection.sendall(b"probe\n")
    return "reached" if connection.recv(64) == b"reached\n" else "nothing"


def up(connection, mebibytes):
    sent = send(connection, mebibytes)
    said = b""
    while data := connection.recv(256):
        said += data
    return "whole" if said.decode().strip() == sent else "broken"


def down(connection, mebibytes):
    connection.sendall(b"%d\n" % mebibytes)
    stream = connection.makefile("rb", MIB)
    for number in range(mebibytes):
        block = stream.read(MIB)
        if len(block) != MIB or block[:8] != struct.pack(">Q", number):
            return "broken"
    return "broken" if stream.read(1) else "whole"


def both(connection, mebibytes):
    sent = []
    sender = threading.Thread(target=lambda: sent.append(send(connection, mebibytes)))
    sender.start()
    received = receive(connection)
    sender.join()
    return "whole" if sent == [received] else "broken"


def first(connection, mebibytes):
    return both(connection, mebibytes)


def last(connection, mebibytes):
    if connection.recv(1):
        return "not the end"
    return send(connection, mebibytes)


def reset(connection, _):
    connection.sendall(b"x")
    return "nothing" if connection.recv(64) == b"" else "data"


def cut(connection, _):
    connection.sendall(b"x")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return "cut"


def hold(connection, _):
    connection.settimeout(None)
    print("holding", flush=True)
    return "end" if connection.recv(64) == b"" else "data"


def attempt(words):
    what, address, port, *number = words.split()
    try:
        patience = REACH_PATIENCE if what == "reach" else PATIENCE
        return globals()[what](connect(address, port, patience), int(number[0]) if number else 0)
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


with concurrent.futures.ThreadPoolExecutor(64) as pool:
    for words, came in zip(sys.argv[1:], pool.map(attempt, sys.argv[1:])):
        print(words, came, flush=True)
print("done", flush=True)
