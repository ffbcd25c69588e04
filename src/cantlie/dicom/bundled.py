"""The real cases that come with Cantlie."""

from __future__ import annotations

import zipfile
from importlib import resources
from pathlib import Path

from cantlie.core.errors import DicomError
from cantlie.core.files import atomic_path

_FOLDER = resources.files("cantlie").joinpath("data", "cases")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def bundled_case_names() -> tuple[str, ...]:
    """Return the names of the bundled cases."""
    return tuple(sorted(f.name.removesuffix(".zip") for f in _FOLDER.iterdir() if f.name.endswith(".zip")))


def bundled_case_path(name: str = "crlm_ct_1006") -> Path:
    """Return the zip of a bundled case, to be read by `cantlie.dicom.reading.read_case`.

    Raises
    ------
    DicomError
        If there is no case of that name.
    """
    path = Path(str(_FOLDER.joinpath(f"{name}.zip")))
    if not path.is_file():
        raise DicomError(
            f"no bundled case is called {name!r}",
            where=str(path.parent),
            remedy=f"there are: {', '.join(bundled_case_names()) or 'none'}",
        )
    return path


def pack_case(folder: Path, path: Path) -> None:
    """Pack the files of a folder into a zip whose bytes depend on nothing but their names and contents.

    Parameters
    ----------
    folder
        The case; its pictures (PNG) are left out.
    path
        The zip to write.
    """
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".png"):
            member = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, file.read_bytes())
