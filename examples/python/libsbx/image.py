"""Images: root file systems with their settings, in a store that all of the user's programs share."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import sys
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NoReturn, Sequence

from . import native, recipe
from .arguments import PATH, items, pairs, refuse, whole
from .exception import Error, ImageError, InvalidError, NotFoundError, UnimplementedError
from .hub import guarded, the_hub
from .native import Draft, array, call, coded, decoded, filled, library
from .operation import Operation
from .recipe import Context, Ignore, Layer
from .waiting import Method, both, in_thread, new_future, settle, until

#: What is called with the bytes done and the bytes in all.
Progress = Callable[[int, int], object]

_FORMATS = dict(
    auto=native.IMAGE_FORMAT_AUTO, oci=native.IMAGE_FORMAT_OCI, docker=native.IMAGE_FORMAT_DOCKER,
    tarball=native.IMAGE_FORMAT_TARBALL, directory=native.IMAGE_FORMAT_DIRECTORY,
)  # fmt: skip
_INSTEAD = "write it with run_commands() or dockerfile_commands(), or build it elsewhere and use from_registry() or from_path()"
_NOT_HERE = (
    "run_function pip_install_from_pyproject pip_install_private_repos poetry_install_from_file uv_sync micromamba_install "
    "imports micromamba from_gcp_artifact_registry from_aws_ecr"
).split()
#: What the library says of a step that failed without a network, and what to do in Python's words.
_NO_NETWORK = "so its programs have no network"
_REMEDY = (
    " (block_network=False or outbound_domain_allowlist=[...] where the step is added, or Image.set_build_network(...) for "
    "all builds of this program)"
)
_LONGEST_LINE = 64 * 1024
_outputs: list[Callable[[str], object]] = []


@contextlib.contextmanager
def enable_output(show_progress: bool | None = None, *, output: Callable[[str], object] | None = None) -> Iterator[None]:
    """Within it, builds say what they do and what their programs print, a line a call of `output` or on stderr.
    `show_progress` is Modal's, and ignored."""
    shown = output or (lambda line: print(line, file=sys.stderr, flush=True))
    _outputs.append(shown)
    try:
        yield
    finally:
        _outputs.remove(shown)


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image in the store. `source` is where it came from, for people; `size` is in bytes."""

    object_id: str
    tags: tuple[str, ...]
    source: str
    size: int
    created: datetime
    last_used: datetime


class _Stored:
    """A handle of the library's: an image, opened."""

    def __init__(self, place: str, owner: ctypes.c_void_p) -> None:
        self.handle = ctypes.c_void_p()
        call(place, owner, ctypes.byref(self.handle))
        weakref.finalize(self, library.sbx_image_free, self.handle)
        summary = filled("image_info", "image_summary", self.handle)
        self.info = _info(summary)
        self.config: dict[str, Any] = json.loads(decoded(summary.config) or "{}")

    def has_program(self) -> bool:
        """Whether it says what runs in it. Else it waits for exec(), as a sandbox without a command does."""
        said = self.config.get("config") or {}
        return bool(said.get("Entrypoint") or said.get("Cmd"))


