"""Beam models as TOML files of their own: reading and writing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from cantlie.core.errors import MachineError
from cantlie.core.files import read_text
from cantlie.machine.beam_model import BeamModel, packaged_beam_models
from cantlie.machine.machine import Machine


def load_beam_model(id_or_path: str, beside: Path | None = None) -> BeamModel:
    """Return a packaged beam model by its name, or one from a TOML file.

    Parameters
    ----------
    id_or_path
        Name, or path of a file that ends in ``.toml``.
    beside
        The folder that a relative path starts from (that of the machine file).

    Raises
    ------
    MachineError
        If there is no such model or the file is wrong.
    InputError
        If the file cannot be read.
    """
    if id_or_path in packaged_beam_models() or not id_or_path.endswith(".toml"):
        return BeamModel.named(id_or_path)
    path = Path(id_or_path) if beside is None else beside / id_or_path
    try:
        values = tomllib.loads(read_text(path, "beam model"))
    except tomllib.TOMLDecodeError as error:
        raise MachineError(f"the beam model is not readable as TOML: {error}", where=str(path)) from error
    return BeamModel.from_dict(values, where=str(path))


def beam_of(machine: Machine) -> BeamModel:
    """Return the beam model of a machine; that of a cobalt machine with the dose rate of the day of treatment.

    Raises
    ------
    MachineError, InputError
        As :func:`load_beam_model`.
    """
    model = load_beam_model(machine.beam_model)
    if machine.cobalt is None:
        return model
    rate = model.calibration.gy_per_mu * machine.cobalt.remaining
    return model.model_copy(update={"calibration": model.calibration.model_copy(update={"gy_per_mu": rate})})


def beam_model_toml(model: BeamModel, remark: str = "") -> str:
    """Return a beam model as TOML, ready to be read by :func:`load_beam_model`."""
    values = model.model_dump(exclude_defaults=True)
    lines = [f"# {line}".rstrip() for line in remark.splitlines()]
    lines += [f"{key} = {_toml(value)}" for key, value in values.items() if key != "calibration"]
    lines += ["", "[calibration]"]
    lines += [f"{key} = {_toml(value)}" for key, value in model.calibration.model_dump().items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return repr(float(value))  # type: ignore[arg-type]
