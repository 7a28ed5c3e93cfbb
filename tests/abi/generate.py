"""Writes what the Python and Node packages repeat of include/sbx.h.

python3 tests/abi/generate.py compares the files with the header; SBX_BLESS=1 in the environment writes them.
"""

import os
import sys

import header

KINDS = """\
A function's kinds are a letter a parameter, and behind > what it returns if that isn't an int: h a handle, & the
address of a result, a struct or an array, e the error, s a text, b bytes of the library's, i int, u uint32_t,
q int64_t, Q uint64_t, z size_t, v void. A struct's fields are kinds and names; a number is an array of that many bytes.
""".splitlines()
MADE = "Made by tests/abi/generate.py; do not edit."
WIDTH = 116


def quoted(text, indent, join):
    """A text as string literals that fit on lines."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(indent) + len(line) + len(word) + 6 > WIDTH:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line)
    lines[-1] = lines[-1][:-1]
    return f"{join}\n{indent}".join(f'"{each}"' for each in lines)


def layouts(sbx):
    for name, fields in sbx.structs.items():
        yield name, ", ".join(f"{kind} {field}" for kind, field in fields)


def python(sbx):
    yield f'"""include/sbx.h, for ctypes. {MADE}"""'
    yield ""
    yield from (f"# {line}" for line in KINDS)
    yield "LAYOUTS = {"
    for name, fields in layouts(sbx):
        yield f'    "{name}": (\n        {quoted(fields, "        ", "")}\n    ),'
    yield "}"
    yield ""
    yield "FUNCTIONS = {"
    yield from (f'    "{name}": "{kinds}",' for name, kinds in sbx.functions.items())
    yield "}"
    yield ""
    yield from (f"{name} = {number}" for name, number in sbx.numbers.items())


def javascript(sbx):
    yield f"// include/sbx.h, as JavaScript. {MADE}"
    yield ""
    yield from (f"// {line}" for line in KINDS)
    yield "export const STRUCTS = {"
    for name, fields in layouts(sbx):
        yield f'  {name}:\n    {quoted(fields, "    ", " +")},'
    yield "};"
    yield ""
    yield "export const FUNCTIONS = {"
    yield from (f'  {name}: "{kinds}",' for name, kinds in sbx.functions.items())
    yield "};"
    yield ""
    yield "export const NUMBERS = {"
    yield from (f"  {name}: {number}," for name, number in sbx.numbers.items())
    yield "};"


def main():
    sbx = header.read()
    wrong = []
    for place, lines in (("python/libsbx/abi.py", python(sbx)), ("node/abi.js", javascript(sbx))):
        file = header.TOP / "examples" / place
        made = "\n".join(lines) + "\n"
        if os.environ.get("SBX_BLESS"):
            file.write_text(made)
        if not file.exists() or file.read_text() != made:
            wrong.append(str(file.relative_to(header.TOP)))
    if wrong:
        sys.exit(f"not what include/sbx.h says: {', '.join(wrong)}; write them with SBX_BLESS=1 python3 {sys.argv[0]}")


if __name__ == "__main__":
    main()