class Image:
    """A root file system with its settings: Sandbox.create(image=...).

    Nothing happens before it is needed, or `pull()` or `build()` is called: then it is pulled, imported, found or built,
    once for this object. It doesn't change after that, and stays usable when it is removed from the store.

    Methods such as `pip_install` and `run_commands` are of a new image, this one with one step more. The results of steps
    are stored: a step that was done before on the same image isn't done again, unless it has `force_build=True`. Steps
    reach no network unless they are allowed to, with the parameters of Sandbox.create(): `block_network=False`, or
    `outbound_domain_allowlist=` and the like.
    """

    def __init__(self, what: str, begin: str, arguments: Sequence[Any], progress: Progress | None) -> None:
        self._what, self._begin, self._arguments, self._progress = what, begin, arguments, progress
        self._stored: _Stored | None = None
        self._base: Image | None = None
        self._layer: Layer | None = None
        self._otherwise: Image | None = None

    def __repr__(self) -> str:
        return f"Image({self._what!r})"

    @staticmethod
    def from_registry(
        tag: str, *, username: str | None = None, password: str | None = None, platform: str | None = None,
        mirrors: Mapping[str, str] | None = None, ca_pem: str | None = None, credential_helper: str | None = None,
        progress: Progress | None = None, add_python: str | None = None, force_build: bool = False,
    ) -> Image:  # fmt: skip
        """An image of a registry, named as docker does: "python:3.12". What the store has already is not downloaded again.

        Without a user the one of ~/.docker/config.json is taken. `mirrors` (registry -> host) are asked first, `ca_pem`
        is trusted beside the system's authorities. `progress` is called with the bytes done and in all, in a thread of
        the package; without one a terminal at stderr shows a bar.
        """
        if add_python:
            raise UnimplementedError(f"Image.from_registry(add_python=...): {_INSTEAD}")
        if mirrors is not None and not isinstance(mirrors, Mapping):
            refuse("mirrors", "a dict of registries, each with the host that is asked for it", mirrors)
        lines = "\n".join(f"{registry}={host}" for registry, host in (mirrors or {}).items()) or None
        texts = dict(username=username, password=password, platform=platform, ca_pem=ca_pem)
        options = _options(**texts, credential_helper=credential_helper, mirrors=lines)
        arguments = [coded("tag", tag), ctypes.byref(options)]
        return Image(tag, "image_pull_begin", arguments, progress)

    @staticmethod
    def from_path(
        path: str | os.PathLike[str], *, kind: str = "auto", tag: str | None = None, select: str | None = None,
        platform: str | None = None, progress: Progress | None = None,
    ) -> Image:  # fmt: skip
        """An image that is in files: an OCI layout (a directory, or a tar archive of it), an archive of `docker save`, a
        tar archive of a root file system, or a directory that is one. `kind` says which ("oci", "docker", "tarball",
        "directory"), where it isn't to be found out; `select` names one image where there are several; `tag` is the
        name that it is stored under."""
        if kind not in _FORMATS:
            refuse("kind", f"one of {', '.join(_FORMATS)}", kind)
        if not isinstance(path, PATH):
            refuse("path", "a path", path)
        options = _options(format=_FORMATS[kind], tag=tag, select=select, platform=platform)
        arguments = [coded("path", path), -1, ctypes.byref(options)]
        return Image(os.fspath(path), "image_import_begin", arguments, progress)

    @staticmethod
    def from_name(name: str) -> Image:
        """An image of the store, by one of its names."""
        return Image(name, "image_find_begin", [coded("name", name)], None)

    @staticmethod
    def from_id(image_id: str) -> Image:
        """An image of the store, by its id ("sha256:" and 64 digits) or the beginning of it, at least 12 digits."""
        return Image(image_id, "image_find_begin", [coded("image_id", image_id)], None)

    @staticmethod
    def _of(what: str, place: str, owner: ctypes.c_void_p) -> Image:
        """The image that an operation, or a sandbox, has made."""
        image = Image(what, "image_find_begin", (), None)
        image._stored = _Stored(place, owner)
        return image

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> Image:
        """python:VERSION-slim, by default of the version that runs this: of the store, or else pulled from docker.io."""
        version = python_version or f"{sys.version_info.major}.{sys.version_info.minor}"
        if not isinstance(version, str):
            refuse("python_version", "a string such as '3.12'", version)
        tag = f"python:{version}-slim"
        pulled = Image.from_registry(tag)
        if force_build:
            return pulled
        image = Image.from_name(tag)
        image._what, image._otherwise = f"debian_slim({version!r})", pulled
        return image

    @staticmethod
    def from_scratch() -> Image:
        """An empty image, to add files to."""
        return Image._built("from_scratch()", None, Layer(["FROM scratch\n"]))

    @staticmethod
    def from_dockerfile(
        path: str | os.PathLike[str], *, context_dir: str | os.PathLike[str] | None = None,
        build_args: Mapping[str, str] | None = None, secrets: Any = None, force_build: bool = False,
        contexts: Mapping[str, str | os.PathLike[str]] | None = None, add_python: str | None = None,
        ignore: Ignore | None = None, env: Mapping[str, str | None] | None = None, **network: Any,
    ) -> Image:  # fmt: skip
        """An image that a Dockerfile describes: one stage, of FROM, RUN, COPY, ADD of files, ENV, ARG, WORKDIR, USER, CMD,
        ENTRYPOINT, EXPOSE, LABEL, SHELL and STOPSIGNAL.

        `context_dir` is what it copies from, by default the current directory, with its .dockerignore or, in the place of
        that, `ignore`: patterns as in that file, or a function that is called with each file's path below the directory
        when the build begins, in a thread of the package. `contexts` are further directories, for COPY --from=NAME. Each
        variable of `secrets` is one of the build's: RUN --mount=type=secret,id=NAME.
        """
        for name, value in dict(add_python=add_python, env=env).items():
            if value:
                raise UnimplementedError(f"Image.from_dockerfile({name}=...): write it into the Dockerfile")
        file = Path(recipe.local("path", path))
        try:
            text = file.read_text("utf-8")
        except FileNotFoundError:
            raise NotFoundError(f"path: there is no file {str(file)!r}") from None
        named = {name: recipe.absolute(name, path) for name, path in pairs("contexts", contexts, PATH, "a path")}
        layer = Layer(
            [text], recipe.secrets_of(secrets), recipe.checked_network(network, "Image.from_dockerfile()"), named,
            recipe.context(context_dir, ignore), dict(pairs("build_args", build_args)), force_build, alone=True,
        )  # fmt: skip
        return Image._built(f"from_dockerfile({str(file)!r})", None, layer)

    @staticmethod
    def set_build_network(**network: Any) -> None:
        """What the steps of builds may reach where they don't say: parameters as of Sandbox.create(). Without any it is
        nothing, as at first."""
        recipe.set_default_network(recipe.checked_network(network, "Image.set_build_network()"))

    def run_commands(
        self, *commands: str | Sequence[str], env: Mapping[str, str | None] | None = None, secrets: Any = None,
        force_build: bool = False, **network: Any,
    ) -> Image:  # fmt: skip
        """Runs commands with the image's shell, a step each. The variables of `env` and `secrets` are set for them alone;
        what is in secrets stays out of the image and of the store."""
        values = recipe.secrets_of(secrets)
        text = "".join(recipe.run(each, values, env) for each in recipe.flat("commands", commands))
        return self._then("run_commands()", text, values, network, force_build)

    def pip_install(
        self, *packages: str | Sequence[str], find_links: str | None = None, index_url: str | None = None,
        extra_index_url: str | None = None, pre: bool = False, extra_options: str = "", force_build: bool = False,
        env: Mapping[str, str | None] | None = None, secrets: Any = None, **network: Any,
    ) -> Image:  # fmt: skip
        """Installs Python packages with the image's pip."""
        names = recipe.flat("packages", packages)
        if not names:
            return self
        options = _pip_options(find_links, index_url, extra_index_url, pre, extra_options)
        command = f"python -m pip install {shlex.join(sorted(names))}{options}"
        return self.run_commands(command, env=env, secrets=secrets, force_build=force_build, **network)

    def pip_install_from_requirements(
        self, requirements_txt: str | os.PathLike[str], find_links: str | None = None, *, index_url: str | None = None,
        extra_index_url: str | None = None, pre: bool = False, extra_options: str = "", force_build: bool = False,
        env: Mapping[str, str | None] | None = None, secrets: Any = None, **network: Any,
    ) -> Image:  # fmt: skip
        """Installs what a requirements.txt of this machine's lists."""
        options = _pip_options(find_links, index_url, extra_index_url, pre, extra_options)
        image = self.add_local_file(requirements_txt, "/.requirements.txt")
        command = f"python -m pip install -r /.requirements.txt{options}"
        return image.run_commands(command, env=env, secrets=secrets, force_build=force_build, **network)

    def uv_pip_install(
        self, *packages: str | Sequence[str], find_links: str | None = None, index_url: str | None = None,
        extra_index_url: str | None = None, pre: bool = False, extra_options: str = "", uv_version: str | None = None,
        force_build: bool = False, env: Mapping[str, str | None] | None = None, secrets: Any = None, **network: Any,
    ) -> Image:  # fmt: skip
        """Installs Python packages with uv: the image's, or one that pip installs first."""
        names = recipe.flat("packages", packages)
        if not names:
            return self
        uv = "uv" if uv_version is None else f"uv=={uv_version}"
        first = _pip_options(find_links, index_url, extra_index_url, False, "")
        options = _pip_options(find_links, index_url, extra_index_url, False, "--prerelease allow" if pre else "")
        has_uv = "command -v uv >/dev/null" if uv_version is None else "false"
        command = (
            f"{has_uv} || python -m pip install {shlex.quote(uv)}{first} && "
            f"{{ command -v uv >/dev/null && uv=uv || uv='python -m uv'; }} && "
            f"$uv pip install --python \"$(command -v python)\" --break-system-packages --compile-bytecode "
            f"{shlex.join(sorted(names))}{options}{' ' + extra_options if extra_options else ''}"
        )
        return self.run_commands(command, env=env, secrets=secrets, force_build=force_build, **network)

    def apt_install(
        self, *packages: str | Sequence[str], force_build: bool = False, env: Mapping[str, str | None] | None = None,
        secrets: Any = None, **network: Any,
    ) -> Image:  # fmt: skip
        """Installs packages of Debian or Ubuntu."""
        names = recipe.flat("packages", packages)
        if not names:
            return self
        command = f"apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y {shlex.join(sorted(names))}"
        return self.run_commands(command, env=env, secrets=secrets, force_build=force_build, **network)

    def dockerfile_commands(
        self, *dockerfile_commands: str | Sequence[str], context_dir: str | os.PathLike[str] | None = None, secrets: Any = None,
        force_build: bool = False, ignore: Ignore | None = None, **network: Any,
    ) -> Image:  # fmt: skip
        """Further instructions, as in a Dockerfile behind its FROM. COPY takes files from `context_dir`, by default the
        current directory, but what `ignore` says, as for from_dockerfile()."""
        lines = recipe.flat("dockerfile_commands", dockerfile_commands)
        text, values = "\n".join([*lines, ""]), recipe.secrets_of(secrets)
        context = recipe.context(context_dir, ignore)
        return self._then("dockerfile_commands()", text, values, network, force_build, context)

    def env(self, vars: Mapping[str, str]) -> Image:
        """Sets variables in the environment of everything that runs."""
        return self._then("env()", recipe.variables("vars", vars))

    def workdir(self, path: str | os.PathLike[str]) -> Image:
        """Sets the directory that programs start in."""
        return self._then("workdir()", f"WORKDIR {recipe.word(recipe.remote('path', path), 'path')}\n")

    def entrypoint(self, entrypoint_commands: Sequence[str]) -> Image:
        """Sets the program that the arguments of a sandbox are appended to."""
        return self._then("entrypoint()", recipe.array("ENTRYPOINT", items("entrypoint_commands", entrypoint_commands)))

    def cmd(self, cmd: Sequence[str]) -> Image:
        """Sets what runs in a sandbox that names no program."""
        return self._then("cmd()", recipe.array("CMD", items("cmd", cmd)))

    def shell(self, shell_commands: Sequence[str]) -> Image:
        """Sets the shell of the commands behind it, such as ["/bin/bash", "-c"]."""
        return self._then("shell()", recipe.array("SHELL", items("shell_commands", shell_commands)))

    def add_local_file(
        self, local_path: str | os.PathLike[str], remote_path: str | os.PathLike[str], *, copy: bool = False
    ) -> Image:
        """Copies a file of this machine's to a path in the image, or into a directory if that ends with a slash. The file
        is a part of the image whatever `copy` is."""
        path = Path(recipe.local("local_path", local_path)).expanduser()
        if not path.is_file():
            raise NotFoundError(f"local_path: {str(path)!r} is no file")
        layer = recipe.copy(path.name, recipe.remote("remote_path", remote_path), path.parent)
        return self._built(f"{self._what} with {path.name!r}", self, layer)

    def add_local_dir(
        self, local_path: str | os.PathLike[str], remote_path: str | os.PathLike[str], *, copy: bool = False,
        ignore: Ignore = (),
    ) -> Image:  # fmt: skip
        """Copies what is in a directory of this machine's into one of the image's, but what `ignore` says: patterns as in
        .dockerignore, or a function that is called with each file's path below the directory when the build begins, in a
        thread of the package."""
        path = Path(recipe.local("local_path", local_path)).expanduser()
        if not path.is_dir():
            raise NotFoundError(f"local_path: {str(path)!r} is no directory")
        place = recipe.remote("remote_path", remote_path).rstrip("/") + "/"
        layer = recipe.copy(".", place, path, ignore)
        return self._built(f"{self._what} with {path.name!r}", self, layer)

    def add_local_python_source(self, *modules: str, copy: bool = False, ignore: Ignore | None = None) -> Image:
        """Copies modules that this program can import to /root, where PYTHONPATH finds them: of a package its .py files, or
        all but what `ignore` says. They are a part of the image whatever `copy` is."""
        image = self
        for name in recipe.flat("modules", modules):
            directories, file = recipe.module(name)
            for directory in directories:
                ignored = (lambda path: path.suffix != ".py") if ignore is None else ignore
                image = image.add_local_dir(directory, f"/root/{name}", ignore=ignored)
            image = image if file is None else image.add_local_file(file, "/root/")
        return image._then("add_local_python_source()", 'ENV PYTHONPATH="/root${PYTHONPATH:+:$PYTHONPATH}"\n')

    @staticmethod
    def _built(what: str, base: Image | None, layer: Layer) -> Image:
        image = Image(what, "image_build_begin", (), None)
        image._base, image._layer = base, layer
        return image

    def _then(
        self, what: str, text: str, secrets: dict[str, bytes] | None = None, network: Mapping[str, Any] | None = None,
        force: bool = False, context: Context | None = None,
    ) -> Image:  # fmt: skip
        reach = None if network is None else recipe.checked_network(network, f"Image.{what}")
        layer = Layer([text], secrets or {}, reach, context=context, force=force)
        return self._built(f"{self._what}.{what}", self, layer)

    @both
    async def pull(
        self, app: object = None, *, output: Callable[[str], object] | None = None, progress: Progress | None = None
    ) -> Image:
        """Pulls, imports, finds or builds it now, and returns it. A wait that is given up (Ctrl-C, asyncio's cancel) ends
        that, and nothing of it stays. `output` is called with each line that a build says, and `progress` with the steps
        that are done and all."""
        with enable_output(output=output) if output is not None else contextlib.nullcontext():
            await self._open(progress)
        return self

    #: Modal's name for the same.
    build = pull

    async def _open(self, progress: Progress | None = None) -> _Stored:
        if self._stored is None:
            self._stored = await self._make(progress)
        return self._stored

    async def _make(self, progress: Progress | None) -> _Stored:
        if self._layer is not None:
            return await self._make_steps(progress)
        with _Shown(self._what, progress or self._progress) as shown:
            operation = Operation(the_hub(), self._begin, None, *self._arguments, progress=shown.report)
            try:
                await operation.end()
                return _Stored("operation_image", operation.handle)
            except BaseException as error:
                operation.cancel()
                if self._otherwise is None or not isinstance(error, NotFoundError):
                    raise
        name = self._otherwise._what
        try:
            return await self._otherwise._open(progress)
        except Error as error:
            text = (
                f"{self._what}: {name} is not in the store, and could not be pulled: {error.message}. An archive of it "
                f"(docker save {name}) will do, too: Image.from_path(archive, tag={name!r}).pull()"
            )
            raise type(error)(text, error.code, error.os_error) from None

    async def _make_steps(self, progress: Progress | None) -> _Stored:
        layers: list[Layer] = []
        below: Image | None = self
        while below is not None and below._stored is None and below._layer is not None:
            layers.insert(0, below._layer)
            below = below._base
        stored = None if below is None else await below._open()
        for layer in recipe.joined(layers):
            base = "" if stored is None else f"FROM {stored.info.object_id}\n"
            stored = await self._build(base, layer, progress)
        assert stored is not None
        return stored

    async def _build(self, base: str, layer: Layer, progress: Progress | None) -> _Stored:
        network = recipe.policy_of(layer.network)
        text, patterns = await until(in_thread(layer.read))
        with Draft("build") as build, _Printed(_outputs[-1] if _outputs else None) as printed:
            data = coded("the Dockerfile", base + text)
            build.set("set_dockerfile", data, len(data))
            if layer.context is not None:
                build.set("set_context", layer.context[0])
            if patterns is not None:
                build.set("set_ignore", array("ignore", patterns), len(patterns))
            for name, path in layer.contexts.items():
                build.set("add_context", name, path)
            for name, value in layer.args.items():
                build.set("add_arg", name, value)
            for name, secret in layer.secrets.items():
                build.set("add_secret", name, secret, len(secret))
            with Draft("config") as config:
                recipe.fill_config(config, network)
                build.set("set_config", config.handle)
            if layer.force:
                build.set("set_no_cache")
            if printed.end is not None:
                build.set("set_output_fd", printed.end)
            report = progress or self._progress or (lambda done, total: None)
            operation = Operation(
                the_hub(), self._begin, None, build.handle, progress=lambda *steps: guarded(report, *steps)
            )
        try:
            await operation.end()
        except ImageError as error:
            text = error.message.replace(_NO_NETWORK, _NO_NETWORK + _REMEDY)
            raise ImageError(text, error.code, error.os_error) from None
        except BaseException:
            operation.cancel()
            raise
        finally:
            await until(printed.over)
        return _Stored("operation_image", operation.handle)

    def _now(self) -> _Stored:
        if self._stored is None:
            raise InvalidError(f"{self!r} is not here yet: call its pull() first")
        return self._stored

    @property
    def object_id(self) -> str:
        """Its id: "sha256:" and 64 hexadecimal digits."""
        return self._now().info.object_id

    @property
    def info(self) -> ImageInfo:
        """What was known of it when it was pulled, imported or found."""
        return self._now().info

    @property
    def config(self) -> dict[str, Any]:
        """Its settings, as the OCI image specification has them."""
        return json.loads(json.dumps(self._now().config))  # type: ignore[no-any-return]

    @both
    async def add_tag(self, tag: str) -> None:
        """Gives it one more name. Another image that has that name loses it."""
        stored = await self._open()
        name = stored.info.object_id.encode()
        await Operation(the_hub(), "image_tag_begin", None, name, coded("tag", tag)).end()

    @staticmethod
    async def _list() -> list[ImageInfo]:
        """The images of the store, the one that was used last first."""
        listing, images = Operation(the_hub(), "image_list_begin", None), ctypes.c_void_p()
        await listing.end()
        call("operation_images", listing.handle, ctypes.byref(images))
        try:
            count = library.sbx_image_list_count(images)
            return [_info(filled("image_list_entry", "image_summary", images, index)) for index in range(count)]
        finally:
            library.sbx_image_list_free(images)

    @staticmethod
    async def _remove(name: str) -> None:
        """Removes an image from the store: by one of its names, which is all that goes if it has others; by its id with
        all of its names. Sandboxes that run on it go on."""
        await Operation(the_hub(), "image_remove_begin", None, coded("name", name)).end()

    @staticmethod
    async def _prune(max_bytes: int = 0) -> tuple[int, int]:
        """Removes images, those that were not used for longest first, until the store has at most `max_bytes`. Returns how
        many went, and how many bytes they had."""
        most = whole("max_bytes", max_bytes, 0, (1 << 64) - 1)
        operation = Operation(the_hub(), "image_prune_begin", None, most)
        await operation.end()
        totals = native.new("file_totals")
        call("operation_totals", operation.handle, ctypes.byref(totals))
        return totals.entries, totals.bytes

    list = Method(_list)
    remove = Method(_remove)
    prune = Method(_prune)


