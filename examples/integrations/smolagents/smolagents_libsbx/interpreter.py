"""Runs in the sandbox, with its own Python and nothing else: cells come as lines of JSON and are answered so."""

import ast
import contextlib
import io
import json
import linecache
import os
import signal
import sys
import traceback

MOST_LOGGED = 1 << 20

signal.signal(signal.SIGINT, signal.SIG_IGN)
requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
# What cells and their children write to the descriptors themselves goes nowhere.
null = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
names = {"__name__": "__main__"}


class Logs(io.StringIO):
    def write(self, text):
        room = MOST_LOGGED - self.tell()
        super().write(text[:room] if room > 0 else "")
        return len(text)


def run(code, name):
    """The value of the cell's last line, if that is an expression."""
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree, last = ast.parse(code, name), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), names)
    value = None if last is None else eval(compile(last, name, "eval"), names)
    return None if value is None else repr(value)


for count, line in enumerate(requests, 1):
    logs, answer = Logs(), {}
    with contextlib.redirect_stdout(logs), contextlib.redirect_stderr(logs):
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            answer["result"] = run(json.loads(line), "<cell %d>" % count)
        except BaseException as error:
            if type(error).__name__ == "FinalAnswerException":
                answer["final"] = str(error)
            else:
                answer["error"] = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer["logs"] = logs.getvalue()
    replies.write(json.dumps(answer) + "\n")
    replies.flush()
