"""What programs write and read."""

import asyncio
import contextlib
import gc
import os
import threading
from unittest import mock
from support import eventually, is_open, most_at_once, opened, sbx, unittest

from libsbx.streams import MOST_LINE, MOST_UNREAD


def shell(script, **settings):
    return sbx.Sandbox.create("sh", "-c", script, **settings)


class Streams(unittest.TestCase):
    def test_lines_come_as_they_are_written(self):
        with shell("echo one; read line; echo $line; echo two >&2; printf three") as sb:
            self.assertEqual(next(sb.stdout), "one\n")
            sb.stdin.write("again\n")
            sb.stdin.drain()
            self.assertEqual(list(sb.stdout), ["again\n", "three"])
            self.assertEqual(sb.stderr.read(), "two\n")
            self.assertEqual(sb.stdout.read(), "")

    def test_the_end_of_standard_input_is_seen_inside(self):
        with shell("wc -c") as sb:
            sb.stdin.write(b"x" * 3_000_000)
            sb.stdin.write_eof()
            sb.stdin.drain()
            self.assertEqual(sb.stdout.read().strip(), "3000000")
            with self.assertRaises(ValueError):
                sb.stdin.write("more")

    def test_input_for_a_program_that_has_ended_is_a_broken_pipe(self):
        with shell("exit 0") as sb:
            sb.wait()
            sb.stdin.write(b"x" * 10_000_000)
            with self.assertRaises(OSError):
                sb.stdin.drain()

    def test_a_program_whose_output_nobody_reads_goes_on(self):
        size = MOST_UNREAD + 5_000_000
        with shell(f"head -c {size} /dev/zero; exit 7") as sb:
            sb.wait()
            self.assertEqual(sb.returncode, 7)
            kept = sb.stdout.read()
            self.assertEqual((len(kept) + sb.stdout.lost, len(kept) <= MOST_UNREAD), (size, True))

    def test_a_slow_reader_gets_everything(self):
        with shell("echo begin; seq 1 4000000") as sb:
            self.assertEqual(next(sb.stdout), "begin\n")
            lines = [int(line) for line in sb.stdout]
            self.assertEqual((len(lines), lines[-1], sb.stdout.lost), (4_000_000, 4_000_000, 0))

    def test_a_line_without_an_end_comes_in_parts(self):
        size = 3 * MOST_LINE
        with shell(f"head -c {size} /dev/zero | tr '\\0' x; echo; printf short; sleep 0.1; echo er") as sb:
            *parts, last = sb.stdout
        self.assertEqual((last, "".join(parts)), ("shorter\n", "x" * size + "\n"))
        self.assertLess(max(map(len, parts)), 2 * MOST_LINE)
        self.assertGreaterEqual(min(map(len, parts[:-1])), MOST_LINE)
        with shell("yes | tr -d '\\n'") as sb:
            self.assertGreaterEqual(len(next(sb.stdout)), MOST_LINE)

    def test_what_is_not_utf_8_is_replaced(self):
        with shell(r"printf 'a\377b\303'; sleep 0.1; printf '\251\n'") as sb:
            self.assertEqual(sb.stdout.read(), "a\N{REPLACEMENT CHARACTER}bé\n")

    def test_asyncio(self):
        async def main():
            async with await sbx.Sandbox.create.aio("sh", "-c", "cat; echo end") as sb:
                sb.stdin.write("line\n")
                await sb.stdin.drain.aio()
                first = await sb.stdout.__anext__()
                sb.stdin.write_eof()
                await sb.stdin.drain.aio()
                return first, [line async for line in sb.stdout], await sb.stderr.read.aio()

        self.assertEqual(asyncio.run(main()), ("line\n", ["end\n"], ""))

    def test_what_comes_all_the_time_leaves_others_on_the_loop_their_turn(self):
        sizes = []

        async def measured(pieces):
            async for piece in pieces:
                sizes.append(len(piece))
                yield piece

        async def main():
            async with await sbx.Sandbox.create.aio("yes") as sb:
                lines = await most_at_once(sb.stdout, 200_000)
                process = await sb.exec.aio("head", "-c", "4000000", "/dev/zero", text=False)
                await process.wait.aio()
                return lines, await most_at_once(measured(process.stdout))

        lines, pieces = asyncio.run(main())
        self.assertLessEqual(lines, 256)
        self.assertLessEqual(pieces, 2)
        self.assertEqual((sum(sizes), max(sizes) <= 65536), (4_000_000, True))

    def test_a_reading_that_is_cancelled_loses_nothing(self):
        async def main():
            lines = []
            async with await sbx.Sandbox.create.aio("seq", "20000") as sb:
                with contextlib.suppress(StopAsyncIteration):
                    while True:
                        attempt = asyncio.ensure_future(sb.stdout.__anext__())
                        await asyncio.sleep(0)
                        attempt.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            lines.append(int(await attempt))
                        lines.append(int(await sb.stdout.__anext__()))
            return lines

        self.assertEqual(asyncio.run(main()), list(range(1, 20_001)))


