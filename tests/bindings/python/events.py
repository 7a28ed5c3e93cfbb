"""The package's one thread: events that were lost, and errors in the middle of it."""

import ctypes
import logging
import threading
from unittest import mock
from support import eventually, held_hub, sbx, unittest

from libsbx import hub, native

# Of events that can be lost, there is room for one.
hub.MOST_EVENTS = 1

PROGRAM = """
import os, socket
os.makedirs("/tmp/one"), os.makedirs("/tmp/two")
print("ready")
input()
for place in ("one", "two"):
    open(f"/tmp/{place}/0", "w").close()
server = socket.create_server(("", 8000))
input()
"""


class Lost(unittest.TestCase):
    def setUp(self):
        self.sb = sbx.Sandbox.create("python3", "-u", "-c", PROGRAM, unencrypted_ports=[8000])
        self.addCleanup(self.sb.close)
        self.assertEqual(next(self.sb.stdout), "ready\n")
        created = [sbx.FileWatchEventType.Create]
        self.changes = {place: self.sb.filesystem.watch(place, filter=created) for place in ("/tmp/one", "/tmp/two")}

    def go(self):
        self.sb.stdin.write("go\n")
        self.sb.stdin.drain()

    def waiting(self):
        """Threads that wait for what three events tell, of which there is room for one."""
        looked, self.told = [], {}

        def wait(place, changes, take):
            def looking():
                found = take()
                if found is None:
                    looked.append(place)
                return found

            changes._take = looking
            self.told[place] = next(changes).paths

        threads = [threading.Thread(target=wait, args=[*item, item[1]._take]) for item in self.changes.items()]
        threads.append(threading.Thread(target=self.sb.wait_until_ready))
        for thread in threads:
            thread.start()
        eventually(lambda: self.sb._life.asked and set(looked) == set(self.changes))
        return threads

    def is_ready(self):
        try:
            return native.call("wait_ready", self.sb._life.handle, 0) == 0
        except sbx.TimeoutError:
            return False

    def test_what_is_waited_for_comes(self):
        waiting = self.waiting()
        with held_hub():
            self.go()
            eventually(self.is_ready)
        # No other event follows.
        eventually(lambda: not any(thread.is_alive() for thread in waiting))
        self.assertEqual(self.told, {place: [place + "/0"] for place in self.changes})

    def test_nobody_is_asked_who_was_not(self):
        asked = []

        def call(name, *arguments):
            if name == "wait_ready":
                asked.append(name)
            return native.call(name, *arguments)

        with mock.patch.object(hub, "call", call):
            self.go()
            for place, changes in self.changes.items():
                self.assertEqual(next(changes).paths, [place + "/0"])
            self.sb.filesystem.stat("/tmp")
        self.assertEqual(asked, [])


class Broken(unittest.TestCase):
    """What a host's code does in the middle of the thread's work."""

    def setUp(self):
        self.sb = sbx.Sandbox.create(outbound_cidr_allowlist=[])
        self.addCleanup(self.sb.close)
        self.seen = []

        class Filter(logging.Filter):
            def filter(_, record):
                self.seen.append(record.getMessage())
                raise self.kind("a mistake of the host's own")

        mistake = Filter()
        logging.getLogger("libsbx").addFilter(mistake)
        self.addCleanup(logging.getLogger("libsbx").removeFilter, mistake)

    def begin(self, taker):
        """An operation; returns when it has ended, and the event waits to be taken."""
        operation, options = ctypes.c_void_p(), native.new("file_options")
        place, chosen, sandbox = ctypes.byref(operation), ctypes.byref(options), self.sb._life.handle
        queue = self.sb._hub.queue
        self.sb._hub.begin(
            taker, lambda cookie: native.call("file_stat_begin", sandbox, b"/tmp", chosen, queue, cookie, place)
        )
        native.call("operation_wait", operation, -1)
        self.addCleanup(native.library.sbx_operation_free, operation)

    def test_logging_that_raises_ends_nothing(self):
        for self.kind in (ValueError, SystemExit):
            with self.subTest(kind=self.kind):
                program = "import socket; socket.socket().connect_ex(('192.0.2.1', 80)); exit(7)"
                self.assertEqual(self.sb.exec("python3", "-c", program).wait(), 7)
                eventually(lambda: any("denied" in message for message in self.seen))
                self.seen.clear()

    def test_the_events_after_an_error_are_taken(self):
        for self.kind in (ValueError, SystemExit):
            with self.subTest(kind=self.kind):

                def mistaken(event):
                    raise self.kind

                taken = threading.Event()
                with held_hub():
                    self.begin(mistaken)
                    self.begin(lambda event: taken.set())
                self.assertTrue(taken.wait(60))
                self.sb._hub.soon(lambda: mistaken(None))
                self.assertEqual(self.sb.exec("true").wait(), 0)
                eventually(lambda: len(self.seen) >= 2)
                self.seen.clear()


if __name__ == "__main__":
    unittest.main()
