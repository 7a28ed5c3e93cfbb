"""What servers on every address are made of."""

import os
import socket

# linux/in.h and linux/in6.h
IP_TRANSPARENT = 19
IP_PKTINFO = 8
IPV6_TRANSPARENT = 75


class Lines:
    """A file of lines, each there as a whole at once."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def add(self, line):
        os.write(self.fd, (line + "\n").encode())


def any_address(kind, family):
    """A socket that takes what was sent to any address, and answers from that address."""
    bound = socket.socket(family, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    return bound
