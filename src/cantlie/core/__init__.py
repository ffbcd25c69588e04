"""Geometry on a patient grid, errors, notes, provenance, progress and atomic files: what every floor stands on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cantlie.core.errors import CantlieError
    from cantlie.core.grid import Grid
    from cantlie.core.notes import Note
    from cantlie.core.progress import Progress, silent
    from cantlie.core.volume import Volume

_HOMES = {
    "CantlieError": "errors",
    "Grid": "grid",
    "Note": "notes",
    "Progress": "progress",
    "Volume": "volume",
    "silent": "progress",
}
__all__ = ["CantlieError", "Grid", "Note", "Progress", "Volume", "silent"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: NumPy and SciPy would make ``cantlie --help`` slow."""
    if name in _HOMES:
        return getattr(import_module(f"cantlie.core.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cantlie.core' has no attribute {name!r}")
