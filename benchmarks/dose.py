"""Time and memory of the dose engine on the shared liver phantom, beside its peers in the same run.

    python benchmarks/dose.py --shared ../shared/benchmarks [--peers PEERS_VENV] [--json OUT]

Without ``--peers`` only Cantlie runs, and ratios are given to the recorded figures of the peers (two cores of an AMD
EPYC; see the README beside the shared benchmarks). With it, their scripts run first, one after another. Each
measurement of Cantlie runs in a process of its own, after one small call that loads the compiled kernels.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RECORDED = {"open_field": 49.6, "liver_semi": 82.0, "liver_sbrt": 114.0}
BEAMLET_MM = 5.0


def phantom(shared: Path):
    """Return density volume and structure masks of the shared phantom."""
    sys.path.insert(0, str(shared))
    import phantom_liver as source

    from cantlie.core import Grid, Volume

    hu, masks = source.build()
    density = np.interp(hu, [-1000, -740, 0, 60, 1400, 3000], [0.0012, 0.26, 1.0, 1.06, 1.85, 2.8])
    return Volume(Grid(hu.shape, source.SPACING, source.ORIGIN), density.astype(np.float32)), masks


def open_field(density, gantry_deg: float = 0.0):
    """Return a 10 x 10 cm field onto the liver."""
    from cantlie.dose.field import Field
    from cantlie.machine.aperture import Aperture
    from cantlie.machine.beam_model import BeamModel
    from cantlie.machine.fluence import aperture_fluence, pixel_centres
    from cantlie.machine.geometry import BeamGeometry

    model = BeamModel.named("reference-6mv-point")
    pixels = pixel_centres(-60, 60, 1.0)
    fluence = aperture_fluence(Aperture((-50, 50), (-50, 50)), 100.0, None, model, pixels, pixels)
    return Field(BeamGeometry((-85.0, 0.0, 10.0), gantry_deg), fluence), model


def beamlets(density, target, beams: int = 9, margin_mm: float = 5.0):
    """Return the beamlets of coplanar beams that cover a target and a margin."""
    from scipy.ndimage import binary_dilation

    from cantlie.dose.influence import Beamlets
    from cantlie.machine.geometry import BeamGeometry

    points = density.grid.points_mm()[target]
    result = []
    for angle in np.arange(beams) * 360.0 / beams:
        geometry = BeamGeometry(tuple(points.mean(axis=0)), float(angle))
        x, y, _ = geometry.project(points)
        cells = np.zeros((400, 400), dtype=bool)
        cells[(y // BEAMLET_MM).astype(int) + 200, (x // BEAMLET_MM).astype(int) + 200] = True
        row, column = np.nonzero(binary_dilation(cells, iterations=round(margin_mm / BEAMLET_MM)))
        centres = ((column - 199.5) * BEAMLET_MM, (row - 199.5) * BEAMLET_MM)
        result.append(Beamlets(geometry, *centres, BEAMLET_MM))
    return result


def measure(shared: Path, task: str) -> dict[str, float]:
    """Run one task and return seconds, CPU seconds and peak memory."""
    from cantlie.core import Volume
    from cantlie.dose.collapsed_cone import collapsed_cone_dose
    from cantlie.dose.influence import influence_matrix

    density, masks = phantom(shared)
    field, model = open_field(density)
    small = density.grid.resampled((12.0, 12.0, 12.0))
    result: dict[str, float] = {}
    if task == "open_field":
        collapsed_cone_dose(density, [field], model, grid=small)
        wall, cpu = time.perf_counter(), time.process_time()
        collapsed_cone_dose(density, [field], model)
    else:
        target = masks["PTV_SEMI" if task == "liver_semi" else "PTV_SBRT"]
        spacing = 5.0 if task == "liver_semi" else 3.0
        grid = density.grid.resampled((spacing,) * 3)
        beams = beamlets(density, target)
        influence_matrix(density, beams[:1], model, small)
        body = Volume(density.grid, masks["BODY"].astype(np.float32)).resample(grid).values > 0.5
        wall, cpu = time.perf_counter(), time.process_time()
        influence = influence_matrix(density, beams, model, grid, body)
        result["voxels"], result["beamlets"] = influence.shape
        result["operator_mb"] = influence.nbytes / 1e6
    result["wall_s"] = time.perf_counter() - wall
    result["cpu_s"] = time.process_time() - cpu
    if task != "open_field":
        weights = np.ones(influence.shape[1])
        start = time.perf_counter()
        dose = influence.forward(weights)
        result["forward_s"] = time.perf_counter() - start
        start = time.perf_counter()
        influence.adjoint(dose)
        result["adjoint_s"] = time.perf_counter() - start
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return result


def peers(shared: Path, venv: Path) -> dict[str, float]:
    """Run the shared baselines and return their CPU seconds."""
    python = str(venv / "bin" / "python")
    found = {}
    for task, grid in (("liver_semi", "5"), ("liver_sbrt", "3")):
        out = Path(f"peer_{task}.json").resolve()
        command = [python, "baseline_pyradplan.py", "--case", task, "--grid", grid, "--json", str(out)]
        subprocess.run(command, cwd=shared, check=True)
        text = out.read_text(encoding="utf-8")
        numbers = json.loads(text)
        found[task] = next(float(v) for k, v in _flat(numbers) if "dij" in k.lower() and "cpu" in k.lower())
    command = [python, "baseline_opentps_ccc.py", "--n", "1", "--grid", "native", "--field", "100"]
    printed = subprocess.run(command, cwd=shared, check=True, capture_output=True, text=True).stdout
    found["open_field"] = next(
        float(v) for k, v in _flat(json.loads(printed[printed.index("{") :])) if "cpu" in k.lower()
    )
    return found


def _flat(values, path: str = ""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        elif isinstance(value, (int, float)):
            yield path + key, value


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder of the shared benchmarks")
    parser.add_argument("--peers", type=Path, help="virtual environment with the peers")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--task", choices=tuple(RECORDED), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shared = options.shared.resolve()
    if options.task:
        print(json.dumps(measure(shared, options.task)))
        return
    reference = peers(shared, options.peers) if options.peers else RECORDED
    source = "measured" if options.peers else "recorded"
    table = {}
    for task in RECORDED:
        command = [sys.executable, __file__, "--shared", str(shared), "--task", task]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(printed.splitlines()[-1])
        row["peer_cpu_s"] = reference[task]
        row["times_fewer"] = reference[task] / row["cpu_s"]
        table[task] = row
        print(
            f"{task:12s} {row['cpu_s']:6.2f} CPU s, {row['wall_s']:6.2f} s, peak {row['peak_gb']:.2f} GB; "
            f"peer ({source}) {reference[task]:.1f} CPU s: {row['times_fewer']:.0f} times fewer"
        )
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
