"""Plays the keeper in tests: makes the namespaces S and G as their owner, and on request makes sockets and
runs programs in them. Requests and answers are lines of JSON over standard input, which is a socket pair.
Ends when that ends. Single-threaded, as whoever enters a user namespace has to be."""

import ctypes
import json
import os
import socket
import subprocess

NEWUSER, NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


uid, gid = os.geteuid(), os.getegid()
check(libc.unshare(NEWUSER))
write("/proc/self/setgroups", "deny")
write("/proc/self/uid_map", f"0 {uid} 1")
write("/proc/self/gid_map", f"0 {gid} 1")
spaces = {}
for name in "gs":
    check(libc.unshare(NEWNET))
    spaces[name] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

channel = socket.socket(fileno=os.dup(0))
for line in channel.makefile("r"):
    request = json.loads(line)
    check(libc.setns(spaces[request["space"]], NEWNET))
    answer, fds = {}, []
    try:
        if request["do"] == "namespace":
            fds = [spaces[request["space"]]]
        elif request["do"] == "socket":
            made = socket.socket(request["family"], request["type"], request["protocol"])
            fds = [made.fileno()]
        elif request["do"] == "write":
            write(request["path"], request["text"])
        elif request["do"] == "run":
            done = subprocess.run(
                request["command"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                # An ordinary user's PATH may lack the places where ip and nft are.
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
            answer = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    except OSError as error:
        answer = {"error": str(error)}
    text = (json.dumps(answer) + "\n").encode()
    socket.send_fds(channel, [text[:1]], fds)
    channel.sendall(text[1:])
