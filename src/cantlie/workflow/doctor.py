"""Does this installation work: versions, disk, the dose engine against its own calibration, its speed, the GPU."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from cantlie.core.errors import CantlieError
from cantlie.core.files import write_text
from cantlie.core.grid import Grid
from cantlie.core.threads import threads
from cantlie.core.volume import Volume
from cantlie.dose.device import Device, gpu

_PACKAGES = ("numpy", "scipy", "numba", "pydicom", "pydantic", "matplotlib", "typst")


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``pass``, ``fail`` or ``info``, and what was found."""

    name: str
    verdict: str
    found: str


def examine() -> tuple[Check, ...]:
    """Run all checks; one that breaks counts as failed instead of ending the others."""
    checks = [
        Check("Cantlie", "info", f"{metadata.version('cantlie')}, research use only"),
        Check("Python", "pass" if (3, 11) <= sys.version_info < (3, 14) else "fail", sys.version.split()[0]),
        Check("machine", "info", f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"),
        Check("packages", "info", ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)),
    ]
    for name, work in (
        ("writing files", _writing),
        ("bundled case", _bundled_case),
        ("dose at the calibration point", _calibration),
        ("GPU", _gpu),
    ):
        checks.append(_guarded(name, work))
    return tuple(checks)


def _guarded(name: str, work: Callable[[], Check]) -> Check:
    try:
        return work()
    except (CantlieError, OSError, ImportError, ValueError, RuntimeError) as error:
        return Check(name, "fail", str(error) or type(error).__name__)


def _writing() -> Check:
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "probe.txt", "probe")
    return Check("writing files", "pass", tempfile.gettempdir())


def _bundled_case() -> Check:
    from cantlie.dicom.bundled import bundled_case_path
    from cantlie.dicom.reading import read_case

    case = read_case(bundled_case_path("crlm_ct_1006"))
    nk, nj, ni = case.ct.volume.grid.shape
    return Check("bundled case", "pass", f"{nk} images of {nj} x {ni}, {len(case.structures)} structures")


def _open_field(device: Device) -> tuple[Volume, float]:
    """Return the dose of 100 MU through the field that defines the monitor unit, and the seconds it took when warm."""
    from cantlie.dose.collapsed_cone import collapsed_cone_dose
    from cantlie.dose.field import Field
    from cantlie.machine.aperture import Aperture
    from cantlie.machine.beam_model import BeamModel
    from cantlie.machine.fluence import aperture_fluence, pixel_centres
    from cantlie.machine.geometry import BeamGeometry

    model = BeamModel.named("reference-6mv-point")
    grid = Grid((100, 100, 100), (3.0, 3.0, 3.0), (-148.5, -98.5, -148.5))
    water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
    pixels = pixel_centres(-60.0, 60.0, 2.0)
    aperture = Aperture((-50.0, 50.0), (-50.0, 50.0))
    field = Field(BeamGeometry((0.0, 0.0, 0.0), 0.0), aperture_fluence(aperture, 100.0, None, model, pixels, pixels))
    collapsed_cone_dose(water, [field], model, grid=grid, device=device)
    start = time.perf_counter()
    dose = collapsed_cone_dose(water, [field], model, grid=grid, device=device)
    return dose, time.perf_counter() - start


def _calibration() -> Check:
    dose, seconds = _open_field("cpu")
    found = float(dose.sample([0.0, 0.0, 0.0]))
    verdict = "pass" if abs(found - 1.0) < 0.02 else "fail"
    text = f"{found:.4f} Gy for 100 MU (defined: 1 Gy); {seconds:.2f} s for 1 million voxels"
    return Check("dose at the calibration point", verdict, text)


def _gpu() -> Check:
    """Compute the same field on the GPU, if there is one, and compare."""
    found = gpu()
    if found.problem:
        return Check("GPU", "info", f"{found.problem}; dose is computed on the CPU, by {threads()} threads")
    if found.simulated:
        return Check("GPU", "info", f"{found.name}: for tests only, far slower than the CPU")
    on_cpu, _ = _open_field("cpu")
    on_gpu, seconds = _open_field("cuda")
    worst = 100.0 * float(np.abs(on_gpu.values - on_cpu.values).max() / on_cpu.values.max())
    verdict = "pass" if worst <= 0.1 else "fail"
    return Check(
        "GPU", verdict,
        f"{found.name}; {seconds:.3f} s, at most {worst:.4f} % of maximum from the CPU; optimisation on the CPU, by "
        f"{threads()} threads",
    )  # fmt: skip
