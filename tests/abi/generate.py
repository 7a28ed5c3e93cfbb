"""Writes what the Python and Node packages repeat of include/sbx.h.

python3 tests/abi/generate.py compares the files with the header; SBX_BLESS=1 in the environment writes them.
"""

import os
import sys

import header

KINDS = """\
A function's kinds are a letter a parameter, and behind > what it returns if that isn't an int: h a handle, & the
address of a result, a struct or an array, e the error, s a text, b bytes of the library's, i int, u uint32_t,
q int64_t, Q uint64_t, z size_t, v void. A struct's fields are kinds and names; a number is an array of that many bytes,
and before a letter of that many numbers.
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


# How each language writes the parts: the first lines, what opens and closes a table, an entry of each kind, and how the
# parts of a long text are put together.
LANGUAGES = {
    "python/libsbx/abi.py": {
        "head": ['"""include/sbx.h, for ctypes. {made}"""', ""], "comment": "# ", "close": "}",
        "structs": "LAYOUTS = {", "struct": '    "{name}": (\n        {text}\n    ),', "indent": "        ", "join": "",
        "functions": "FUNCTIONS = {", "function": '    "{name}": "{kinds}",',
        "numbers": [], "number": "{name} = {number}", "end": [],
    },
    "node/abi.js": {
        "head": ["// include/sbx.h, as JavaScript. {made}", ""], "comment": "// ", "close": "};",
        "structs": "export const STRUCTS = {", "struct": "  {name}:\n    {text},", "indent": "    ", "join": " +",
        "functions": "export const FUNCTIONS = {", "function": '  {name}: "{kinds}",',
        "numbers": ["export const NUMBERS = {"], "number": "  {name}: {number},", "end": ["};"],
    },
}  # fmt: skip


def written(sbx, form):
    yield from (line.format(made=MADE) for line in form["head"])
    yield from (form["comment"] + line for line in KINDS)
    yield form["structs"]
    for name, fields in sbx.structs.items():
        text = ", ".join(f"{kind} {field}" for kind, field in fields)
        yield form["struct"].format(name=name, text=quoted(text, form["indent"], form["join"]))
    yield from (form["close"], "", form["functions"])
    yield from (form["function"].format(name=name, kinds=kinds) for name, kinds in sbx.functions.items())
    yield from (form["close"], "", *form["numbers"])
    yield from (form["number"].format(name=name, number=number) for name, number in sbx.numbers.items())
    yield from form["end"]


def main():
    sbx = header.read()
    wrong = []
    for place, form in LANGUAGES.items():
        file = header.TOP / "examples" / place
        made = "\n".join(written(sbx, form)) + "\n"
        if os.environ.get("SBX_BLESS"):
            file.write_text(made)
        if not file.exists() or file.read_text() != made:
            wrong.append(str(file.relative_to(header.TOP)))
    if wrong:
        sys.exit(f"not what include/sbx.h says: {', '.join(wrong)}; write them with SBX_BLESS=1 python3 {sys.argv[0]}")


if __name__ == "__main__":
    main()
