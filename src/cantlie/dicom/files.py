"""The files of a case: a folder, nested folders or a zip, opened safely and read one at a time."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cantlie.core.errors import DicomError

MAX_FILES = 100_000
MAX_FILE_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 16 * 1024**3
MAX_RATIO = 200.0
_RATIO_FREE_BYTES = 64 * 1024**2
_CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True, eq=False)
class CaseFile:
    """One file: its name relative to the case, and how to read it."""

    name: str
    size: int
    read: Callable[[], bytes]


def case_files(path: Path) -> tuple[CaseFile, ...]:
    """List the files of a folder (with its sub-folders), a zip or a single DICOM file, in a fixed order.

    Hidden files and the clutter of operating systems are left out. Links to folders are followed, each folder once.

    Raises
    ------
    DicomError
        If the path does not exist or cannot be opened; if a zip is damaged, encrypted, has members that point out of it
        (``../``, absolute paths) or would unpack to an unreasonable size.
    """
    try:
        if path.is_dir():
            return _folder_files(path)
        if not path.is_file():
            raise DicomError(
                "there is no such folder or zip", where=str(path), remedy="give a folder or a zip of DICOM files"
            )
        with path.open("rb") as stream:
            head = stream.read(132)
        if head[:2] == b"PK" or path.suffix.lower() == ".zip":
            return _zip_files(path)
        if head[128:] == b"DICM":
            return (CaseFile(path.name, path.stat().st_size, path.read_bytes),)
    except OSError as error:
        raise DicomError(
            f"the case cannot be opened: {error.strerror or error}", where=str(path), remedy="check its permissions"
        ) from error
    raise DicomError(
        "this is neither a folder nor a zip nor a DICOM file",
        where=str(path),
        remedy="give a folder or a zip of DICOM files",
    )


def _is_clutter(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part in _CLUTTER for part in parts)


def _folder_files(path: Path) -> tuple[CaseFile, ...]:
    found: list[CaseFile] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder that was read already
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            relative = file.relative_to(path)
            if _is_clutter(relative.parts) or not file.is_file():
                continue
            found.append(CaseFile(relative.as_posix(), file.stat().st_size, file.read_bytes))
            if len(found) > MAX_FILES:
                raise DicomError(
                    f"the folder has more than {MAX_FILES} files", where=str(path), remedy="give the folder of one case"
                )
    return tuple(found)


def _zip_files(path: Path) -> tuple[CaseFile, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, zlib.error) as error:
        raise DicomError(f"the zip is damaged: {error}", where=str(path), remedy="pack or download it again") from error
    if len(members) > MAX_FILES:
        raise DicomError(f"the zip has more than {MAX_FILES} files", where=str(path), remedy="pack one case only")
    found: list[CaseFile] = []
    total = 0
    for member in sorted(members, key=lambda member: member.filename):
        where = f"{path}, member {member.filename!r}"
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise DicomError(
                "the zip has a member that points out of its folder", where=where, remedy="do not trust this zip"
            )
        if member.flag_bits & 0x1:
            raise DicomError("the zip is encrypted", where=where, remedy="unpack it with its password first")
        total += member.file_size
        ratio = member.file_size / max(member.compress_size, 1)
        if (
            member.file_size > MAX_FILE_BYTES
            or total > MAX_TOTAL_BYTES
            or (member.file_size > _RATIO_FREE_BYTES and ratio > MAX_RATIO)
        ):
            raise DicomError(
                "the zip would unpack to an unreasonable size", where=where, remedy="unpack it yourself if you trust it"
            )
        if not _is_clutter(name.parts):
            found.append(CaseFile(name.as_posix(), member.file_size, _member_reader(path, member)))
    return tuple(found)


def _member_reader(path: Path, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                return stream.read(member.file_size)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
            raise DicomError(
                f"a file in the zip is damaged: {error}",
                where=f"{path}, member {member.filename!r}",
                remedy="pack or download it again",
            ) from error

    return read
