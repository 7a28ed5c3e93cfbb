"""Lists what is compiled into a package, with the licences' texts: python3 notices.py cargo | python3 notices.py go RUNSC

"cargo" lists the Rust packages in libsbx and its keeper (in the checkout's root); "go" the modules in a Go program.
A package without any licence's text is an error, unless its metadata name the licence.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

# The names of files with texts that have to come along.
_TEXTS = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)", re.I)


def _said(*command, **how):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **how).stdout


def rust_packages():
    """Name, version, licence and directory of each package that is in the library or in the keeper."""
    host = re.search(r"^host: (.*)$", _said("rustc", "-vV"), re.M)[1]
    said = _said("cargo", "metadata", "--format-version", "1", "--locked", "--all-features", "--filter-platform", host)
    metadata = json.loads(said)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    # Members are the library and the keeper's program.
    members, found = set(metadata["workspace_members"]), set()
    left = list(members)
    while left:
        node = nodes[left.pop()]
        for needed in node["deps"]:
            ordinary = any(kind["kind"] is None for kind in needed["dep_kinds"])
            if ordinary and needed["pkg"] not in found:
                found.add(needed["pkg"])
                left.append(needed["pkg"])
    for package in (packages[each] for each in sorted(found - members)):
        license = package["license"] or ""
        yield package["name"], package["version"], license, Path(package["manifest_path"]).parent


def go_modules(program):
    """The same of the modules in a Go program, Go's own library first."""
    lines = [line.split("\t") for line in _said("go", "version", "-m", program).splitlines()]
    root = Path(_said("go", "env", "GOROOT").strip())
    yield "Go's standard library", lines[0][0].rpartition(" ")[2], "BSD-3-Clause", root
    for line in lines:
        if line[1:2] == ["dep"]:
            module = json.loads(_said("go", "mod", "download", "-json", f"{line[2]}@{line[3]}", cwd="/"))
            yield line[2], line[3], "", Path(module["Dir"])


def main():
    found = rust_packages() if sys.argv[1] == "cargo" else go_modules(sys.argv[2])
    texts, lines = {}, []
    for name, version, license, directory in found:
        files = sorted(path for path in directory.iterdir() if path.is_file() and _TEXTS.match(path.name))
        if not files and not license:
            sys.exit(f"error: {name} {version} has neither a licence's text nor a name of one")
        lines.append(f"{name} {version}{license and ': ' + license}")
        for path in files:
            text = path.read_text(errors="replace").strip()
            texts.setdefault(text, []).append(f"{name} {version}, {path.name}")
    print("\n".join(lines))
    for text, places in texts.items():
        print(f"\n{'-' * 80}\n{chr(10).join(places)}\n\n{text}")


main()