class Kept(unittest.TestCase):
    """A sandbox isn't lost as long as somebody has a part of it."""

    def test_by_its_streams(self):
        self.assertEqual(sbx.Sandbox.create("sh", "-c", "sleep 0.2; echo hello").stdout.read(), "hello\n")
        self.assertEqual(list(shell("sleep 0.2; echo one; echo two").stdout), ["one\n", "two\n"])
        stdin, stdout = (lambda sb: (sb.stdin, sb.stdout))(sbx.Sandbox.create("cat"))
        gc.collect()
        stdin.write("typed\n")
        stdin.write_eof()
        stdin.drain()
        self.assertEqual(stdout.read(), "typed\n")

    def test_by_its_streams_in_asyncio(self):
        async def main():
            return await (await sbx.Sandbox.create.aio("sh", "-c", "sleep 0.2; echo hello")).stdout.read.aio()

        self.assertEqual(asyncio.run(main()), "hello\n")

    def test_by_its_programs_and_their_streams(self):
        def start():
            return sbx.Sandbox.create().exec("sh", "-c", "sleep 0.2; echo hello; exit 3")

        process = start()
        gc.collect()
        self.assertEqual((process.wait(), process.stdout.read()), (3, "hello\n"))
        self.assertEqual(start().stdout.read(), "hello\n")

    def test_by_what_it_tells(self):
        sb = sbx.Sandbox.create()
        denials, watch = sb.denials, sb.filesystem.watch("/tmp")
        life = sb._life
        del sb
        gc.collect()
        self.assertFalse(life.exited.done())
        del denials
        gc.collect()
        watch._whole.filesystem.write_text("", "/tmp/file")
        self.assertEqual(next(watch).paths, ["/tmp/file"])

    def test_no_longer_than_that(self):
        # Without the cyclic collector: the last reference ends it.
        gc.disable()
        self.addCleanup(gc.enable)
        sb = sbx.Sandbox.create()
        life, process = sb._life, sb.exec("sleep", "1000")
        parts = [sb.stdout, sb.stderr, sb.denials, process.stdout]
        del sb, process
        self.assertFalse(life.exited.done())
        with self.assertWarns(ResourceWarning):
            parts.clear()
        self.assertEqual(life.exited.result(60)[0], 137)

    def test_a_stream_is_one_however_often_it_is_asked_for(self):
        with shell("seq 3") as sb:
            self.assertEqual((next(sb.stdout), next(sb.stdout), sb.stdout.read()), ("1\n", "2\n", "3\n"))


class Input(unittest.TestCase):
    """Of a program that reads when it is told to."""

    def setUp(self):
        self.sb = shell("until [ -e /tmp/go ]; do sleep 0.05; done; tr -d '\\n' | wc -c")
        self.addCleanup(self.sb.close)
        self.stdin = self.sb.stdin

    def go(self):
        self.sb.filesystem.write_text("", "/tmp/go")

    def is_watched(self):
        return self.stdin.fileno() in self.sb._hub._handlers

    async def begun(self, drain):
        """Its task, once it waits."""
        task = asyncio.ensure_future(drain.aio())
        while not self.is_watched():
            await asyncio.sleep(0.001)
        return task

    def test_several_drain_at_once(self):
        async def main():
            self.stdin.write(b"x" * 3_000_000)
            first = await self.begun(self.stdin.drain)
            self.stdin.write(b"y" * 1_000_000)
            others = [asyncio.ensure_future(self.stdin.drain.aio()) for _ in range(3)]
            await asyncio.sleep(0)
            others.pop().cancel()  # which isn't the others'
            await self.sb.filesystem.write_text.aio("", "/tmp/go")
            await asyncio.wait_for(asyncio.gather(first, *others), 60)
            self.stdin.write_eof()
            await asyncio.gather(self.stdin.drain.aio(), self.stdin.drain.aio())
            return await self.sb.stdout.read.aio()

        self.assertEqual(asyncio.run(main()).strip(), "4000000")

    def test_nothing_is_watched_for_a_loop_that_does_not_look(self):
        async def main():
            self.stdin.write(b"x" * 3_000_000)
            drain = await self.begun(self.stdin.drain)
            # In its plain form, so that the loop stands still.
            self.go()
            eventually(lambda: not self.is_watched())
            await drain

        asyncio.run(main(), debug=False)

    def test_threads_write_and_drain_at_once(self):
        self.go()

        def work():
            for _ in range(100):
                self.stdin.write(b"x" * 9_999 + b"\n")
                self.stdin.drain()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.stdin.write_eof()
        self.stdin.drain()
        self.assertEqual(self.sb.stdout.read().strip(), str(4 * 100 * 9_999))

    def test_the_end_of_the_sandbox_ends_a_drain(self):
        async def main():
            self.stdin.write(b"x" * 3_000_000)
            drain = await self.begun(self.stdin.drain)
            stream = opened(self.stdin.fileno())
            await self.sb.close.aio()
            with self.assertRaises(ConnectionError):  # of the other end, or of ours
                await asyncio.wait_for(drain, 60)
            with self.assertRaises(BrokenPipeError):
                await self.stdin.drain.aio()
            return stream

        stream = asyncio.run(main())
        eventually(lambda: not is_open(stream))

    def test_who_waits_is_told_that_it_was_closed(self):
        async def main():
            self.stdin.write(b"x" * 3_000_000)
            drain = await self.begun(self.stdin.drain)
            self.stdin._drop()  # as close() does; the program doesn't see to it that it ends
            with self.assertRaises(BrokenPipeError):
                await asyncio.wait_for(drain, 60)

        asyncio.run(main())


