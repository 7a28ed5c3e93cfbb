"""The package against the header: structs, functions, numbers, and its size."""

import ast
import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from support import examples, sbx, top, unittest

from libsbx import abi, native

sys.path.insert(0, str(top / "tests" / "abi"))
import header  # noqa: E402

SBX = header.read()


class Header(unittest.TestCase):
    def test_the_structs_lie_as_the_headers(self):
        layout = (top / "tests" / "abi" / "layout.txt").read_text()
        for name, struct in native.STRUCTS.items():
            self.assertIn(f"sbx_{name} {ctypes.sizeof(struct)}\n", layout)
            for field, _ in struct._fields_:
                found = getattr(struct, field)
                self.assertIn(f"sbx_{name}.{field} {found.offset} {found.size}\n", layout)

    def test_what_the_packages_repeat_is_the_headers(self):
        command = [sys.executable, "-B", str(top / "tests" / "abi" / "generate.py")]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SBX_BLESS": ""})
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_every_code_is_a_type_of_its_own_kind(self):
        codes = {number for name, number in SBX.numbers.items() if re.match("E[A-Z]", name) and number < 0}
        self.assertGreater(len(codes), 15)
        self.assertEqual(codes, {number for number in sbx.Error._kinds if number < 0})

    def test_the_names_of_numbers_are_the_headers(self):
        numbers = SBX.numbers
        kinds = [name for name, _ in sorted(numbers.items(), key=lambda item: item[1]) if "FILE_KIND_" in name]
        self.assertEqual([name.removeprefix("FILE_KIND_") for name in kinds], [kind.name for kind in sbx.FileType])
        reasons = [name for name, _ in sorted(numbers.items(), key=lambda item: item[1]) if name.startswith("EXIT_")]
        camel = [re.sub("_(.)", lambda found: found[1].upper(), name[5:].lower()) for name in reasons]
        self.assertEqual([None, *camel], list(native.EXIT_REASONS))
        verdicts = {name: number for name, number in numbers.items() if name.startswith("REASON_")}
        self.assertEqual(verdicts, {f"REASON_{reason.name}": reason.value for reason in sbx.PolicyReason})
        # Whatever ends a sandbox but its own program and its lifetime is an end from outside.
        own = {"EXIT_EXITED", "EXIT_SIGNALLED", "EXIT_TIMED_OUT"}
        ends = {name: number for name, number in numbers.items() if name.startswith("EXIT_")}
        self.assertEqual({name for name in ends if ends[name] <= native.EXIT_TIMED_OUT}, own)

    def test_each_part_is_small(self):
        for part, most in (("libsbx", 2450), ("libsbx/filesystem", 600), ("libsbx/streams", 250)):
            self.assertLess(sum(map(lines_of_code, set((examples / part).glob("*.py")) - {Path(abi.__file__)})), most, part)


def lines_of_code(file):
    """Without blank lines, comments and docstrings."""
    source = file.read_text()
    lines = {number for number, line in enumerate(source.splitlines(), 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


if __name__ == "__main__":
    unittest.main()
