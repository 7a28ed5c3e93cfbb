"""Runs inside a sandbox: each argument is a thing to try, one after the other. A line for each says what came of it,
then "done".

find NAME                       what getaddrinfo gives
ask udp|tcp|edns NAME TYPE      a question of our own: code, flags, extended error, answers
tls NAME ADDRESS PORT           a TLS handshake that names that server ("-": none); what the server says
hello NAME ADDRESS PORT SIZE    the beginning of one, in pieces of SIZE; whether the server says "reached"
plain ADDRESS PORT              the beginning of HTTP; whether the server says "reached"
quiet ADDRESS PORT              nothing, then what comes of it
udp ADDRESS PORT                a datagram; whether the server says "reached"
hold STAYS GOES                 connections by TLS to both, "holding"; after a line on standard input what each says, and
                                what comes of another to the second
half NAME COUNT                 so many connections that begin a handshake and never end it, then "some are cut" once a
                                quarter is, and what one by TLS gives
crowd NAME COUNT                so many names below it, each looked up and reached by TLS at once
"""

import concurrent.futures
import errno
import functools
import select
import socket
import ssl
import struct
import sys

PATIENCE = 30
RESOLVER = "192.0.0.1"
TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "SRV": 33, "AAAA": 28, "HTTPS": 65, "AXFR": 252, "ANY": 255}


def connect(address, port):
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    connection.settimeout(PATIENCE)
    connection.connect((address, int(port)))
    return connection


def find(name):
    found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    return " ".join(sorted({address[0] for *_, address in found}))


def skip_name(message, at):
    while message[at]:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def ask(transport, name, kind):
    labels = [label.encode() for label in name.split(".")]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", TYPES[kind], 1)
    edns = transport == "edns"
    message = struct.pack("!6H", 7, 0x0100, 1, 0, 0, int(edns)) + question
    if edns:
        message += b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0)
    if transport == "tcp":
        with connect(RESOLVER, 53) as stream:
            stream.sendall(struct.pack("!H", len(message)) + message)
            answer = stream.recv(2)
            length = struct.unpack("!H", answer)[0]
            answer = b""
            while len(answer) < length:
                answer += stream.recv(length - len(answer))
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.settimeout(PATIENCE)
            bound.connect((RESOLVER, 53))
            bound.send(message)
            answer = bound.recv(4096)
    number, flags, _, count, authority, additional = struct.unpack("!6H", answer[:12])
    assert number == 7 and answer[12 : 12 + len(question)] == question, answer
    said = [f"code {flags & 15}"] + (["truncated"] if flags & 0x0200 else [])
    at = 12 + len(question)
    found = []
    for place in range(count + authority + additional):
        at = skip_name(answer, at)
        type_, _, _, length = struct.unpack("!HHIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        at += 10 + length
        if type_ == 41 and length >= 6:
            said.append(f"extended {struct.unpack('!H', data[4:6])[0]}")
        elif place < count:
            known = {1: socket.AF_INET, 28: socket.AF_INET6}.get(type_)
            found.append(socket.inet_ntop(known, data) if known else f"{type_}:{data.hex()}")
    return " ".join(said + sorted(found))


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def tls(name, address, port):
    with context().wrap_socket(connect(address, port), server_hostname=None if name == "-" else name) as stream:
        stream.sendall(b"hello")
        return "says " + stream.recv(64).decode().strip()


def hello(name, address, port, size):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    data = outgoing.read()
    with connect(address, port) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(0, len(data), int(size)):
            stream.sendall(data[place : place + int(size)])
        return stream.recv(64).decode().strip()


def plain(address, port):
    with connect(address, port) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n")
        return stream.recv(64).decode().strip()


def quiet(address, port):
    with connect(address, port) as stream:
        return stream.recv(64).decode().strip()


def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.settimeout(PATIENCE)
        bound.connect((address, int(port)))
        bound.send(b"probe")
        return bound.recv(64).decode().strip()


def hold(stays, goes):
    addresses = {name: find(name).split()[0] for name in (stays, goes)}
    # An end that TLS didn't announce is an error here: what gVisor makes of a reset may be one.
    wrap = functools.partial(context().wrap_socket, suppress_ragged_eofs=False)
    streams = [wrap(connect(addresses[name], 8443), server_hostname=name) for name in (stays, goes)]
    print("holding", flush=True)
    sys.stdin.readline()
    came = []
    for stream in streams:
        try:
            stream.sendall(b"hello")
            came.append("says " + stream.recv(64).decode().strip())
        except OSError:
            came.append("cut")
    try:
        connect(addresses[goes], 8443).close()
    except ConnectionRefusedError:
        came.append("then ECONNREFUSED")
    return ", ".join(came)


def half(name, count):
    address = find(name).split()[0]
    # A record of 16,000 bytes, of which the last thousand never come.
    beginning = struct.pack("!BHH", 22, 0x0301, 16_000) + bytes([1, 0, 0x3E, 0x7C]) + bytes(15_000)
    opened, poll = [], select.poll()
    for _ in range(int(count)):
        opened.append(connect(address, 8443))
        try:
            opened[-1].sendall(beginning)
        except ConnectionError:
            pass
        poll.register(opened[-1], select.POLLRDHUP)
    while len(poll.poll()) < len(opened) // 4:
        pass
    return "some are cut, " + tls(name, address, 8443)


def crowd(name, count):
    def one(index):
        label = f"n{index}.{name}"
        found = find(label).split()
        return tls(label, found[0], 8443) == f"says {label} hello" if found else None

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        came = list(pool.map(one, range(int(count))))
    return f"{len(came) - came.count(None)} found, {came.count(True)} reached"


def main():
    for text in sys.argv[1:]:
        what, *words = text.split()
        try:
            came = globals()[what](*words)
        except socket.gaierror as error:
            names = {value: name for name, value in vars(socket).items() if name.startswith("EAI_")}
            came = names.get(error.errno, str(error))
        except TimeoutError:
            came = "silence"
        except ssl.SSLError as error:
            came = f"TLS {error.reason}"
        except OSError as error:
            came = errno.errorcode.get(error.errno, str(error))
        print(text, "->", came, flush=True)
    print("done", flush=True)


main()
