"""The package's one thread: errors in the middle of it."""

import ctypes
import logging
import threading
from support import eventually, held_hub, sbx, unittest

from sbx import native


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
        logging.getLogger("sbx").addFilter(mistake)
        self.addCleanup(logging.getLogger("sbx").removeFilter, mistake)

    def begin(self, taker):
        """An operation; returns when it has ended, and the event waits to be taken."""
        operation, options = ctypes.c_void_p(), native.new("file_options")
        place, chosen, sandbox = ctypes.byref(operation), ctypes.byref(options), self.sb._life.handle
        self.sb._hub.begin(
            taker, lambda cookie: native.call("file_stat_begin", sandbox, b"/tmp", chosen, cookie, place)
        )
        native.call("file_operation_wait", operation, -1)
        self.addCleanup(native.library.sbx_file_operation_free, operation)

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
                self.assertGreaterEqual(len(self.seen), 2)
                self.seen.clear()


if __name__ == "__main__":
    unittest.main()