def _pip_options(
    find_links: str | None, index_url: str | None, extra_index_url: str | None, pre: bool, extra: str
) -> str:
    urls = {"--find-links": find_links, "--index-url": index_url, "--extra-index-url": extra_index_url}
    words = [f" {option} {shlex.quote(url)}" for option, url in urls.items() if url is not None]
    return "".join(words) + (" --pre" if pre else "") + (f" {extra}" if extra else "")


def _not_here(name: str) -> Any:
    def refused(*_: object, **__: object) -> NoReturn:
        raise UnimplementedError(f"Image.{name}(): {_INSTEAD}")

    return staticmethod(refused)


for _name in _NOT_HERE:
    setattr(Image, _name, _not_here(_name))


class _Printed:
    """What a build says, a line a call, until it has ended."""

    def __init__(self, output: Callable[[str], object] | None) -> None:
        self.end: int | None = None
        self.over = new_future()
        if output is None:
            settle(self.over)
        else:
            source, self.end = os.pipe2(os.O_CLOEXEC)
            self.over = in_thread(self._read, source, output)

    @staticmethod
    def _read(source: int, output: Callable[[str], object]) -> None:
        with open(source, encoding="utf-8", errors="replace") as lines:
            # A line that is longer comes in pieces.
            while line := lines.readline(_LONGEST_LINE):
                guarded(output, line.rstrip("\n"))

    def __enter__(self) -> _Printed:
        return self

    def __exit__(self, *_: object) -> None:
        # The library has a descriptor of its own; with that the end comes.
        if self.end is not None:
            os.close(self.end)


