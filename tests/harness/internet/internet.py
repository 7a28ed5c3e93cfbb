"""An Internet of our own: a network namespace that answers on every address, and writes down what reached it.

    internet.py DIRECTORY [QUIC]

Run as root in the network namespace that plays the host, and in no other: it gets the interface up0 with default
routes. Behind it lies "internet", where every address there is has servers, so that whatever a sandbox can send
does arrive and is answered. DIRECTORY gets

    ready       when all is laid
    packets     a line for each packet that came over the wire: protocol, source, destination, length, text
    answered    a line for each connection or datagram that a server out there got, and for each connection that
                was reset by the other end
    contacts    a line for each one that a socket of the host itself got (port 4242)
    questions   a line for each question that the name server (port 5300 of every address, names.py) got

What the servers out there do goes by their port, on every address:

    53, 80, 443, 853    say "reached" and close
    7                   send back what comes, and end their half when the client ends the other (UDP too)
    9                   read to the end, then say how many bytes it were, and their CRC
    11                  read a byte and reset the connection
    13                  end their half at once and read to the end; how many bytes it were, and their CRC, is written down
    19                  read a line with a number, send so many MiB, end, and read to the end
    4433                QUIC, if QUIC is named: quic/main.go, compiled

9.9.9.9 and 2620:fe::9 refuse all other ports; packets to 9.9.9.10 and 9.9.9.12 vanish; 9.9.9.11 is said
to be unreachable.

A line on standard input changes something on the host; the same line in DIRECTORY/done says when that is done.

    add ADDRESS, remove ADDRESS     the host has another address, or no longer
    besiege PORT                    20,000 connections to that port of 127.0.0.1 are begun and never completed
    relieve PORT                    who began them is there again, and says that they are nobody's

Addresses and neighbours are fixed, nothing is announced or asked: in silence `packets` stays empty, but for the
multicast listener reports (from :: to ff02::16) with which the host's kernel greets its new interface, and which
aren't written down. It ends when its standard input does, or by SIGTERM; the namespace goes with it.
"""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from anywhere import Lines, any_address  # noqa: E402
from capture import capture  # noqa: E402
from half_open import besiege, relieve  # noqa: E402

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

# They look like any address of the Internet: only a look at the host's routes tells that 5.5.5.2 is its own.
HOST, FAR = "5.5.5.2", "5.5.5.1"
HOST6, FAR6 = "2a05:5:5::2", "2a05:5:5::1"
# Another machine on the same link.
BESIDE, BESIDE6 = "5.5.5.9", "2a05:5:5::9"
HOST_MAC, FAR_MAC = "02:00:00:00:55:02", "02:00:00:00:55:01"

REFUSING, REFUSING6 = "9.9.9.9", "2620:fe::9"
VANISHING, UNREACHABLE = ("9.9.9.10", "9.9.9.12"), "9.9.9.11"

TCP_PORTS = (53, 80, 443, 853)
UDP_PORTS = (9, 53, 123, 443)
HOST_PORT = 4242
ECHO_PORT = 7
QUIC_PORT = 4433

libc = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    subprocess.run(("ip", *words), check=True, stdin=subprocess.DEVNULL)


def say_reached(connection):
    connection.sendall(b"reached\n")


def echo(connection):
    while data := connection.recv(1 << 18):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def sink(connection):
    length = crc = 0
    while data := connection.recv(1 << 18):
        length += len(data)
        crc = zlib.crc32(data, crc)
    connection.sendall(b"%d %d\n" % (length, crc))


def reset(connection):
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def listen_on(connection):
    connection.shutdown(socket.SHUT_WR)
    length = crc = 0
    while data := connection.recv(1 << 18):
        length += len(data)
        crc = zlib.crc32(data, crc)
    return f"{length} {crc}"


def source(connection):
    line = b""
    while not line.endswith(b"\n") and len(line) < 32 and (byte := connection.recv(1)):
        line += byte
    rest = os.urandom((1 << 20) - 8)
    for number in range(int(line)):
        connection.sendall(struct.pack(">Q", number) + rest)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1 << 16):
        pass


BEHAVIOUR = {7: echo, 9: sink, 11: reset, 13: listen_on, 19: source}


def serve_tcp(family, port, contacts):
    listener = any_address(socket.SOCK_STREAM, family)
    listener.bind(("", port))
    listener.listen(128)
    behave = BEHAVIOUR.get(port, say_reached)

    def one(connection):
        local = connection.getsockname()[0]
        try:
            told = behave(connection)
            if told is not None:
                contacts.add(f"told {local} {port} {told}")
        except ConnectionResetError:
            contacts.add(f"reset {local} {port}")
        except (OSError, ValueError):
            pass
        connection.close()

    def run():
        while True:
            connection, peer = listener.accept()
            contacts.add(f"tcp {peer[0]} {connection.getsockname()[0]} {port}")
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()


def serve_udp(family, port, contacts):
    bound = any_address(socket.SOCK_DGRAM, family)
    bound.bind(("", port))

    def run():
        while True:
            data, control, _, peer = bound.recvmsg(2048, 256)
            contacts.add(f"udp {peer[0]} {' '.join(map(sent_to, control))} {port}")
            try:
                bound.sendmsg([b"reached\n"], [source_of_answer(item) for item in control], 0, peer)
            except OSError:
                pass

    threading.Thread(target=run, daemon=True).start()


def echo_udp(family):
    bound = any_address(socket.SOCK_DGRAM, family)
    bound.bind(("", ECHO_PORT))

    def run():
        while True:
            data, control, _, peer = bound.recvmsg(1 << 16, 256)
            try:
                bound.sendmsg([data], [source_of_answer(item) for item in control], 0, peer)
            except OSError:
                pass

    threading.Thread(target=run, daemon=True).start()


