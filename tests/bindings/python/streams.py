"""What programs write and read."""

import asyncio
import contextlib
import threading
from support import eventually, is_open, most_at_once, opened, sbx, unittest

from sbx.streams import MOST_LINE, MOST_UNREAD


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
            for again in (drain, self.stdin.drain.aio()):
                with self.assertRaises(BrokenPipeError):
                    await asyncio.wait_for(again, 60)
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


if __name__ == "__main__":
    unittest.main()