def mounted(name: str, values: Any) -> dict[str, Image]:
    """Images by the place inside where their files are shown."""
    if not isinstance(values, (Mapping, type(None))):
        refuse(name, "a dict of paths inside, each with an Image", values)
    for place, image in (values or {}).items():
        if not isinstance(place, str) or not isinstance(image, Image):
            refuse(name, "a dict of paths inside, each with an Image", values)
    return dict(values or {})


def _options(**given: Any) -> Any:
    fields = {name: coded(name, value) if isinstance(value, str) else value for name, value in given.items()}
    for name, value in fields.items():
        if not isinstance(value, (bytes, int, type(None))):
            refuse(name, "a string", value)
    return native.new("image_options", **{name: value for name, value in fields.items() if value is not None})


def _info(summary: Any) -> ImageInfo:
    times = (datetime.fromtimestamp(each / 1000, timezone.utc) for each in (summary.created_ms, summary.last_used_ms))
    tags = tuple((decoded(summary.tags) or "").splitlines())
    return ImageInfo(decoded(summary.id) or "", tags, decoded(summary.source) or "", summary.bytes, *times)


class _Shown:
    """Where progress goes: to a callback, or to a terminal as a bar."""

    WIDTH = 30

    def __init__(self, what: str, progress: Progress | None) -> None:
        self._what, self._progress, self._drawn = what, progress, False

    def __enter__(self) -> _Shown:
        return self

    def report(self, done: int, total: int) -> None:
        """Called in the hub's thread."""
        if self._progress is not None:
            guarded(self._progress, done, total)
        elif sys.stderr is not None and sys.stderr.isatty():
            part = min(done / total, 1) if total else 0
            bar = "#" * round(part * self.WIDTH)
            sys.stderr.write(f"\r{self._what} [{bar:<{self.WIDTH}}] {done / 1e6:.1f} of {total / 1e6:.1f} MB ")
            sys.stderr.flush()
            self._drawn = True

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\n")
                sys.stderr.flush()