def sent_to(item):
    level, _, value = item
    if level == socket.IPPROTO_IP:
        return socket.inet_ntoa(struct.unpack("=i4s4s", value)[2])
    return socket.inet_ntop(socket.AF_INET6, struct.unpack("=16si", value)[0])


def source_of_answer(item):
    """Turns where a datagram was sent to into where its answer comes from."""
    level, kind, value = item
    if level == socket.IPPROTO_IP:
        _, _, destination = struct.unpack("=i4s4s", value)
        return level, kind, struct.pack("=i4s4s", 0, destination, bytes(4))
    destination, _ = struct.unpack("=16si", value)
    return level, kind, struct.pack("=16si", destination, 0)


def serve(tcp_ports, udp_ports, contacts):
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in tcp_ports:
            serve_tcp(family, port, contacts)
        for port in udp_ports:
            serve_udp(family, port, contacts)


def quiet(link, mac):
    """No address by itself, nothing announced."""
    ip("link", "set", link, "address", mac, "addrgenmode", "none", "multicast", "off")


def internet(directory, quic, laid, go):
    """The child: the far side."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare of a network namespace")
    laid.write(b"x")
    if not go.read(1):
        return
    quiet("in0", FAR_MAC)
    ip("link", "set", "lo", "up")
    ip("link", "set", "in0", "up")
    for family, far, host, length in (("-4", FAR, HOST, "/24"), ("-6", FAR6, HOST6, "/64")):
        ip(family, "address", "add", far + length, "dev", "in0", *(["nodad"] if family == "-6" else []))
        ip(family, "neighbour", "add", host, "lladdr", HOST_MAC, "nud", "permanent", "dev", "in0")
        ip(family, "route", "add", "default", "via", host, "dev", "in0")
        # Whatever comes over the wire is for us.
        ip(family, "rule", "add", "iif", "in0", "lookup", "100")
        ip(family, "route", "add", "local", "default", "dev", "lo", "table", "100")
    for refusing in (REFUSING + "/32", REFUSING6 + "/128"):
        ip("address", "add", refusing, "dev", "lo")
    for vanishing in VANISHING:
        ip("route", "add", "blackhole", vanishing, "table", "100")
    ip("route", "add", "unreachable", UNREACHABLE, "table", "100")
    capture("in0", Lines(os.path.join(directory, "packets")), False)
    serve((*TCP_PORTS, *BEHAVIOUR), UDP_PORTS, Lines(os.path.join(directory, "answered")))
    for family in (socket.AF_INET, socket.AF_INET6):
        echo_udp(family)
    names = os.path.join(os.path.dirname(os.path.abspath(__file__)), "names.py")
    start((sys.executable, "-I", names, directory))
    if quic:
        start((*quic, "serve", str(QUIC_PORT)))
    laid.write(b"x")
    signal.pause()


def start(command):
    """Another server of the far side, which ends with it; returns when it says that it is ready."""
    served = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    )
    if not served.stdout.readline():
        raise SystemExit(f"internet.py: {command} doesn't serve")


def add(address):
    probing = ["nodad"] if ":" in address else []
    ip("address", "add", prefix(address), "dev", "up0", *probing)


def remove(address):
    ip("address", "delete", prefix(address), "dev", "up0")


def prefix(address):
    return address + ("/128" if ":" in address else "/32")


CHANGES = {"add": add, "remove": remove, "besiege": besiege, "relieve": relieve}


def host(directory, child, laid, go):
    """The parent: the near side."""
    if not laid.read(1):
        raise SystemExit("internet.py: there is no network namespace for the far side")
    ip("link", "add", "up0", "type", "veth", "peer", "name", "in0", "netns", str(child))
    quiet("up0", HOST_MAC)
    # A datagram of which a fragment is missing is answered (ICMP, time exceeded) within the case that lost it, not
    # after half a minute in another.
    for setting in ("ipv4/ipfrag_time", "ipv6/ip6frag_time"):
        with open("/proc/sys/net/" + setting, "w", encoding="ascii") as file:
            file.write("1")
    ip("link", "set", "lo", "up")
    ip("link", "set", "up0", "up")
    go.write(b"x")
    for family, far, own, length, beside in (("-4", FAR, HOST, "/24", BESIDE), ("-6", FAR6, HOST6, "/64", BESIDE6)):
        ip(family, "address", "add", own + length, "dev", "up0", *(["nodad"] if family == "-6" else []))
        for neighbour in (far, beside):
            ip(family, "neighbour", "add", neighbour, "lladdr", FAR_MAC, "nud", "permanent", "dev", "up0")
        ip(family, "route", "add", "default", "via", far, "dev", "up0")
    if not laid.read(1):
        raise SystemExit("internet.py: the far side could not be laid")
    serve((HOST_PORT,), (HOST_PORT,), Lines(os.path.join(directory, "contacts")))
    Lines(os.path.join(directory, "ready")).add("ready")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    done = Lines(os.path.join(directory, "done"))
    for line in sys.stdin:
        verb, subject = line.split()
        CHANGES[verb](subject)
        done.add(line.strip())


def main():
    directory, *quic = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    laid_read, laid_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(laid_read)
        os.close(go_write)
        internet(directory, quic, open(laid_write, "wb", 0), open(go_read, "rb", 0))
        return
    os.close(laid_write)
    os.close(go_read)
    try:
        host(directory, child, open(laid_read, "rb", 0), open(go_write, "wb", 0))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        subprocess.run(("ip", "link", "delete", "up0"), stderr=subprocess.DEVNULL, check=False)


main()
