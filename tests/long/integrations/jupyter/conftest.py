"""Kernels of a server: ipykernel in a sandbox with the host's python3, its packages mounted."""

import json
from pathlib import Path

import ipykernel
import pytest

PACKAGES = str(Path(ipykernel.__file__).parents[1])


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory):
    directory = tmp_path_factory.mktemp("jupyter")
    programs = {"sandboxed": "python3", "user": "python3", "missing": "no-such-program"}
    for name, config in (("sandboxed", {}), ("user", {"user": "nobody", "workdir": "/"}), ("missing", {})):
        place = directory / "kernels" / name
        place.mkdir(parents=True)
        spec = {
            "argv": [programs[name], "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPCompleter.use_jedi=False"],
            "display_name": "Python in a sandbox",
            "language": "python",
            "env": {"PYTHONPATH": "/opt/packages", "GIVEN": "to ${USER_OF_TEST}"},
            "metadata": {
                "kernel_provisioner": {
                    "provisioner_name": "libsbx",
                    "config": {"mounts": {"/opt/packages": PACKAGES}, **config},
                }
            },
        }
        (place / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(directory))
        patch.setenv("USER_OF_TEST", "somebody")
        patch.setenv("SECRET_OF_TEST", "secret")
        yield
