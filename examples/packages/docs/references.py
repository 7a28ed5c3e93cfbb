"""References, made of the sources: markdown that mdBook renders."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Iterator

_PACKAGE = "examples/python/libsbx"


def functions(root: Path) -> list[str]:
    """The functions of the C library."""
    return re.findall(r"^[a-z].*?\b\*?(sbx_\w+)\(", (root / "include/sbx.h").read_text(), re.MULTILINE)


def header(root: Path) -> str:
    """include/sbx.h: each declaration with its comment, and an anchor of its name."""
    text = (root / "include/sbx.h").read_text()
    rules = re.search(r"/\*\n(.*?)\n \*/", text, re.DOTALL)
    assert rules, "sbx.h doesn't begin with its rules"
    prose = "\n".join(line[3:] for line in rules[1].splitlines())
    made = [f"# sbx.h\n\n{prose}\n"]
    unnamed = list[str]()

    def shown() -> str:
        block = "\n\n".join(unnamed)
        unnamed.clear()
        return f"\n```c\n{block}\n```\n" if block else ""

    for block in re.split(r"\n\n+(?=//|typedef|struct|enum)", text[rules.end() :]):
        name = re.search(r"^(?:[a-z].*?\b\*?(sbx_\w+)\(|(?:typedef )?(?:struct|enum) (sbx_\w+))", block, re.MULTILINE)
        if name:
            made.append(f"{shown()}\n## {next(filter(None, name.groups()))}\n")
        unnamed.append(block.strip())
        if name:
            made.append(shown())
    return "".join([*made, shown()])


def cpp(root: Path) -> str:
    return f"# sbx.hpp\n\n```cpp\n{(root / 'examples/cpp/sbx.hpp').read_text()}```\n"


def node(root: Path) -> str:
    """sbx.d.ts: each export, with its comment."""
    text = (root / "examples/node/sbx.d.ts").read_text()
    made = ["# sbx.d.ts\n"]
    for block in re.split(r"\n(?=(?:/\*\*(?:(?!\*/)[\s\S])*\*/\n)?export )", text):
        kinds = "class|interface|type|function|const|enum"
        name = re.search(rf"^export (?:declare )?(?:abstract )?(?:{kinds}) (\w+)", block, re.MULTILINE)
        made.append(f"\n## {name[1]}\n" if name else "")
        made.append(f"\n```ts\n{block.strip()}\n```\n")
    return "".join(made)


def go(root: Path) -> str:
    shown = subprocess.run(["go", "doc", "-all", "."], cwd=root / "examples/go", check=True, capture_output=True, text=True)
    made, block = ["# The Go package\n"], list[str]()

    def ended() -> str:
        text = "\n".join(block).strip()
        block.clear()
        return f"\n```go\n{text}\n```\n" if text else ""

    for line in shown.stdout.splitlines():
        if name := re.match(r"(?:func (?:\(\w+ \*?(\w+)\) )?(\w+)|type (\w+))", line):
            receiver, function, kind = name.groups()
            made.append(f"{ended()}\n## {f'{receiver}.{function}' if receiver else function or kind}\n")
        elif re.fullmatch(r"[A-Z]{5,}", line):  # CONSTANTS, FUNCTIONS, TYPES
            made.append(ended())
            continue
        block.append(line)
    return "".join([*made, ended()])


def python(root: Path) -> str:
    """The package's public names, in the order of its modules, from the sources: nothing is imported."""
    package = root / _PACKAGE
    beginning = ast.parse((package / "__init__.py").read_text())
    made = [f"# The Python package\n\n{_docstring(beginning)}\n"]
    for statement in beginning.body:
        if isinstance(statement, ast.ImportFrom):
            module = _module(package, statement.module or "")
            wanted = [each.name for each in statement.names]
            if wanted == ["*"]:
                wanted = [each.name for each in module.body if isinstance(each, ast.ClassDef)]
            for name in wanted:
                made.append(_entry(module, package / (statement.module or ""), name))
    return "".join(made)


def rust() -> str:
    return "# Rust\n\nThe crate's documentation, as rustdoc makes it: [sbx](../rust/sbx/index.html).\n"


def _module(package: Path, name: str) -> ast.Module:
    file = package / f"{name}.py"
    return ast.parse((file if file.exists() else package / name / "__init__.py").read_text())


def _docstring(node: ast.AST) -> str:
    text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    # What is indented in it is code.
    return re.sub(r"(?m)((?:^    .*\n?|^\n(?=    ))+)", lambda code: f"```python\n{_dedented(code[0])}\n```\n", text)


def _dedented(text: str) -> str:
    return "\n".join(line[4:] for line in text.strip("\n").splitlines())


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    arguments = ast.unparse(function.args)
    arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    line = f"{name}({arguments}){returns}"
    if len(line) > 110:
        line = f"{name}(\n    " + ",\n    ".join(_split(arguments)) + f",\n){returns}"
    return line


def _split(arguments: str) -> Iterator[str]:
    """At the commas that are in no brackets."""
    depth, at = 0, 0
    for index, letter in enumerate(arguments):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            yield arguments[at:index].strip()
            at = index + 1
    yield arguments[at:].strip()


def _entry(module: ast.Module, place: Path, name: str) -> str:
    """A class or a function. One that a package only passes on is in the module that it imports it from."""
    for statement in module.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _class(module, statement)
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == name:
            return f"\n## {name}\n\n```python\n{_signature(statement, name)}\n```\n\n{_docstring(statement)}\n"
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            if work := _work(module, statement):
                return f"\n## {name}\n\n```python\n{_signature(work, name)}\n```\n\n{_docstring(work)}\n"
        if isinstance(statement, ast.ImportFrom) and any(name == each.name for each in statement.names):
            file = place / f"{statement.module}.py"
            if statement.level == 1 and file.exists():
                return _entry(ast.parse(file.read_text()), place, name)
    raise SystemExit(f"{place}: {name} isn't found there")


def _work(module: ast.Module, statement: ast.Assign) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function of `name = Method(function)`."""
    value = statement.value
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Method"):
        return None
    named = ast.unparse(value.args[0])
    found = (each for each in module.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return next((each for each in found if each.name == named), None)


def _class(module: ast.Module, node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(each) for each in node.bases)
    made = [f"\n## {node.name}\n\n```python\nclass {node.name}{f'({bases})' if bases else ''}\n```\n\n{_docstring(node)}\n"]
    for member in node.body:
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            made.append(f"\n* `{ast.unparse(member)}`\n")
        work, name = member, getattr(member, "name", "")
        if isinstance(member, ast.Assign):
            name, work = ast.unparse(member.targets[0]), _work(module, member)
        if not isinstance(work, (ast.FunctionDef, ast.AsyncFunctionDef)) or name.startswith("_"):
            continue
        decorators = {ast.unparse(each) for each in work.decorator_list}
        awaits = "both" in decorators or isinstance(member, ast.Assign)
        is_value = {"property", "functools.cached_property"} & decorators and work.returns
        shown = f"{name}: {ast.unparse(work.returns)}" if is_value and work.returns else _signature(work, name)
        shown += "  # and .aio" if awaits else ""
        made.append(f"\n### {node.name}.{name}\n\n```python\n{shown}\n```\n\n{_docstring(work)}\n")
    return "".join(made)
