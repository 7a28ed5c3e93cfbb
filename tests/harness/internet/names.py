"""The name server and the TLS server of the Internet of our own: names.py DIRECTORY

Run by internet.py on the far side. It answers questions sent to any address's port 5300, by UDP and TCP, out of the
zone below, and writes each into DIRECTORY/questions: transport, name as it was asked, type. Port 8443 of any address
speaks TLS with a certificate of its own; it says which server the client named, and what came after the handshake.

Some names are special:

    big.example         more addresses than a datagram takes: truncated by UDP
    lower.example       is answered in lower case whatever case was asked
    wrong.example       first a wrong number, then another name, then the answer
    silent.example      no answer
    failing.example     SERVFAIL
    plain.example       FORMERR to a question with EDNS
"""

import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from anywhere import IP_PKTINFO, Lines, any_address  # noqa: E402

PORT, TLS_PORT = 5300, 8443
A, NS, CNAME, SOA, AAAA, HTTPS = 1, 2, 5, 6, 28, 65
TYPES = {A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", AAAA: "AAAA", HTTPS: "HTTPS", 16: "TXT"}


def wire(name):
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def a(*addresses):
    return [(AAAA if ":" in address else A, 30, packed(address)) for address in addresses]


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def parameter(key, value):
    return struct.pack("!HH", key, len(value)) + value


ZONE = {
    "allowed.example": a("26.0.0.1", "2a00:26::1"),
    "other.example": a("26.0.0.1"),
    "wild.example": a("26.0.0.2"),
    "www.wild.example": a("26.0.0.3"),
    "a.b.wild.example": a("26.0.0.4"),
    "alias.example": [(CNAME, 30, wire("target.elsewhere.example"))],
    "target.elsewhere.example": a("26.0.0.5"),
    "denied.example": a("26.3.0.4"),
    "rebind.example": a("10.1.1.1", "169.254.169.254", "127.0.0.1", "5.5.5.2", "5.5.5.1", "192.0.0.1", "26.0.0.7")
    + a("::ffff:10.0.0.1", "fd00::1", "64:ff9b::a00:1", "::1", "2a00:26::7"),
    "only-rebind.example": a("10.1.1.1"),
    "service.example": [
        (
            HTTPS,
            30,
            b"\x00\x01\x00"
            + parameter(1, b"\x02h2")
            + parameter(4, packed("26.0.0.8") + packed("10.0.0.8"))
            + parameter(5, b"secret"),
        )
    ],
    "big.example": a(*(f"26.1.0.{last}" for last in range(60))),
    "plain.example": a("26.0.0.9"),
    "lower.example": a("26.0.0.10"),
    "wrong.example": a("26.0.0.11"),
}
DEFAULT = a("26.0.0.99")


def zone_of(name):
    name = name.lower()
    label, _, rest = name.partition(".")
    if rest == "many.example":
        return a(f"26.4.0.{int(label[1:])}")
    return ZONE.get(name, [] if name.startswith("missing") else DEFAULT)


def read_name(message, at):
    labels = []
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode("latin-1"))
        at += 1 + message[at]
    return ".".join(labels), at + 1


def records(name, kind):
    """What the answer's section holds, and whether the name exists."""
    found, aliases = [], 0
    while aliases < 8:
        zone = zone_of(name)
        found += [(name, kind_, ttl, data) for kind_, ttl, data in zone if kind_ in (kind, CNAME)]
        if not zone or zone[0][0] != CNAME or kind == CNAME:
            return found, bool(zone)
        name, _ = read_name(zone[0][2], 0)
        aliases += 1
    return found, True


def answer(message, transport, questions):
    """The messages to send back, one after the other."""
    number, flags, count, _, _, additional = struct.unpack("!6H", message[:12])
    name, at = read_name(message, 12)
    kind, _ = struct.unpack("!HH", message[at : at + 4])
    question = message[12 : at + 4]
    questions.add(f"{transport} {name} {TYPES.get(kind, kind)}")
    plain = name.lower()
    if flags & 0x8000 or count != 1 or plain == "silent.example":
        return []
    if plain == "failing.example":
        return [struct.pack("!6H", number, 0x8182, 1, 0, 0, 0) + question]
    if plain == "plain.example" and additional:
        return [struct.pack("!6H", number, 0x8181, 1, 0, 0, 0) + question]
    found, exists = records(name, kind)
    if plain == "lower.example":
        question = question.lower()
    body = question
    for owner, kind_, ttl, data in found:
        owner = b"\xc0\x0c" if owner.lower() == plain else wire(owner)
        body += owner + struct.pack("!HHIH", kind_, 1, ttl, len(data)) + data
    authority = b""
    if not found:
        data = wire("ns.example") + wire("admin.example") + struct.pack("!5I", 1, 2, 3, 4, 30)
        authority = wire("example") + struct.pack("!HHIH", SOA, 1, 30, len(data)) + data
    code = 0x8180 if exists else 0x8183
    whole = struct.pack("!6H", number, code, 1, len(found), bool(authority), 0) + body + authority
    if transport == "udp" and len(whole) > 512:
        return [struct.pack("!6H", number, 0x8380, 1, 0, 0, 0) + question]
    if plain == "wrong.example" and transport == "udp":
        other = struct.pack("!6H", number, 0x8180, 1, 1, 0, 0) + wire("evil.example") + question[-4:]
        address = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 30, 4) + packed("26.66.66.66")
        return [bytes([whole[0] ^ 1]) + whole[1:], other + address, whole]
    return [whole]


def serve_udp(questions):
    bound = any_address(socket.SOCK_DGRAM, socket.AF_INET)
    bound.bind(("", PORT))
    while True:
        message, control, _, peer = bound.recvmsg(4096, 256)
        _, _, destination = struct.unpack("=i4s4s", control[0][2])
        source = (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, destination, bytes(4)))
        try:
            for each in answer(message, "udp", questions):
                bound.sendmsg([each], [source], 0, peer)
        except (OSError, IndexError, struct.error):
            pass


def exactly(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise OSError("the end")
        data += more
    return data


def serve_tcp(questions):
    listener = any_address(socket.SOCK_STREAM, socket.AF_INET)
    listener.bind(("", PORT))
    listener.listen(64)

    def one(connection):
        try:
            while True:
                (length,) = struct.unpack("!H", exactly(connection, 2))
                for each in answer(exactly(connection, length), "tcp", questions):
                    connection.sendall(struct.pack("!H", len(each)) + each)
        except (OSError, IndexError, struct.error):
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def tls():
    """How connections are taken, under a certificate that nobody else has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        key, chain = os.path.join(directory, "key.pem"), os.path.join(directory, "chain.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=example", "-days", "2", "-keyout", key, "-out", chain]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        context.load_cert_chain(chain, key)

    def named(stream, name, _):
        stream.named = name

    context.sni_callback = named
    return context


def serve_tls(family, context):
    listener = any_address(socket.SOCK_STREAM, family)
    listener.bind(("", TLS_PORT))
    listener.listen(64)

    def one(connection):
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                stream.sendall(f"{getattr(stream, 'named', None)} {stream.recv(64).decode()}\n".encode())
        except OSError:
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def main():
    (directory,) = sys.argv[1:]
    questions = Lines(os.path.join(directory, "questions"))
    context = tls()
    for serve, arguments in (
        (serve_udp, (questions,)),
        (serve_tcp, (questions,)),
        (serve_tls, (socket.AF_INET, context)),
        (serve_tls, (socket.AF_INET6, context)),
    ):
        threading.Thread(target=serve, args=arguments, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


main()
