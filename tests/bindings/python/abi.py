"""The module against the header: structs, functions, numbers, and its size."""

import ast
import ctypes
import re
from support import examples, sbx, top, unittest

header = (top / "include" / "sbx.h").read_text()
code = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
C_TYPES = {
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "char": ctypes.c_char,
}


def members(struct):
    body = re.search(r"typedef struct %s \{(.*?)\}" % struct, code, re.DOTALL).group(1)
    for kind, name, length in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body):
        yield name, C_TYPES[kind] * int(length) if length else C_TYPES[kind]


def kind_of(parameter):
    parameter = " ".join(parameter.split())
    if parameter in ("", "void"):
        return ""
    if re.match(r"(struct )?sbx_error \*", parameter):
        return "e"
    if re.match(r"const char \*(?!const)\w", parameter):
        return "s"
    if re.match(r"(const )?(struct )?sbx_(exit|event|verdict|stats|runtime_config) \*", parameter):
        return "&"
    if parameter.count("*") == 1 and "sbx_" in parameter:
        return "h"
    if "*" in parameter:
        return "&"
    kinds = {"int": "i", "int32_t": "i", "uint32_t": "u", "int64_t": "q", "uint64_t": "Q", "size_t": "z"}
    return kinds[parameter.rsplit(" ", 1)[0]]


def result_of(declared):
    declared = " ".join(declared.split())
    if declared == "const char *":
        return "s"
    return {"int": "", "uint32_t": "u", "void": "v"}.get(declared, "h")


class Header(unittest.TestCase):
    def test_the_structs_are_the_headers(self):
        for name, struct in (("sbx_error", sbx._Error), ("sbx_event", sbx._Event)):
            fields = list(members(name))
            self.assertEqual([field for field, _ in fields], [field for field, _ in struct._fields_], name)
            offset = 0
            for field, kind in fields:
                found = getattr(struct, field)
                self.assertEqual((found.offset, found.size), (offset, ctypes.sizeof(kind)), f"{name}.{field}")
                offset += ctypes.sizeof(kind)
            self.assertEqual(ctypes.sizeof(struct), offset, name)

    def test_the_functions_are_the_headers(self):
        declared = {
            name: "".join(map(kind_of, parameters.split(","))) + (">" + result_of(result) if result_of(result) else "")
            for result, name, parameters in re.findall(r"\n([a-z][\w ]*?[ *]+)sbx_(\w+)\(([^)]*)\);", code)
        }
        self.assertGreater(len(declared), 60)
        for kinds, names in sbx._FUNCTIONS.items():
            for name in names.split():
                self.assertEqual(kinds, declared.get(name), name)

    def test_every_code_is_a_type_of_its_own_kind(self):
        codes = dict(re.findall(r"#define SBX_(E[A-Z_]+) (-\d+)", code))
        self.assertGreater(len(codes), 15)
        bugs = {int(codes["EPANIC"]), int(codes["EINTERNAL"])}
        self.assertEqual({int(number) for number in codes.values()} - bugs, set(sbx._ERRORS))

    def test_the_numbers_are_the_headers(self):
        numbers = dict(re.findall(r"#define SBX_(\w+) (-?\d+)", code))
        self.assertEqual(int(numbers["ABI_VERSION"]), sbx._ABI_VERSION)
        for name in ("STARTED", "FAILED", "READY", "EXITED", "PROCESS_STARTED", "PROCESS_EXITED"):
            self.assertEqual(int(numbers["EVENT_" + name]), getattr(sbx, "_" + name))
        for name in ("STREAM_DESCRIPTOR", "TERMINAL", "LIMITS_WATCHDOG"):
            self.assertEqual(int(numbers[name]), getattr(sbx, "_" + name))
        self.assertEqual(int(numbers["EXIT_TIMED_OUT"]), sbx._TIMED_OUT_REASON)
        own = {"EXIT_EXITED", "EXIT_SIGNALLED", "EXIT_TIMED_OUT"}
        others = {int(n) for name, n in numbers.items() if name.startswith("EXIT_") and name not in own}
        self.assertLessEqual(others, set(sbx._ENDED_FROM_OUTSIDE))

    def test_it_has_less_than_a_thousand_lines_of_code(self):
        source = (examples / "sbx.py").read_text()
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        lines = {
            number for number, line in enumerate(source.splitlines(), 1) if line.strip() and line.strip()[0] != "#"
        }
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, documented) and ast.get_docstring(node) is not None:
                lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        self.assertLess(len(lines), 1000)


if __name__ == "__main__":
    unittest.main()
