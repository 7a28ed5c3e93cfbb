"""Volumes: named directories that outlive sandboxes, shared by all of the user's programs."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping, NoReturn

from . import native
from .arguments import refuse
from .exception import NotFoundError, UnimplementedError
from .hub import the_hub
from .native import call, coded, decoded, filled, library
from .operation import Operation
from .waiting import Method, both


@dataclass(frozen=True)
class VolumeInfo:
    """What is known of a volume. `path` is its directory on this machine; what sandboxes wrote there is theirs: follow no
    links in it, and trust no content."""

    name: str
    path: Path
    created_at: datetime
    in_use: bool


async def _volumes(begin: str, *arguments: Any) -> list[VolumeInfo]:
    operation, volumes = Operation(the_hub(), begin, None, *arguments), ctypes.c_void_p()
    await operation.end()
    call("operation_volumes", operation.handle, ctypes.byref(volumes))
    try:
        count = library.sbx_volume_list_count(volumes)
        return [_info(filled("volume_list_entry", "volume_summary", volumes, index)) for index in range(count)]
    finally:
        library.sbx_volume_list_free(volumes)


def _info(summary: Any) -> VolumeInfo:
    created = datetime.fromtimestamp(summary.created_ms / 1000, timezone.utc)
    return VolumeInfo(decoded(summary.name) or "", Path(decoded(summary.path) or ""), created, bool(summary.in_use))


async def _create(
    name: str, *, allow_existing: bool = False, version: object = None, environment_name: object = None, client: object = None
) -> None:
    """Makes a volume. One that exists is an error, unless that is allowed."""
    flags = 0 if allow_existing else native.VOLUME_EXCLUSIVE
    await _volumes("volume_create_begin", coded("name", name), flags)


async def _list(*, environment_name: object = None, client: object = None) -> list[Volume]:
    """The volumes, by name."""
    return [Volume(info.name) for info in await _volumes("volume_list_begin")]


async def _delete(
    name: str, *, allow_missing: bool = False, environment_name: object = None, client: object = None
) -> None:
    """Removes a volume with everything in it. Refused while a sandbox of any of the user's programs has it mounted."""
    try:
        await Operation(the_hub(), "volume_remove_begin", None, coded("name", name)).end()
    except NotFoundError:
        if not allow_missing:
            raise


class VolumeManager:
    """What there is: Volume.objects."""

    create = Method(_create)
    list = Method(_list)
    delete = Method(_delete)


@dataclass(frozen=True)
class Volume:
    """A named directory that outlives sandboxes: Sandbox.create(volumes={"/data": volume}). Several sandboxes may have it
    at once; what one writes, the others see at once, so that they trust each other with it."""

    name: str
    _create: bool = False
    _read_only: bool = False
    _sub_path: str | None = None
    _create_sub_path: bool = False

    @staticmethod
    def from_name(
        name: str, *, create_if_missing: bool = False, namespace: object = None, environment_name: object = None,
        version: object = None, client: object = None,
    ) -> Volume:  # fmt: skip
        """The volume of this name: 1 to 64 of a-z 0-9 . _ -, and no dot first. It is looked for, or made, when a sandbox
        is created with it. The other parameters are Modal's, and ignored."""
        coded("name", name)
        return Volume(name, _create=create_if_missing)

    def read_only(self) -> Volume:
        """The same, which a sandbox can't write to."""
        return replace(self, _read_only=True)

    def with_mount_options(
        self, *, read_only: bool | None = None, sub_path: str | None = None, create_sub_path: bool = False
    ) -> Volume:
        """The same: read-only or not, and of it only a directory, which `create_sub_path` makes where it is missing."""
        if not isinstance(sub_path, (str, type(None))):
            refuse("sub_path", "a relative path", sub_path)
        only = self._read_only if read_only is None else read_only
        path = self._sub_path if sub_path is None else sub_path.strip("/")
        return replace(self, _read_only=only, _sub_path=path, _create_sub_path=create_sub_path)

    @both
    async def info(self) -> VolumeInfo:
        """What is known of it; it is made if it may be."""
        name = coded("name", self.name)
        found = await (_volumes("volume_create_begin", name, 0) if self._create else _volumes("volume_find_begin", name))
        return found[0]

    @both
    async def commit(self) -> None:
        """Nothing: what is written is there for everybody at once."""

    @both
    async def reload(self) -> None:
        """Nothing: what others have written is there."""

    def _flags(self) -> int:
        chosen = {
            native.VOLUME_READ_ONLY: self._read_only, native.VOLUME_CREATE: self._create,
            native.VOLUME_CREATE_SUB_PATH: self._create_sub_path,
        }  # fmt: skip
        return sum(flag for flag, is_set in chosen.items() if is_set)

    objects = VolumeManager()
    delete = Method(_delete)


def _not_here(name: str) -> Any:
    def refused(*_: object, **__: object) -> NoReturn:
        raise UnimplementedError(
            f"Volume.{name}() is not here: a volume is a directory of this machine, Volume.info().path; work there, or in a "
            "sandbox that has it"
        )

    return staticmethod(refused)


for _name in "listdir iterdir read_file remove_file copy_files batch_upload ephemeral rename from_id".split():
    setattr(Volume, _name, _not_here(_name))


def mounted_volumes(values: Any) -> dict[str, Volume]:
    """Volumes by the place inside where they are mounted."""
    rule = "a dict of paths inside, each with a Volume, such as Volume.from_name('data')"
    if not isinstance(values, (Mapping, type(None))):
        refuse("volumes", rule, values)
    for place, volume in (values or {}).items():
        if not isinstance(place, str) or not isinstance(volume, Volume):
            refuse("volumes", rule, values)
    return dict(values or {})
