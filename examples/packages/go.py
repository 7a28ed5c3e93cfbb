"""The Go module as a module proxy serves it, in files: python3 go.py DIRECTORY, then GOPROXY=file://DIRECTORY"""

import json
import re
import sys
import zipfile
from pathlib import Path

top = Path(__file__).resolve().parents[2]
module = top / "examples" / "go"
name = re.search(r"^module (.*)$", (module / "go.mod").read_text(), re.M)[1]
version = "v" + re.search(r'^version = "(.*)"$', (top / "Cargo.toml").read_text(), re.M)[1]
place = Path(sys.argv[1]) / name / "@v"
place.mkdir(parents=True, exist_ok=True)
(place / "list").write_text(f"{version}\n")
(place / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2000-01-01T00:00:00Z"}))
(place / f"{version}.mod").write_bytes((module / "go.mod").read_bytes())
with zipfile.ZipFile(place / f"{version}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(path for path in module.rglob("*") if path.is_file()):
        archive.write(path, f"{name}@{version}/{path.relative_to(module).as_posix()}")
    for text in ("LICENSE-APACHE", "LICENSE-MIT"):
        archive.write(top / text, f"{name}@{version}/{text}")
print(name, version)
