"""The package against the header: structs, functions, numbers, and its size."""

import ast
import ctypes
import re
from support import examples, sbx, top, unittest

from sbx import native

header = (top / "include" / "sbx.h").read_text()
code = re.sub(r"/\*.*?\*/|//[^\n]*", "", header, flags=re.DOTALL)
C_TYPES = {
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "char": ctypes.c_char,
    "text": ctypes.c_char_p,
}


def members(struct):
    body = re.search(r"typedef struct %s \{(.*?)\}" % struct, code, re.DOTALL).group(1)
    body = body.replace("const char *", "text ")
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
    structs = "exit|event|verdict|stats|runtime_config|file_options|file_info"
    if re.match(r"(const )?(struct )?sbx_(%s) \*" % structs, parameter):
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
        for name, struct in native.STRUCTS.items():
            fields = list(members("sbx_" + name))
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
        for kinds, names in native.FUNCTIONS.items():
            for name in names:
                self.assertEqual(kinds, declared.get(name), name)

    def test_every_code_is_a_type_of_its_own_kind(self):
        codes = dict(re.findall(r"#define SBX_(E[A-Z_]+) (-\d+)", code))
        self.assertGreater(len(codes), 15)
        known = {number for number in sbx.Error._kinds if number < 0}
        self.assertEqual({int(number) for number in codes.values()}, known)

    def test_the_numbers_are_the_headers(self):
        numbers = {name: int(number) for name, number in re.findall(r"#define SBX_(\w+) (-?\d+)", code)}
        ours = {name: number for name, number in vars(native).items() if name.isupper() and type(number) is int}
        self.assertGreater(len(ours), 20)
        for name, number in ours.items():
            self.assertEqual(numbers[name], number, name)
        kinds = [name for name, _ in sorted(numbers.items(), key=lambda item: item[1]) if "FILE_KIND_" in name]
        self.assertEqual([name.removeprefix("FILE_KIND_") for name in kinds], [kind.name for kind in sbx.FileType])
        reasons = [name for name, _ in sorted(numbers.items(), key=lambda item: item[1]) if name.startswith("EXIT_")]
        camel = [re.sub("_(.)", lambda found: found[1].upper(), name[5:].lower()) for name in reasons]
        self.assertEqual([None, *camel], list(native.EXIT_REASONS))
        # Whatever ends a sandbox but its own program and its lifetime is an end from outside.
        own = {"EXIT_EXITED", "EXIT_SIGNALLED", "EXIT_TIMED_OUT"}
        ends = {name: number for name, number in numbers.items() if name.startswith("EXIT_")}
        self.assertEqual({name for name in ends if ends[name] <= native.EXIT_TIMED_OUT}, own)

    def test_each_part_is_small(self):
        for part, most in (("sbx", 1300), ("sbx/filesystem", 450), ("sbx/streams", 250)):
            self.assertLess(sum(map(lines_of_code, (examples / part).glob("*.py"))), most, part)


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
