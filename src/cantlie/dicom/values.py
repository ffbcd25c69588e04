"""Single values of DICOM data sets, read tolerantly: what cannot be read is a clear error, never a traceback."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cantlie.core.errors import DicomError


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's own remarks on odd values, which may hold names, from the console."""
    logger = pydicom_config.logger
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def looks_like_dicom(content: bytes) -> bool:
    """Say whether bytes begin like a DICOM file, with or without the preamble."""
    return content[128:132] == b"DICM" or content[:2] in (b"\x08\x00", b"\x02\x00")


class _Strict(io.BytesIO):
    """A stream that remembers when a value is longer than what is left, which pydicom passes over in silence."""

    _CHUNK = 8192  # pydicom reads values of undefined length in pieces of this size, until the end of the file

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.short = False

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if size is not None and size > 0 and size != self._CHUNK and len(content) < size and (content or size > 8):
            self.short = True
        return content


def parse(content: bytes, where: str, *, pixels: bool = False) -> Dataset:
    """Parse a DICOM file.

    Raises
    ------
    DicomError
        If it is damaged or truncated.
    """
    try:
        stream = _Strict(content)
        with quiet():
            dataset = dcmread(stream, stop_before_pixels=not pixels, force=content[128:132] != b"DICM")
            dataset.get("SOPClassUID")
        if len(dataset) == 0:
            raise ValueError("it has no content")
        if stream.short:
            raise ValueError("it ends in the middle of a value")
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset
    except DicomError:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise DicomError(
            f"the DICOM file is damaged or truncated: {str(error) or type(error).__name__}",
            where=where,
            remedy="export or copy it again",
        ) from error


def text(dataset: Dataset, keyword: str, default: str = "") -> str:
    """Return an attribute as stripped text, or the default where it is missing, empty or unreadable."""
    try:
        with quiet():
            value = dataset.get(keyword)
    except Exception:
        return default
    if value is None:
        return default
    if isinstance(value, str):
        return value.strip("\0 ") or default
    if hasattr(value, "__iter__") and not hasattr(value, "family_name"):
        return "\\".join(str(part).strip() for part in value) or default
    return str(value).strip() or default


def uid_name(uid: str) -> str:
    """Return what a UID of the standard is called, else the UID."""
    with quiet():
        return str(UID(uid).name)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return a multi-valued attribute as texts; empty where it is missing."""
    value = text(dataset, keyword)
    return tuple(value.split("\\")) if value else ()


def _wrong(keyword: str, where: str, reason: str) -> DicomError:
    tag = tag_for_keyword(keyword)
    name = f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})" if tag else keyword
    return DicomError(f"{name} {reason}", where=where, remedy="export the file again")


def numbers(dataset: Dataset, keyword: str, count: int | None, where: str) -> NDArray[np.float64]:
    """Return an attribute as finite numbers.

    Raises
    ------
    DicomError
        If it is missing, has another count or is not all numbers.
    """
    try:
        with quiet():
            value = dataset.get(keyword)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise _wrong(keyword, where, "is missing")
        result = np.atleast_1d(np.array(value, dtype=np.float64))
    except DicomError:
        raise
    except Exception as error:
        raise _wrong(keyword, where, "is not a number") from error
    if count is not None and result.shape != (count,):
        raise _wrong(keyword, where, f"has {result.size} values, not {count}")
    if not np.isfinite(result).all():
        raise _wrong(keyword, where, "is not finite")
    return result


def number(dataset: Dataset, keyword: str, where: str, default: float | None = None) -> float:
    """Return an attribute as one finite number; the default, if there is one, where it is missing."""
    if default is not None and is_missing(dataset, keyword):
        return default
    return float(numbers(dataset, keyword, 1, where)[0])


def integer(dataset: Dataset, keyword: str, where: str, default: int | None = None) -> int:
    """Return an attribute as a whole number."""
    value = number(dataset, keyword, where, None if default is None else float(default))
    if not math.isclose(value, round(value), abs_tol=1e-9):
        raise _wrong(keyword, where, f"is not a whole number: {value:g}")
    return round(value)


def is_missing(dataset: Dataset, keyword: str) -> bool:
    """Say whether an attribute is absent or empty."""
    try:
        with quiet():
            value = dataset.get(keyword)
    except Exception:
        return False
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; empty where it is missing or not a sequence."""
    try:
        with quiet():
            value = dataset.get(keyword)
        return tuple(item for item in value if isinstance(item, Dataset)) if value else ()
    except Exception:
        return ()


def decimal_array(dataset: Dataset, keyword: str, where: str) -> NDArray[np.float64]:
    """Return a long list of decimal strings as an array, without an object for each of them; may be empty.

    Raises
    ------
    DicomError
        If it is not all finite numbers.
    """
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return np.zeros(0)
    try:
        with quiet():
            raw = dataset.get_item(tag).value
            if isinstance(raw, bytes):
                stripped = raw.strip(b"\0 ")
                result = np.array(stripped.split(b"\\")).astype(np.float64) if stripped else np.zeros(0)
            else:
                value = dataset.get(keyword)
                result = np.atleast_1d(np.array([] if value is None else value, dtype=np.float64))
    except Exception as error:
        raise _wrong(keyword, where, "is not a list of numbers") from error
    if not np.isfinite(result).all():
        raise _wrong(keyword, where, "is not finite")
    return result
