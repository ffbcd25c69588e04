"""The patient's outline found in the CT, for structure sets that lack it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.core.errors import StructureError
from cantlie.core.volume import Volume
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.names import BODY
from cantlie.patient.structures import Structure

THRESHOLD_HU = -350.0
_DETACH_MM = 4.0


def body_mask(ct: Volume) -> NDArray[np.bool_]:
    """Return the voxels of the patient: the largest connected part above -350 HU, its cavities filled slice by slice.

    Couch, clothing and wires are cut off where they touch the skin by less than 8 mm: the part is found in the mask
    eroded by 4 mm in the plane and grown back within the mask.

    Parameters
    ----------
    ct
        HU.

    Returns
    -------
    bool array [k, j, i]

    Raises
    ------
    StructureError
        If nothing in the CT is denser than air.
    """
    dense = np.asarray(ct.values) > THRESHOLD_HU
    reach = [max(1, round(_DETACH_MM / spacing)) for spacing in ct.grid.spacing_mm[:2]]
    kernel = _disc(reach[0], reach[1])[None]
    core = ndimage.binary_erosion(dense, kernel, border_value=1)
    labels, count = ndimage.label(core)
    if count == 0:
        labels, count = ndimage.label(dense)
        core = dense
    if count == 0:
        raise StructureError(
            "no patient is visible in the CT: nothing is denser than air", remedy="check the CT and its rescale values"
        )
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    largest = labels == int(np.argmax(sizes))
    body = ndimage.binary_dilation(largest, kernel) & dense if core is not dense else largest
    for k in range(body.shape[0]):
        body[k] = ndimage.binary_fill_holes(body[k])
    return body


def _disc(radius_i: int, radius_j: int) -> NDArray[np.bool_]:
    j, i = np.ogrid[-radius_j : radius_j + 1, -radius_i : radius_i + 1]
    return np.asarray((i / (radius_i + 0.5)) ** 2 + (j / (radius_j + 0.5)) ** 2 <= 1.0)


def body_structure(ct: Volume, number: int = 0) -> Structure:
    """Return BODY as a structure with contours on the CT slices, found by `body_mask`."""
    contours = contours_of_fractions(body_mask(ct).astype(np.float32), ct.grid)
    return Structure(
        name=BODY,
        contours_mm=contours,
        number=number,
        standard_name=BODY,
        dicom_type="EXTERNAL",
        colour_rgb=(0, 255, 0),
        slice_spacing_mm=ct.grid.spacing_mm[2],
    )
