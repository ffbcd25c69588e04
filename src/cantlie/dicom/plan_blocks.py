"""Blocks of an RTPLAN beam: their outline in the isocentre plane and what passes them (DICOM PS3.3 C.8.8.14)."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.dicom.values import integer, is_missing, items, number, numbers, text
from cantlie.machine.block import Block

_FARTHEST_MM = 500.0
_AGAIN = "export the plan again"


def read_blocks(one: Dataset, where: str) -> tuple[Block, ...]:
    """Return the blocks of an item of the beam sequence; none where it has none.

    Raises
    ------
    DicomError
        If a block has no outline, an unknown type or an impossible transmission, or does not stay in the field.
    """
    sequence = items(one, "BlockSequence")
    if integer(one, "NumberOfBlocks", where, len(sequence)) > len(sequence):
        raise DicomError("the beam has a block that it does not describe", where=where, remedy=_AGAIN)
    if not sequence:
        return ()
    factor = number(one, "TotalBlockTrayFactor", where, 1.0)
    if abs(factor - 1.0) > 1e-3:
        raise DicomError(
            f"the tray of the blocks lets {factor:g} of the beam pass, which Cantlie does not calculate",
            where=where,
            remedy="give a plan without a tray factor",
        )
    blocks: list[Block] = []
    for item in sequence:
        label = f"block {integer(item, 'BlockNumber', where, len(blocks) + 1)}"
        kind = text(item, "BlockType").upper()
        if kind not in ("SHIELDING", "APERTURE"):
            raise DicomError(f"{label} is of the unknown type {kind!r}", where=where, remedy=_AGAIN)
        count = integer(item, "BlockNumberOfPoints", where, 0)
        if count < 3 or is_missing(item, "BlockData"):
            raise DicomError(f"{label} has no outline", where=where, remedy=_AGAIN)
        outline = numbers(item, "BlockData", 2 * count, where).reshape(-1, 2)
        if np.abs(outline).max() > _FARTHEST_MM:
            raise DicomError(f"{label} reaches farther from the axis than any field", where=where, remedy=_AGAIN)
        transmission = number(item, "BlockTransmission", where, 0.0)
        if not 0.0 <= transmission <= 1.0:
            raise DicomError(f"{label} lets {transmission:g} of the beam pass", where=where, remedy=_AGAIN)
        blocks.append(Block(outline, kind == "APERTURE", transmission))
    return tuple(blocks)
