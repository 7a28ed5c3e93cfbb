"""Lists the test executables that cargo built: a line each, name, tab, path.

Reads cargo's messages (--message-format=json-render-diagnostics) from standard input.
"""

import json
import sys

for line in sys.stdin:
    if not line.startswith("{"):
        continue
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message["profile"]["test"]:
        continue
    if message["executable"]:
        target = message["target"]
        unit = "lib" in target["kind"] or "rlib" in target["kind"]
        print("unit" if unit else target["name"], message["executable"], sep="\t")
