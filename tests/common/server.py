"""Small TCP servers that run inside a sandbox: `KIND PORT [ADDRESS]` an argument, all of them at once.

echo    sends back what comes, and ends its half when the client ends the other
sink    reads to the end, then says how many bytes it were, and their CRC
source  sends 100 MiB and ends its half, then reads the client's own count and CRC and says yes or no
told    is an echo that listens once a line has come on standard input
hold    accepts and says nothing
reset   reads one byte and resets the connection
"""
import os, socket, struct, sys, threading, zlib

MIB = 1 << 20


def echo(s):
    while data := s.recv(MIB):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)


def sink(s):
    length = crc = 0
    while data := s.recv(MIB):
        length += len(data)
        crc = zlib.crc32(data, crc)
    s.sendall(b"%d %d\n" % (length, crc))
    s.shutdown(socket.SHUT_WR)


def source(s):
    length = crc = 0
    chunk = os.urandom(MIB - 8)
    for number in range(100):
        data = struct.pack(">Q", number) + chunk
        length += len(data)
        crc = zlib.crc32(data, crc)
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    said = b""
    while data := s.recv(4096):
        said += data
    print("yes" if said == b"%d %d\n" % (length, crc) else "no", flush=True)
    os._exit(0)


def hold(s):
    threading.Event().wait()


def told(s):
    echo(s)


def reset(s):
    s.recv(1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def serve(kind, port, address="0.0.0.0"):
    if kind == "told":
        sys.stdin.readline()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen(1024)

    def one(s):
        try:
            globals()[kind](s)
        except OSError:
            pass
        s.close()

    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


threads = [threading.Thread(target=serve, args=a.split()) for a in sys.argv[1:]]
for thread in threads:
    thread.start()
