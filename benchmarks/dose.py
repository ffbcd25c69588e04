"""Time and memory of the dose engine on the shared liver phantom, beside its peers in the same run.

    python benchmarks/dose.py --shared ../shared/benchmarks [--peers VENV --opentps DIR] [--write docs/validation]
    python benchmarks/dose.py --shared ../shared/benchmarks --peers-of docs/validation/speed.json
    python benchmarks/dose.py --shared ../shared/benchmarks --gpu

``--peers`` is a virtual environment with pyRadPlan, ``--opentps`` the unpacked wheel of opentps-core (both as the
README beside the shared benchmarks says); their scripts run first, one after another, on a copy of that folder. Without
them only Cantlie runs, and ratios are to the peers of an earlier run (``--peers-of``) or, without that, to figures
recorded on another machine. Each measurement of Cantlie runs in a process of its own, after one small call that loads
the compiled kernels. ``--write`` leaves ``speed.json`` and ``speed.md`` in a folder. ``--gpu`` measures only the bars
of the GPU, beside the CPU of the same machine, and ends with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

TASKS = {
    "open_field": "open 10×10 field, native grid",
    "liver_semi": "influence liver_semi, 5 mm",
    "liver_sbrt": "influence liver_sbrt, 3 mm",
}
PEER = {"open_field": "OpenTPS collapsed cone", "liver_semi": "pyRadPlan", "liver_sbrt": "pyRadPlan"}
RECORDED = {"open_field": (49.6, None), "liver_semi": (82.0, None), "liver_sbrt": (114.0, None)}
BAR = {"open_field": 40.0, "liver_semi": 4.0, "liver_sbrt": 8.0}
BEAMLET_MM = 5.0
GPU_BAR_S = {"open_field": 0.030, "liver_semi": 2.0, "liver_sbrt": 2.0}
GPU_REPEATS = {"open_field": 20, "liver_semi": 3, "liver_sbrt": 3}
PRODUCTS = 20
"""Times that each product of the operator is taken."""


def phantom(shared: Path):
    """Return density volume and structure masks of the shared phantom."""
    sys.path.insert(0, str(shared))
    import phantom_liver as source

    from cantlie.core.grid import Grid
    from cantlie.core.volume import Volume

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


def beamlets(density, target, beams: int = 9, margin_mm: float = 5.0, width_mm: float = BEAMLET_MM):
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
        cells[(y // width_mm).astype(int) + 200, (x // width_mm).astype(int) + 200] = True
        row, column = np.nonzero(
            binary_dilation(cells, np.ones((3, 3)), iterations=max(1, round(margin_mm / width_mm)))
        )
        centres = ((column - 199.5) * width_mm, (row - 199.5) * width_mm)
        result.append(Beamlets(geometry, *centres, width_mm))
    return result


def measure(shared: Path, task: str, size_mm: float, device: str) -> dict[str, float]:
    """Run one task and return seconds, CPU seconds and peak memory.

    ``size_mm`` is the voxel size of the open field's grid, or the width of beamlets; 0 for that of the comparison.
    """
    from cantlie.core.volume import Volume
    from cantlie.dose.collapsed_cone import collapsed_cone_dose
    from cantlie.dose.influence import influence_matrix

    density, masks = phantom(shared)
    field, model = open_field(density)
    small = density.grid.resampled((12.0, 12.0, 12.0))
    result: dict[str, float] = {}
    if task == "open_field":
        grid = density.grid.resampled((size_mm,) * 3) if size_mm else density.grid
        for warm in (small, *([grid] if device == "cuda" else [])):
            collapsed_cone_dose(density, [field], model, grid=warm, device=device)

        def work():
            return collapsed_cone_dose(density, [field], model, grid=grid, device=device)

    else:
        target = masks["PTV_SEMI" if task == "liver_semi" else "PTV_SBRT"]
        spacing = 5.0 if task == "liver_semi" else 3.0
        grid = density.grid.resampled((spacing,) * 3)
        beams = beamlets(density, target, width_mm=size_mm or BEAMLET_MM)
        influence_matrix(density, beams[:1], model, grid if device == "cuda" else small, device=device)
        body = Volume(density.grid, masks["BODY"].astype(np.float32)).resample(grid).values > 0.5

        def work():
            return influence_matrix(density, beams, model, grid, body, device=device)

    walls, cpus = [], []
    for _ in range(GPU_REPEATS[task] if device == "cuda" else 1):
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    result["wall_s"], result["cpu_s"] = float(np.median(walls)), float(np.median(cpus))
    result["least_wall_s"] = min(walls)
    if task == "open_field":
        result["voxels"] = found.values.size
        if device == "cuda":
            on_cpu = collapsed_cone_dose(density, [field], model, grid=grid, device="cpu").values
            result["off_percent"] = float(100.0 * np.abs(found.values - on_cpu).max() / on_cpu.max())
    else:
        influence = found
        result["voxels"], result["beamlets"] = influence.shape
        result["operator_mb"] = influence.nbytes / 1e6
        if device == "cuda":
            weights = np.ones(influence.shape[1])
            on_cpu = influence_matrix(density, beams, model, grid, body, device="cpu").forward(weights)
            result["off_percent"] = float(100.0 * np.abs(influence.forward(weights) - on_cpu).max() / on_cpu.max())
    result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if task != "open_field":
        weights = np.ones(influence.shape[1])
        gradient = influence.forward(weights)
        influence.adjoint(gradient)
        for name, product in (
            ("forward", lambda: influence.forward(weights)),
            ("adjoint", lambda: influence.adjoint(gradient)),
        ):
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(PRODUCTS):
                product()
            result[f"{name}_ms"] = 1e3 * (time.perf_counter() - wall) / PRODUCTS
            result[f"{name}_cpu_ms"] = 1e3 * (time.process_time() - cpu) / PRODUCTS
    return result


def measured(shared: Path, task: str, size_mm: float = 0.0, cores: int = 0, device: str = "cpu") -> dict[str, float]:
    """Run one task in a process of its own, on so many cores (0 for all), and return its figures."""
    command = [sys.executable, __file__, "--shared", str(shared), "--task", task, "--size", str(size_mm)]
    allowed = sorted(os.sched_getaffinity(0))[: cores or None]
    printed = subprocess.run(
        [*command, "--device", device], check=True, capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        env={**os.environ, "OMP_NUM_THREADS": str(len(allowed)), "OPENBLAS_NUM_THREADS": str(len(allowed))},
    )  # fmt: skip
    return json.loads(printed.stdout.splitlines()[-1])


def peers(shared: Path, venv: Path, opentps: Path) -> dict[str, tuple[float, float | None]]:
    """Run the shared baselines on a copy of their folder; return CPU seconds and peak memory (GB) of each task."""
    python = str((venv / "bin" / "python").absolute())
    found: dict[str, tuple[float, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for script in shared.glob("*.py"):
            shutil.copy(script, here)
        (here / "src_opentps").symlink_to(opentps.resolve())

        def run(*arguments: str) -> dict[str, float]:
            command = [python, *arguments, "--json", "figures.json"]
            finished = subprocess.run(command, cwd=here, capture_output=True, text=True)
            if finished.returncode:
                sys.exit(f"{arguments[0]} failed:\n{finished.stderr[-2000:]}")
            return json.loads((here / "figures.json").read_text(encoding="utf-8"))

        for task, grid in (("liver_semi", "5"), ("liver_sbrt", "3")):
            # Two iterations: the optimisation is not compared, and memory is read right after the matrix.
            figures = run("baseline_pyradplan.py", "--case", task, "--grid", grid, "--maxiter", "2")
            found[task] = figures["cpu_dij"], figures["rss_after_dij_GB"]
            print(f"{PEER[task]:24s} {task:12s} {found[task][0]:7.2f} CPU s, peak {found[task][1]:.2f} GB", flush=True)
        figures = run("baseline_opentps_ccc.py", "--n", "1", "--grid", "native", "--field", "100")
        found["open_field"] = figures["cpu_s"], figures["maxrss_MB"] / 1e3
        print(f"{PEER['open_field']:24s} open_field   {found['open_field'][0]:7.2f} CPU s", flush=True)
    return found


def compared(shared: Path, reference: dict[str, tuple[float, float | None]]) -> dict[str, dict[str, float]]:
    """Return the figures of each task beside those of its peer."""
    table = {}
    for task in TASKS:
        row = measured(shared, task)
        row["peer_cpu_s"], row["peer_peak_gb"] = reference[task]
        row["times_fewer"] = row["peer_cpu_s"] / row["cpu_s"]
        row["bar"] = BAR[task]
        table[task] = row
        print(
            f"{task:12s} {row['cpu_s']:6.2f} CPU s, {row['wall_s']:6.2f} s, peak {row['peak_gb']:.2f} GB; "
            f"{PEER[task]} {row['peer_cpu_s']:.1f} CPU s: {row['times_fewer']:.0f} times fewer (bar {BAR[task]:g})",
            flush=True,
        )
    return table


def scaling(shared: Path) -> dict[str, list[dict[str, float]]]:
    """Return figures against voxel size of the open field, width of beamlets, and number of cores."""
    table: dict[str, list[dict[str, float]]] = {"grid": [], "beamlets": [], "cores": []}
    for size in (6.0, 4.0, 3.0, 2.0):
        table["grid"].append({"size_mm": size, **measured(shared, "open_field", size)})
    for size in (10.0, 5.0, 2.5):
        table["beamlets"].append({"size_mm": size, **measured(shared, "liver_semi", size)})
    allowed = len(os.sched_getaffinity(0))
    for cores in [n for n in (1, 2, 4, 8, 16, 32) if n <= allowed]:
        for task in TASKS:
            table["cores"].append({"cores": cores, "task": task, **measured(shared, task, 0.0, cores)})
    return table


def on_gpu(shared: Path) -> dict[str, dict[str, float]]:
    """Return the figures of each task on the GPU, after a warm-up of the same size; nothing if there is none.

    The seconds are those of the whole call, from the patient's density to the dose or the operator in memory.
    """
    from cantlie.dose.device import gpu

    if gpu().problem or gpu().simulated:
        return {}
    table = {}
    for task in TASKS:
        row = table[task] = measured(shared, task, device="cuda")
        row["bar_s"], row["on_cpu_s"] = GPU_BAR_S[task], measured(shared, task)["wall_s"]
        print(
            f"GPU {task:12s} {row['wall_s']:.4f} s (least {row['least_wall_s']:.4f}), bar {row['bar_s']:g} s; CPU "
            f"{row['on_cpu_s']:.3f} s; at most {row['off_percent']:.4f} % of maximum from the CPU",
            flush=True,
        )
    return table


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    from cantlie.dose.device import gpu

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": names[0] if names else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "gpu": gpu().name or f"none ({gpu().problem})",
        "python": platform.python_version(),
        "cantlie": metadata.version("cantlie"),
        "numba": metadata.version("numba"),
    }


def page(figures: dict) -> str:
    """Return the figures as a page of Markdown."""
    on = figures["machine"]
    lines = [
        "# Speed and memory of the dose engine", "",
        f"Written by `python benchmarks/dose.py --shared ../shared/benchmarks {figures['options']}"
        "--write docs/validation`.", "",
        f"{on['date']}, {on['cpu']}, {on['cores']} cores, GPU: {on['gpu']}; Python {on['python']}, "
        f"numba {on['numba']}, Cantlie {on['cantlie']}. Peers: {figures['peers']}.", "",
        "| task | CPU s | wall s | peak GB | peer | its CPU s | its peak GB | times fewer CPU s | bar |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for task, row in figures["compared"].items():
        peak = "" if row["peer_peak_gb"] is None else f"{row['peer_peak_gb']:.2f}"
        lines.append(
            f"| {TASKS[task]} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} | {row['peak_gb']:.2f} | {PEER[task]} | "
            f"{row['peer_cpu_s']:.1f} | {peak} | {row['times_fewer']:.0f} | {row['bar']:g} |"
        )
    lines += ["", "## What the optimiser multiplies with", "",
              "The operator itself: nothing is written down or left out. Both products of one step, means of "
              f"{PRODUCTS}; the seconds to build it are those of the table above.", "",
              "| case | voxels | beamlets | build CPU s | MB | forward ms | its CPU ms | adjoint ms | its CPU ms |",
              "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for task in ("liver_semi", "liver_sbrt"):
        row = figures["compared"][task]
        lines.append(
            f"| {TASKS[task]} | {row['voxels']} | {row['beamlets']} | {row['cpu_s']:.2f} | {row['operator_mb']:.0f} | "
            f"{row['forward_ms']:.1f} | {row['forward_cpu_ms']:.1f} | {row['adjoint_ms']:.1f} | "
            f"{row['adjoint_cpu_ms']:.1f} |"
        )
    if figures["scaling"]:
        lines += ["", "## Scaling", "", "| what | size | voxels | beamlets | CPU s | wall s | peak GB | operator MB "
                  "| both products, CPU ms |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
        for kind, rows in figures["scaling"].items():
            for row in rows:
                what = {"grid": "open field, voxel size", "beamlets": "liver_semi, width of beamlets"}.get(kind)
                size = f"{row['cores']} core{'s' * (row['cores'] > 1)}" if kind == "cores" else f"{row['size_mm']:g} mm"
                operator = ["", ""]
                if "operator_mb" in row:
                    operator = [f"{row['operator_mb']:.0f}", f"{row['forward_cpu_ms'] + row['adjoint_cpu_ms']:.1f}"]
                lines.append(
                    f"| {what or TASKS[row['task']]} | {size} | {row['voxels']} | {row.get('beamlets', '')} | "
                    f"{row['cpu_s']:.2f} | {row['wall_s']:.2f} | {row['peak_gb']:.2f} | {' | '.join(operator)} |"
                )
    if figures["gpu"]:
        lines += ["", "## GPU", "",
                  "Medians of whole calls after one of the same size, from density to dose or operator.", "",
                  "| task | wall s | least | bar | CPU s | wall s on the CPU | off the CPU, % of maximum |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| {TASKS[task]} | {row['wall_s']:.4f} | {row['least_wall_s']:.4f} | {row['bar_s']:g} | "
            f"{row['cpu_s']:.4f} | {row['on_cpu_s']:.3f} | {row['off_percent']:.4f} |"
            for task, row in figures["gpu"].items()
        ]
    else:
        lines += ["", "No GPU was there: the CUDA path was not timed."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder of the shared benchmarks")
    parser.add_argument("--peers", type=Path, help="virtual environment with pyRadPlan")
    parser.add_argument("--opentps", type=Path, help="unpacked wheel of opentps-core")
    parser.add_argument("--peers-of", type=Path, help="speed.json of an earlier run, whose peers are taken")
    parser.add_argument("--write", type=Path, help="folder for speed.json and speed.md")
    parser.add_argument("--no-scaling", action="store_true", help="only the comparison")
    parser.add_argument("--gpu", action="store_true", help="only the bars of the GPU")
    for hidden, kind in (("--task", str), ("--size", float), ("--device", str)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shared = options.shared.resolve()
    if options.task:
        print(json.dumps(measure(shared, options.task, options.size, options.device)))
        return
    if options.gpu:
        found = on_gpu(shared)
        if not found:
            sys.exit(f"no GPU: {machine()['gpu']}")
        print(json.dumps({"machine": machine(), "gpu": found}, indent=2))
        sys.exit(any(row["wall_s"] > row["bar_s"] or row["off_percent"] > 0.1 for row in found.values()))
    if (options.peers is None) != (options.opentps is None):
        parser.error("give --peers and --opentps together")
    reference, source, words = RECORDED, "recorded on another machine", ""
    if options.peers:
        reference, source = peers(shared, options.peers, options.opentps), "measured in the same run"
        words = "--peers VENV --opentps DIR "
    elif options.peers_of:
        earlier = json.loads(options.peers_of.read_text(encoding="utf-8"))
        reference = {task: (row["peer_cpu_s"], row["peer_peak_gb"]) for task, row in earlier["compared"].items()}
        words = f"--peers-of {options.peers_of} "
        source = earlier.get("peers", "")
        if "earlier" not in source:
            source = f"those of an earlier run on {earlier['machine']['date']} ({earlier['machine']['cpu']})"
    figures = {
        "machine": machine(),
        "peers": source,
        "options": words,
        "compared": compared(shared, reference),
        "scaling": {} if options.no_scaling else scaling(shared),
        "gpu": on_gpu(shared),
    }
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        (options.write / "speed.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        (options.write / "speed.md").write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
