"""What images are built from: Dockerfile text that Image's methods put together, and what belongs to it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence, Tuple, Union

from .arguments import PATH, items, pairs, refuse, services
from .config import Secret
from .exception import InvalidError, NotFoundError, UnimplementedError
from .native import Draft
from .policy import draft_policy

Ignore = Union[Sequence[str], Callable[[Path], bool]]
#: The directory that COPY takes files from, and the patterns that replace its .dockerignore.
Context = Tuple[str, Union[Ignore, None]]

# What the sandboxes of steps may reach, with the parameters of Sandbox.create(); block_network is true by default.
_NETWORK = (
    "block_network outbound_cidr_allowlist outbound_domain_allowlist outbound_cidr_denylist outbound_local_cidrs "
    "outbound_tls_ports outbound_dns host_services nameservers"
).split()
_PATTERNS = "strings, which are patterns, or a function that is called with each path"
_LISTS = ("outbound_cidr_allowlist", "outbound_domain_allowlist")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_default: Mapping[str, Any] = {}


@dataclass
class Layer:
    """Some steps, and what they need beside the image below."""

    #: Instructions, or what returns them when they are to be carried out.
    texts: list[str | Callable[[], str]]
    secrets: dict[str, bytes] = field(default_factory=dict)
    #: None where no program is run.
    network: Mapping[str, Any] | None = None
    contexts: dict[str, str] = field(default_factory=dict)
    context: Context | None = None
    args: dict[str, str] = field(default_factory=dict)
    force: bool = False
    #: Whether it is a Dockerfile of its own.
    alone: bool = False

    def read(self) -> tuple[str, list[str] | None]:
        """Its instructions, and the patterns in the place of a .dockerignore. Asks the functions among them, so it may take
        long: in a thread, right before the library reads the files."""
        text = "".join(each if isinstance(each, str) else each() for each in self.texts)
        directory, ignore = self.context or ("", None)
        return text, None if ignore is None else ignored(directory, ignore)

    def joined(self, other: Layer) -> Layer | None:
        """Both in one build, if they can be."""
        network = self.network if other.network is None else other.network
        context = self.context or other.context
        secrets, contexts = {**self.secrets, **other.secrets}, {**self.contexts, **other.contexts}
        differ = self.network not in (None, network) or other.context not in (None, context)
        differ = differ or self.force != other.force or secrets != {**other.secrets, **self.secrets}
        if differ or self.alone or other.alone:
            return None
        return Layer([*self.texts, *other.texts], secrets, network, contexts, context, force=self.force)


def joined(layers: Iterable[Layer]) -> list[Layer]:
    """As few as can be."""
    builds: list[Layer] = []
    for layer in layers:
        both = builds[-1].joined(layer) if builds else None
        builds[-1:] = [both] if both else [*builds[-1:], layer]
    return builds


def checked_network(given: Mapping[str, Any], of: str) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        if name in _NETWORK:
            found[name] = value
        elif name not in ("gpu", "volumes"):
            raise TypeError(f"{of} got an unexpected keyword argument {name!r}")
        elif value:
            raise UnimplementedError(f"{of}: {name}=... is not supported: there is no such thing in builds")
    return found


def set_default_network(network: Mapping[str, Any]) -> None:
    global _default
    _default = network


def policy_of(network: Mapping[str, Any] | None) -> dict[str, Any]:
    """With what holds where nothing was said. A list that says what is allowed opens what it names, and a service of the
    host's opens nothing else."""
    chosen = dict(network or _default)
    if chosen.get("host_services") and "block_network" not in chosen:
        chosen.setdefault("outbound_cidr_allowlist", [])
    chosen.setdefault("block_network", all(chosen.get(name) is None for name in _LISTS))
    return chosen


def fill_config(config: Draft, network: Mapping[str, Any]) -> None:
    names = (*_LISTS, "outbound_cidr_denylist", "outbound_local_cidrs")
    ranges, domains, denied, near = (network.get(name) for name in names)
    ports, dns = network.get("outbound_tls_ports") or (), network.get("outbound_dns")
    with draft_policy(network["block_network"], ranges, domains, denied, near, ports, dns) as policy:
        config.set("set_policy", policy.handle)
    for number, address in services("host_services", network.get("host_services")):
        config.set("add_host_service", number, address, name=f"host_services[{number}]")
    for server in items("nameservers", network.get("nameservers") or ()):
        config.set("add_nameserver", server, name="nameservers")


def flat(name: str, values: Sequence[Any]) -> list[str]:
    """Strings, and lists of them, in one list."""
    found: list[str] = []
    for value in values:
        found += [value] if isinstance(value, str) else items(name, value)
    return found


def secrets_of(secrets: Any) -> dict[str, bytes]:
    rule = "Secrets, as Secret.from_dict() makes them"
    values: dict[str, bytes] = {}
    for secret in () if secrets is None else items("secrets", secrets, Secret, rule, hidden=True):
        for name, value in secret._values.items():
            if not _NAME.fullmatch(name):
                raise InvalidError(f"secrets[{name!r}]: in a build a name has letters, digits and _, and no digit first")
            values[name] = value.encode("utf-8", "surrogateescape")
    return values


