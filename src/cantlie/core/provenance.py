"""Provenance: what made a result, so that it can be made again."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESEARCH_USE_ONLY = "Research use only. Not a medical device; not for the treatment of patients."


def sha256_of_bytes(*parts: bytes) -> str:
    """Return the SHA-256 of the concatenated bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in parts:
        digest.update(piece)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def environment(packages: Iterable[str] = ("numpy", "scipy", "numba", "pydicom", "simpleitk")) -> dict[str, Any]:
    """Return the versions of Cantlie, Python and the named packages, the platform and the time (UTC)."""
    return {
        "cantlie": metadata.version("cantlie"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
