"""The optimiser and the planner beside pyRadPlan, on the peer's own matrices and on the same phantom.

    python benchmarks/planner.py --shared ../shared/benchmarks --peer VENV [--case CASE ...] [--write DIR]

For every case the peer's script runs first (influence, optimisation, dose) and leaves its matrix; Cantlie minimises
the same objectives on the same matrix. For the liver cases Cantlie then makes a deliverable plan with the same beams,
and the doses of both, the peer's fluence and Cantlie's segments, are calculated by Cantlie's collapsed cone on the CT
grid and scaled until 95 % of the target get the prescribed dose.

``--folder DIR`` keeps the peer's files, and takes those that are there already.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

CASES = {
    "liver_sbrt": {"target": "PTV_SBRT", "prescription_gy": 14.0, "bar": 52.30},
    "tg119": {"target": "OuterTarget", "prescription_gy": 2.0, "bar": 0.3625},
    "liver_semi": {"target": "PTV_SEMI", "prescription_gy": 2.0, "bar": 2.5007},
}
FEWER = 3.0
"""How many times fewer CPU seconds than the peer's optimisation Cantlie may take."""

RAYS = """
import sys, json, numpy as np
sys.path.insert(0, {shared!r})
import SimpleITK as sitk, phantom_liver as pl
from pyRadPlan import PhotonPlan, generate_stf
from pyRadPlan.ct import create_ct
from pyRadPlan.cst import create_cst, create_voi
hu, m = pl.build()
img = sitk.GetImageFromArray(hu.astype(np.float32)); img.SetSpacing(pl.SPACING); img.SetOrigin(pl.ORIGIN)
ct = create_ct(cube_hu=img)
vois = []
for n, kind in (({target!r}, "TARGET"), ("BODY", "EXTERNAL")):
    mk = sitk.GetImageFromArray(m[n].astype(np.uint8)); mk.CopyInformation(img)
    vois.append(create_voi(voi_type=kind, name=n, ct_image=ct, mask=mk, overlap_priority=0 if kind == "TARGET" else 5))
pln = PhotonPlan(machine="Generic")
pln.prop_stf = {{"gantry_angles": np.arange(9) * 40.0, "couch_angles": np.zeros(9), "bixel_width": 5.0}}
stf = generate_stf(ct, create_cst(vois, ct=ct), pln)
out = [dict(gantry=float(b.gantry_angle), iso=[float(v) for v in b.iso_center],
            rays=[[float(v) for v in r.ray_pos_bev] for r in b.rays]) for b in stf.beams]
json.dump(out, open({path!r}, "w"))
"""