def run(command: str, secrets: Iterable[str] = (), env: Mapping[str, str | None] | None = None) -> str:
    """A RUN for the image's shell, in which secrets are variables of this one program, and so are others."""
    mounts = "".join(f"--mount=type=secret,id={name},required=true,mode=0444 " for name in secrets)
    # A file's last line feeds are part of a secret; $() would drop them.
    before = [f'{name}="$(cat /run/secrets/{name}; echo .)"; export {name}="${{{name}%.}}"; ' for name in secrets]
    before += [f"export {name}={shlex.quote(value)}; " for name, value in pairs("env", env) if valid(name)]
    text = "".join(before) + command
    simple = "\n" not in text and "<<" not in text and text.strip() == text and not text.endswith("\\")
    if simple and text and not text.startswith(("[", "--", "#")):
        return f"RUN {mounts}{text}\n"
    end = "END"
    while end in text:
        end += "_"
    # A comment in the place of a first line that docker reads itself.
    text = ":\n" + text if text.startswith("#!") else text
    return f"RUN {mounts}<<{end}\n{text}\n{end}\n"


def valid(name: str) -> bool:
    if not _NAME.fullmatch(name):
        refuse("env", "a dict whose keys are names of shell variables", name)
    return True


def variables(name: str, values: Mapping[str, str]) -> str:
    """ENV with values as they are."""
    return "".join(f"ENV {word(key, name)}={word(value, name)}\n" for key, value in pairs(name, values))


def word(text: str, name: str) -> str:
    """A word that a Dockerfile takes as it is."""
    if not isinstance(text, str) or "\n" in text or "\0" in text:
        refuse(name, "strings of one line", text)
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def array(instruction: str, words: Sequence[str]) -> str:
    return f"{instruction} {json.dumps(list(words), ensure_ascii=False)}\n"


def copy(source: str, place: str, directory: str | os.PathLike[str], ignore: Ignore = ()) -> Layer:
    """COPY of something below a directory of this machine's, to a path as it is."""
    path = os.path.abspath(os.fspath(directory))
    name = "files-" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    # The words are read as patterns behind their quotes and variables.
    source = re.sub(r"([*?\[\\])", lambda found: "[\\\\]" if found[1] == "\\" else f"[{found[1]}]", source)
    words = [re.sub(r"([\\\"'$])", r"\\\1", each) for each in (source, place)]

    def text() -> str:
        options = "".join(f" --exclude={word(each, 'ignore')}" for each in ignored(path, ignore))
        return array(f"COPY --from={name}{options}", words)

    return Layer([text if callable(ignore) else text()], contexts={name: path})


def local(name: str, value: Any) -> str:
    if not isinstance(value, PATH):
        refuse(name, "a path", value)
    found = os.fspath(value)
    return found if isinstance(found, str) else os.fsdecode(found)


def absolute(name: str, value: Any) -> str:
    return os.path.abspath(local(name, value))


def context(directory: str | os.PathLike[str] | None, ignore: Ignore | None) -> Context:
    patterns = ignore if ignore is None or callable(ignore) else items("ignore", ignore, rule=_PATTERNS)
    return absolute("context_dir", directory or os.getcwd()), patterns


def remote(name: str, value: Any) -> str:
    text = str(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        refuse(name, "a path in the image", value)
    return text


def module(name: str) -> tuple[list[str], str | None]:
    """The directories of a package of this program's, or the file of a module."""
    if not name.isidentifier():
        refuse("modules", "names of modules, without a dot", name)
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:
        rule = "a script that was started, or a module without __spec__, can't be imported in a sandbox"
        raise InvalidError(f"modules: {name!r}: {rule}") from None
    if spec is None:
        raise NotFoundError(f"modules: there is no module {name!r} here")
    if spec.submodule_search_locations:
        return list(spec.submodule_search_locations), None
    if not (spec.origin or "").endswith(".py"):
        raise InvalidError(f"modules: {name!r} has no source")
    return [], spec.origin


def ignored(directory: str, ignore: Ignore) -> list[str]:
    """Patterns for what a function says of files and links by their paths below a directory; a list has them already."""
    if not callable(ignore):
        return items("ignore", ignore, rule=_PATTERNS)
    found: dict[str, list[str]] = {}
    kept: set[str] = set()
    for top, directories, files in os.walk(directory):
        directories.sort()
        below = Path(top).relative_to(directory)
        links = [name for name in directories if os.path.islink(os.path.join(top, name))]
        for file in sorted(files + links):
            path = below / file
            if ignore(path):
                found.setdefault(str(below), []).append(str(path))
            else:
                kept.update(str(each) for each in path.parents)
        if not files and not directories:
            kept.update(map(str, (below, *below.parents)))
    if found and "." not in kept:
        return ["**"]
    # A directory with nothing that is kept is one pattern, and what is in it none.
    dropped = [path for each in found if each not in kept for path in (Path(each), *Path(each).parents)]
    paths = {str(path) for path in dropped if str(path) not in kept and str(path.parent) in kept}
    paths.update(path for each, files in found.items() if each in kept for path in files)
    # Space at the end of a pattern isn't a part of it, unless it is in a class.
    # No pattern can have a line feed, and a ? stands for any character.
    escaped = (re.sub(r"([*?\[\]\\])", r"\\\1", path).replace("\n", "?") for path in paths)
    return sorted("/" + re.sub(r"(\s)\Z", r"[\1]", path) for path in escaped)
