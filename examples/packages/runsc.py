"""The wheel libsbx-runsc, which carries gVisor's runsc: python3 runsc.py RUNSC THIRD-PARTY DIRECTORY"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from build_backend import platform_tag, write_wheel  # noqa: E402

runsc, notices, directory = map(Path, sys.argv[1:])
data = runsc.read_bytes()
said = subprocess.run([str(runsc), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
# Such as v0.0.0-20260905035102-160fafc42237, or release-20260901.0.
dated = re.search(r"(20\d{6})(?:\.(\d+))?", said)
if dated is None:
    sys.exit(f"error: {runsc} doesn't say of which day it is: {said!r}")
version = f"{dated[1]}.{dated[2] or 0}"
digest = hashlib.sha256(data).hexdigest()
license = (Path(__file__).resolve().parents[2] / "LICENSE-APACHE").read_bytes()
metadata = f"""Metadata-Version: 2.4
Name: libsbx-runsc
Version: {version}
Summary: gVisor's runsc for libsbx
License-Expression: Apache-2.0
License-File: LICENSE-APACHE
License-File: THIRD-PARTY
Classifier: Operating System :: POSIX :: Linux
Requires-Python: >=3.9
Description-Content-Type: text/markdown

gVisor's `runsc`, for the package libsbx, which finds it by itself unless `SBX_RUNSC` names another.

{said.splitlines()[0]}, SHA-256 {digest}.

When gVisor mends a security bug, install the later version of this package, or name a later runsc in `SBX_RUNSC`.
"""
package = f'"""gVisor\'s runsc: {said.splitlines()[0]}, SHA-256 {digest}."""\n'
files = {"libsbx_runsc/__init__.py": package.encode(), "libsbx_runsc/py.typed": b"", "libsbx_runsc/runsc": data}
texts = {"LICENSE-APACHE": license, "THIRD-PARTY": notices.read_bytes()}
programs = frozenset({"libsbx_runsc/runsc"})
tag = platform_tag(runsc)
print(write_wheel(str(directory), "libsbx_runsc", version, metadata, tag, files, programs, texts))