class Descriptors(unittest.TestCase):
    """That of a stream is open until its end, or its reader's."""

    LOUD = f"echo begin; head -c {2 * MOST_UNREAD} /dev/zero"

    def begun(self, stream):
        """What its descriptor leads to, once somebody began to read and stopped, and the program waits for that."""
        next(stream)
        eventually(lambda: stream._source._paused)
        return opened(stream._source._fd)

    def test_a_sandbox_that_is_closed_closes_them(self):
        with shell(self.LOUD + "; sleep 1000") as sb:
            stream = self.begun(sb.stdout)
        eventually(lambda: not is_open(stream))
        self.assertGreaterEqual(len(sb.stdout.read()), MOST_UNREAD - 65536)
        self.assertEqual(sb.stdout.lost, 0)

    def test_what_was_written_can_be_read_when_it_is_closed(self):
        with shell("echo out; echo err >&2") as sb:
            sb.wait()
        self.assertEqual((sb.stdout.read(), sb.stderr.read()), ("out\n", "err\n"))

    def test_a_program_whose_reader_was_lost_goes_on(self):
        with sbx.Sandbox.create() as sb:
            process = sb.exec("sh", "-c", self.LOUD + " && touch /tmp/done")
            stream = self.begun(process.stdout)
            del process
            gc.collect()
            eventually(lambda: [entry.name for entry in sb.filesystem.list_files("/tmp")] == ["done"])
            eventually(lambda: not is_open(stream))

    def test_a_lost_sandbox_closes_them(self):
        sb = shell(self.LOUD + "; sleep 1000")
        stream = self.begun(sb.stdout)
        with self.assertWarns(ResourceWarning):
            del sb
            gc.collect()
        eventually(lambda: not is_open(stream))

    def test_a_reader_is_lost_in_the_middle_of_anything(self):
        # The garbage collector runs where it likes: in the thread that reads, with whatever that holds.
        with sbx.Sandbox.create() as sb:
            process = sb.exec("sh", "-c", self.LOUD)
            source = process.stdout._source
            stream = opened(source._fd)
            with source._lock, sb._hub._lock:
                del process
                gc.collect()
            eventually(lambda: not is_open(stream))

    def failing(self, module, name, nth):
        """The call that opens the nth stream of them fails; what the ones before lead to is in the list."""
        streams = []

        def call(function, *arguments):
            if function != name:
                return sbx.native.call(function, *arguments)
            if len(streams) == nth - 1:
                raise sbx.exception.ResourceExhaustedError("no more")
            fd = sbx.native.call(function, *arguments)
            streams.append(opened(fd))
            return fd

        return mock.patch.object(module, "call", call), streams

    def test_what_was_opened_when_the_next_can_not_be_is_closed(self):
        with sbx.Sandbox.create() as sb:
            for nth in (1, 2, 3):
                with self.subTest(nth=nth):
                    patch, streams = self.failing(sbx.process, "process_open_fd", nth)
                    with patch, self.assertRaises(sbx.exception.ResourceExhaustedError):
                        sb.exec("sleep", "1000")
                    # An output ends with the program, which nobody has.
                    self.assertEqual(len(streams), nth - 1)
                    eventually(lambda: not any(map(is_open, streams)))
            with mock.patch.object(os, "dup", side_effect=OSError(24, "no more")), self.assertRaises(OSError):
                sb.exec("sleep", "1000", pty=True)
            self.assertEqual(sb.exec("true").wait(), 0)
        patch, streams = self.failing(sbx.sandbox, "sandbox_open_fd", 2)
        with patch, self.assertRaises(sbx.exception.ResourceExhaustedError):
            shell("sleep 1000")
        self.assertEqual(len(streams), 1)
        eventually(lambda: not any(map(is_open, streams)))


if __name__ == "__main__":
    unittest.main()
