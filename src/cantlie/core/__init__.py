"""Geometry on a patient grid, errors, notes, provenance, progress and atomic files: what every floor stands on."""

from cantlie.core.errors import CantlieError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, silent
from cantlie.core.volume import Volume

__all__ = ["CantlieError", "Grid", "Note", "Progress", "Volume", "silent"]