def run_peer(shared: Path, venv: Path, folder: Path, case: str) -> dict:
    """Run the peer's script on a case, unless its files are there, and return its figures."""
    figures = folder / f"{case}.json"
    python = str((venv / "bin" / "python").absolute())
    if not figures.exists():
        subprocess.run(
            [python, str(shared / "baseline_pyradplan.py"), "--case", case, "--grid", "5", "--json", str(figures),
             "--save-dij", str(folder / f"{case}.npz"), "--npz", str(folder / f"{case}.dose.npz")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    if case.startswith("liver") and not (folder / f"{case}.rays.json").exists():
        code = RAYS.format(
            shared=str(shared.resolve()), target=CASES[case]["target"], path=str(folder / f"{case}.rays.json")
        )
        subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(figures.read_text(encoding="utf-8"))


def objectives_of(case: str, voxels: dict):
    """Return the objectives of the peer's script on a case."""
    from cantlie.plan.objectives import (
        MeanDeviation,
        SquaredDeviation,
        SquaredOverdose,
        SquaredUnderdose,
        VoxelSet,
    )  # fmt: skip

    def of(name: str) -> VoxelSet:
        return VoxelSet(voxels[name], np.full(len(voxels[name]), 1.0 / len(voxels[name])))

    target, dose = CASES[case]["target"], CASES[case]["prescription_gy"]
    if case == "tg119":
        return [
            SquaredDeviation(of(target), dose, 1000.0),
            SquaredOverdose(of("Core"), 1.0, 300.0),
            SquaredOverdose(of("BODY"), 1.2, 100.0),
            MeanDeviation(of("BODY"), 0.0, 0.0, 1.0),
        ]
    most = dose * (1.20 if case == "liver_sbrt" else 1.05)
    return [
        SquaredUnderdose(of(target), dose, 1000.0),
        SquaredOverdose(of(target), most, 300.0),
        MeanDeviation(of("LIVER"), 0.0, 0.0, 5.0),
        SquaredOverdose(of("LIVER"), 0.5 * dose, 50.0),
        SquaredOverdose(of("CORD"), 0.3 * dose, 100.0),
        SquaredOverdose(of("STOMACH"), 0.4 * dose, 100.0),
        SquaredOverdose(of("KIDNEY_R"), 0.3 * dose, 50.0),
        SquaredOverdose(of("BODY"), 0.5 * dose, 50.0),
        MeanDeviation(of("BODY"), 0.0, 0.0, 1.0),
    ]


def optimise(folder: Path, case: str) -> dict[str, float]:
    """Minimise the peer's objectives on its matrix; return objective, CPU seconds, and those until the bar."""
    from cantlie.plan.matrix import SparseInfluence
    from cantlie.plan.working_set import minimise_on_matrix

    with np.load(folder / f"{case}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    voxels = {name[4:]: arrays[name].astype(np.int64) for name in arrays if name.startswith("vox_")}
    tiny = SparseInfluence.of_columns(np.ones(1, np.float32), np.zeros(1, np.int32), np.array([0, 1]), (1, 1))
    tiny.adjoint(tiny.forward(np.ones(1)))  # loads the compiled kernels
    began = time.process_time()
    matrix = SparseInfluence.of_columns(arrays["data"], arrays["indices"], arrays["indptr"], tuple(arrays["shape"]))
    converted = time.process_time() - began
    target = voxels[CASES[case]["target"]]
    ones = np.ones(matrix.shape[1])
    start = ones * CASES[case]["prescription_gy"] / float(matrix.forward(ones)[target].mean())
    at_bar = float("nan")

    def watch(number: int, value: float) -> None:
        nonlocal at_bar
        if np.isnan(at_bar) and value <= CASES[case]["bar"]:
            at_bar = time.process_time() - began

    wall = time.perf_counter()
    found = minimise_on_matrix(matrix, objectives_of(case, voxels), start, rounds=12, iterations=60, watch=watch)
    return {
        "objective": found.value,
        "cpu_s": time.process_time() - began,
        "wall_s": time.perf_counter() - wall,
        "cpu_to_bar_s": at_bar,
        "convert_cpu_s": converted,
        "evaluations": found.evaluations,
    }


def quality(dose, masks: dict, target: str, prescription_gy: float) -> dict[str, float]:
    """Return what both plans are compared by, scaled so that 95 % of the target get the prescription."""
    values = np.asarray(dose, dtype=np.float64)
    inside = masks[target]
    scale = prescription_gy / float(np.percentile(values[inside], 5))
    values = values * scale
    covered = values >= prescription_gy
    both = float((covered & inside).sum())
    return {
        "dmax_percent": 100 * float(values[masks["BODY"]].max()) / prescription_gy,
        "liver_outside_gy": float(values[masks["LIVER"] & ~inside].mean()),
        "paddick": both**2 / (float(inside.sum()) * float(covered.sum())),
        "scale": scale,
    }


def peer_dose(folder: Path, case: str, density, model):
    """Return the collapsed-cone dose of the peer's fluence on the CT grid, of arbitrary scale."""
    from scipy import ndimage

    from cantlie.dose.collapsed_cone import collapsed_cone_dose
    from cantlie.dose.field import Field
    from cantlie.machine.aperture import FluenceMap
    from cantlie.machine.geometry import BeamGeometry

    beams = json.loads((folder / f"{case}.rays.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{case}.dose.npz") as stored:
        weights = np.maximum(np.asarray(stored["w"], dtype=np.float64), 0.0)
    fields, start = [], 0
    for beam in beams:
        rays = np.asarray(beam["rays"])
        x, y = rays[:, 0], rays[:, 2]  # their beam's eye view: x to the right, z towards the head
        values = weights[start : start + len(rays)]
        start += len(rays)
        axis = np.arange(-200.0 + 0.625, 200.0, 1.25)
        image = np.zeros((len(axis), len(axis)))
        for one_x, one_y, value in zip(x, y, values, strict=True):
            columns = slice(round((one_x - 2.5 + 200) / 1.25), round((one_x + 2.5 + 200) / 1.25))
            rows = slice(round((one_y - 2.5 + 200) / 1.25), round((one_y + 2.5 + 200) / 1.25))
            image[rows, columns] = value
        # the source blurs it as it blurs Cantlie's segments, where leaves stand
        gap = 1000.0 - model.collimator_distance_mm
        blur = model.focal_spot_sigma_mm * gap / model.collimator_distance_mm
        image = ndimage.gaussian_filter(image, blur / 1.25)
        fields.append(Field(BeamGeometry(tuple(beam["iso"]), beam["gantry"]), FluenceMap(axis, axis, image)))
    if start != len(weights):
        sys.exit(f"{case}: {start} rays for {len(weights)} weights")
    return collapsed_cone_dose(density, fields, model, grid=density.grid).values


def own_plan(case: str, density, masks: dict, protocol: str, machine: str):
    """Return a deliverable plan by a built-in protocol with the peer's beams, and its dose on the CT grid."""
    from cantlie.machine.machine import load_machine
    from cantlie.patient.regions import Regions
    from cantlie.plan.planner import plan_targets
    from cantlie.plan.request import PlannerSettings, PlanningRequest, PlanTarget
    from cantlie.protocol.loading import load_protocol

    names = {"LIVER": "Liver", "STOMACH": "Stomach", "KIDNEY_R": "Kidney_R", "KIDNEY_L": "Kidney_L",
             "CORD": "SpinalCord", "HEART": "Heart", "BODY": "BODY", "GTV": "GTV_1"}  # fmt: skip
    loaded = load_protocol(protocol)
    if case == "liver_sbrt":
        loaded = loaded.with_scheme("42-in-3")
        target = PlanTarget("PTV", 42.0, 3, gantry_deg=tuple(40.0 * n for n in range(9)), fields=9)
    else:
        target = PlanTarget("PTV1", 30.0, 15, gantry_deg=tuple(40.0 * n for n in range(9)), fields=9)
    regions = {names[name]: mask.astype(np.float32) for name, mask in masks.items() if name in names}
    regions[target.name] = masks[CASES[case]["target"]].astype(np.float32)
    request = PlanningRequest(
        density, Regions(density.grid, regions), loaded, load_machine(machine), "HFS", (target,),
        PlannerSettings(dose_grid_mm=density.grid.spacing_mm),
    )  # fmt: skip
    began = time.process_time()
    result = plan_targets(request)
    segments = max(len(beam.control_points) // 2 for beam in result.plans[0].plan.beams)
    return result, {"plan_cpu_s": time.process_time() - began, "most_segments": segments}


def recalculate(shared: Path, folder: Path, case: str, machine: str) -> dict[str, dict[str, float]]:
    """Return the quality of the peer's plan and of Cantlie's in the same dose engine."""
    from cantlie.machine.beam_model import BeamModel
    from dose import phantom

    density, masks = phantom(shared)
    model = BeamModel.named("generic-6mv")
    target = CASES[case]["target"]
    prescription = CASES[case]["prescription_gy"]
    protocol = "liu2022-sbrt" if case == "liver_sbrt" else "zhang2021-alternating"
    result, extra = own_plan(case, density, masks, protocol, machine)
    fractions = result.plans[0].target.fractions
    own = quality(result.plans[0].dose.values / fractions, masks, target, prescription)
    return {
        "cantlie": {**own, **extra},
        "pyRadPlan": quality(peer_dose(folder, case, density, model), masks, target, prescription),
    }


def page(figures: dict) -> str:
    """Return the figures as a page of Markdown."""
    lines = [
        "# The optimiser and the planner beside pyRadPlan", "",
        "Research use only. From the figures of `python benchmarks/planner.py --shared ../shared/benchmarks "
        "--peer VENV --write docs/validation`. A case that is missing was not run on this occasion.", "",
        f"{figures['date']}, {figures['cores']} cores, {figures['cpu']}.", "",
        "## Same matrix, same objectives", "",
        "CPU seconds of Cantlie count from the peer's columns in memory, with their conversion to rows.", "",
        "| case, 5 mm | pyRadPlan: objective | CPU s | Cantlie: objective | CPU s | bar | CPU s until the bar | "
        "times fewer CPU s until the bar |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for case, row in figures["cases"].items():
        peer, own = row["peer"], row["own"]
        lines.append(
            f"| {case} | {peer['objective']:.4f} | {peer['cpu_s']:.1f} | {own['objective']:.4f} | {own['cpu_s']:.1f} | "
            f"{CASES[case]['bar']:g} | {own['cpu_to_bar_s']:.1f} | {peer['cpu_s'] / own['cpu_to_bar_s']:.1f} |"
        )
    lines += [
        "", "## Same phantom, same dose engine", "",
        "pyRadPlan's fluence (no leaves, no segments) and Cantlie's deliverable segments (at most 12 a field), both "
        "calculated by Cantlie's collapsed cone on the CT grid with the same nine beams and scaled until 95 % of the "
        "target get the prescription. Lower is better for the first two columns, higher for conformity.", "",
        "| case | plan | Dmax % | liver outside the target, mean Gy | Paddick conformity |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for case, row in figures["cases"].items():
        for name, one in row.get("plans", {}).items():
            lines.append(
                f"| {case} | {name} | {one['dmax_percent']:.1f} | {one['liver_outside_gy']:.3f} | "
                f"{one['paddick']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment with pyRadPlan")
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, help="where the peer's files are kept")
    parser.add_argument("--machine", default="generic-6mv-160", help="of Cantlie's deliverable plan")
    parser.add_argument("--json", type=Path, help="figures of all cases so far; cases that are run are replaced")
    parser.add_argument("--write", type=Path, help="folder for the page planner.md")
    parser.add_argument("--task", choices=("optimise", "recalculate"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    shared = asked.shared.resolve()
    if asked.task:
        case = asked.case[0]
        found = optimise(asked.folder, case) if asked.task == "optimise" else recalculate(
            shared, asked.folder, case, asked.machine)  # fmt: skip
        print(json.dumps(found))
        return
    processor = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    figures = {"cases": {}}
    if asked.json and asked.json.exists():
        figures = json.loads(asked.json.read_text(encoding="utf-8"))
    figures |= {"date": datetime.now(UTC).date().isoformat(), "cores": len(os.sched_getaffinity(0)),
                "cpu": processor[0] if processor else "unknown"}  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for case in asked.case:
            peer = run_peer(shared, asked.peer, folder, case)

            def own(task: str, case: str = case) -> dict:
                command = [sys.executable, __file__, "--shared", str(shared), "--peer", str(asked.peer), "--case", case,
                           "--folder", str(folder), "--machine", asked.machine, "--task", task]  # fmt: skip
                finished = subprocess.run(command, capture_output=True, text=True)
                if finished.returncode:
                    sys.exit(finished.stderr[-3000:])
                return json.loads(finished.stdout.splitlines()[-1])

            row = {"peer": {"objective": peer["obj_last"], "cpu_s": peer["cpu_opt"]}, "own": own("optimise")}
            if case.startswith("liver"):
                row["plans"] = own("recalculate")
            figures["cases"][case] = row
            print(case, json.dumps(row, indent=1), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if asked.write:
        (asked.write / "planner.md").write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
