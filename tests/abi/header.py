"""Reads include/sbx.h: its functions, structs and numbers, in the order of the header."""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]

# A parameter's or a result's kind is a letter: h a handle, & the address of a result, a struct or an array, e the
# error, s a text, b bytes of the library's, i int, u uint32_t, q int64_t, Q uint64_t, z size_t, v void.
NUMBERS = {
    "int": "i", "int32_t": "i", "uint32_t": "u", "int64_t": "q", "uint64_t": "Q", "size_t": "z", "const char *": "s",
    "const uint8_t *": "b",
}  # fmt: skip


class Header:
    def __init__(self, text):
        self._code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
        #: Every struct's fields by the struct's name without sbx_: a kind and a name each; a number is an array's length
        #: in bytes, and before a letter the length of an array of that.
        self.structs = {}
        for name, body in re.findall(r"typedef struct sbx_(\w+) \{(.*?)\}", self._code, re.DOTALL):
            self.structs[name] = [field for line in body.split(";") for field in self._fields(line)]
        #: Every function's kinds by its name without sbx_: a letter a parameter, and > and a letter for what it returns
        #: if that isn't an int.
        self.functions = {}
        pattern = r"\n([a-z][\w ]*?[ *]+)sbx_(\w+)\(([^)]*)\);"
        for returned, name, parameters in re.findall(pattern, self._code):
            kinds = "".join(self._kind(" ".join(one.split())) for one in parameters.split(","))
            result = self._result(" ".join(returned.split()))
            self.functions[name] = kinds + (f">{result}" if result != "i" else "")
        #: Every number by its name without SBX_.
        found = re.findall(r"#define SBX_(\w+) (-?\d+)", self._code)
        self.numbers = {name: int(number) for name, number in found}

    def _fields(self, line):
        words = " ".join(line.split())
        if not words:
            return
        kind, names = re.fullmatch(r"(const \w+ \*|\w+) ?(.*)", words).groups()
        for name in names.split(", "):
            field, length = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", name).groups()
            yield (length or "") + NUMBERS.get(kind, ""), field

    def _kind(self, parameter):
        if parameter in ("", "void"):
            return ""
        if re.match(r"(struct )?sbx_error \*", parameter):
            return "e"
        if re.match(r"const char \*(?!const)\w", parameter):
            return "s"
        handle = re.match(r"(?:const )?(?:struct )?sbx_(\w+) \*\w", parameter)
        if handle and handle[1] not in self.structs:
            return "h"
        if "*" in parameter:
            return "&"
        return NUMBERS[parameter.rsplit(" ", 1)[0]]

    def _result(self, returned):
        if returned == "void":
            return "v"
        return NUMBERS.get(returned, "h")


def read():
    return Header((TOP / "include" / "sbx.h").read_text())
