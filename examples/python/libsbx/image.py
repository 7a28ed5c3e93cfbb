"""Images: root file systems with their settings, in a store that all of the user's programs share."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Mapping, NoReturn, Sequence

from . import native
from .arguments import PATH, items, refuse, whole
from .exception import InvalidError, UnimplementedError
from .hub import guarded, the_hub
from .native import call, coded, decoded, filled, library
from .operation import Operation
from .waiting import Method, both

#: What is called with the bytes done and the bytes in all.
Progress = Callable[[int, int], object]

_FORMATS = dict(
    auto=native.IMAGE_FORMAT_AUTO, oci=native.IMAGE_FORMAT_OCI, docker=native.IMAGE_FORMAT_DOCKER,
    tarball=native.IMAGE_FORMAT_TARBALL, directory=native.IMAGE_FORMAT_DIRECTORY,
)  # fmt: skip
_BUILDS = (
    "images are not built here: build one elsewhere (docker build, buildah), push it and use Image.from_registry(), or "
    "save it (docker save) and use Image.from_path()"
)
_STEPS = (
    "dockerfile_commands run_commands run_function pip_install pip_install_from_pyproject pip_install_from_requirements "
    "pip_install_private_repos poetry_install_from_file uv_pip_install uv_sync apt_install micromamba_install "
    "add_local_file add_local_dir add_local_python_source env workdir entrypoint cmd shell imports"
).split()
_SOURCES = "from_dockerfile debian_slim micromamba from_scratch from_gcp_artifact_registry from_aws_ecr".split()


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

    Nothing happens before it is needed, or `pull()` is called: then it is pulled, imported or found, once for this
    object. It doesn't change after that, and stays usable when it is removed from the store.
    """

    def __init__(self, what: str, begin: str, arguments: Sequence[Any], progress: Progress | None) -> None:
        self._what, self._begin, self._arguments, self._progress = what, begin, arguments, progress
        self._stored: _Stored | None = None

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
        for name, value in dict(add_python=add_python, force_build=force_build).items():
            if value:
                raise UnimplementedError(f"Image.from_registry({name}=...): {_BUILDS}")
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

    @both
    async def pull(self) -> Image:
        """Pulls, imports or finds it now, and returns it. A wait that is given up (Ctrl-C, asyncio's cancel) ends that,
        and nothing of it stays."""
        await self._open()
        return self

    #: Modal's name for the same.
    build = pull

    async def _open(self) -> _Stored:
        stored = self._stored
        if stored is None:
            with _Shown(self._what, self._progress) as shown:
                operation = Operation(the_hub(), self._begin, None, *self._arguments, progress=shown.report)
                try:
                    await operation.end()
                except BaseException:
                    operation.cancel()
                    raise
                stored = self._stored = _Stored("operation_image", operation.handle)
        return stored

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


def _not_built(name: str) -> Any:
    def refused(*_: object, **__: object) -> NoReturn:
        raise UnimplementedError(f"Image.{name}(): {_BUILDS}")

    return staticmethod(refused)


for _name in _SOURCES + _STEPS:
    setattr(Image, _name, _not_built(_name))


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
