"""Where dose is computed."""

from __future__ import annotations

from typing import Literal

from cantlie.core.errors import DoseError

Device = Literal["auto", "cpu", "cuda"]


def check_device(device: Device) -> None:
    """Accept a device that the engine can compute on.

    Raises
    ------
    DoseError
        For ``cuda``: there is no GPU path yet.
    """
    if device == "cuda":
        raise DoseError("the dose engine has no GPU path yet", where="--device cuda", remedy="use --device auto or cpu")
