"""What programs write and read."""

import asyncio
import contextlib
from support import most_at_once, sbx, unittest

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


if __name__ == "__main__":
    unittest.main()
