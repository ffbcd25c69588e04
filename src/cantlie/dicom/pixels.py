"""The stored values of an image, whatever they are compressed with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cantlie.core.errors import DicomError
from cantlie.dicom.values import quiet

_CONVERT = "export the images uncompressed, or convert them (gdcmconv --raw IN OUT, or dcmdjpeg IN OUT of DCMTK)"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")


def stored_values(dataset: Dataset, what: str, where: str) -> NDArray[Any]:
    """Return the pixels of a parsed image as stored: RLE, JPEG lossless, JPEG-LS and JPEG 2000 are decoded.

    Parameters
    ----------
    what
        What the image is called in errors, such as ``the CT image``.

    Raises
    ------
    DicomError
        If there are no pixels, they are damaged, or their compression cannot be decoded.
    """
    if "PixelData" not in dataset:
        raise DicomError(f"{what} has no pixels", where=where, remedy="export or copy it again")
    try:
        with quiet():
            return np.asarray(dataset.pixel_array)
    except Exception as error:  # pydicom and the decoders raise nearly anything on damaged pixels
        syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
        if syntax is not None and str(syntax) not in _NATIVE:
            raise DicomError(
                f"the pixels of {what} are compressed ({syntax.name}) and cannot be decoded",
                where=where,
                remedy=_CONVERT,
            ) from error
        reason = " ".join((str(error) or type(error).__name__).split())[:160]
        raise DicomError(
            f"the pixels of {what} cannot be read: {reason}", where=where, remedy="export or copy it again"
        ) from error
