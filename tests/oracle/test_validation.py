"""The instruments of the validation suite measure what they say, and the page that is kept agrees with its table."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.attenuation import mass_attenuation_cm2_g
from cantlie.dose.calibration import fluence_per_mu
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.machine.machine import load_machine

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from validation import beams, page, photon_walk, scoring, tg119  # noqa: E402
from validation.rows import Chapter, Row, table_csv  # noqa: E402

GRID = Grid((60, 60, 60), (2.5, 2.5, 2.5), (-73.75, -73.75, -73.75))


def falling_dose(shift_mm: float = 0.0, scale: float = 1.0) -> Volume:
    """A smooth beam along +y, 60 mm wide at x and z, surface at y = -73.75."""
    z, y, x = np.meshgrid(GRID.z_mm, GRID.y_mm, GRID.x_mm, indexing="ij")
    across = [0.5 * (np.tanh((a + 30) / 3) - np.tanh((a - 30) / 3)) for a in (x - shift_mm, z)]
    depth = y + 75.0
    return Volume(GRID, scale * across[0] * across[1] * (1 - np.exp(-depth / 5)) * np.exp(-depth / 180))


def reference_of(dose: Volume, noise: float = 0.005) -> scoring.Reference:
    """The same dose on uneven cells, as a Monte Carlo reference without its noise."""
    fine = np.concatenate([np.arange(-70.0, -40.0, 6.0), np.arange(-40.0, 40.1, 2.0), np.arange(46.0, 71.0, 6.0)])
    edges = (fine, np.arange(-73.0, 70.0, 3.0), fine)
    weights = tuple(scoring.mean_weights(e, c) for e, c in zip(edges, (GRID.z_mm, GRID.y_mm, GRID.x_mm), strict=True))
    values = scoring.apply(weights, dose.values)
    depth = np.broadcast_to((0.5 * (edges[1][1:] + edges[1][:-1]) + 75.0)[:, None], values.shape)
    case = {"profile_depths_mm": [50, 100], "surface_point_mm": [0, -75.0, 0], "interfaces_depth_mm": []}
    return scoring.Reference(
        edges, values, noise * values, depth, values > 1e-4 * values.max(), np.array([0.0, -1.0e6, 0.0]),
        np.zeros(3), 60.0, case,
    )  # fmt: skip


def test_a_dose_agrees_with_itself_on_any_cells() -> None:
    found = scoring.score(reference_of(falling_dose()), falling_dose())
    for value in (found.axis_mean[0], found.axis_worst[0], found.field_mean[0], found.tail[0], found.off_axis_excess):
        assert value == pytest.approx(0, abs=1e-6)
    assert found.penumbra_mm == pytest.approx(0, abs=1e-6)
    assert found.gamma_local > 99.5 and found.gamma_points > 1000


def test_scale_and_shift_are_found() -> None:
    scaled = scoring.score(reference_of(falling_dose()), falling_dose(scale=1.03))
    assert scaled.axis_mean[0] == pytest.approx(3.0, abs=1e-6)
    assert scaled.field_mean[0] == pytest.approx(3.0, abs=1e-6)
    assert scaled.gamma_local_raw < 90
    moved = scoring.score(reference_of(falling_dose()), falling_dose(shift_mm=1.5))
    assert abs(moved.edge_mm) == pytest.approx(1.5, abs=0.1)
    assert abs(moved.field_mean[0]) < 0.2


def test_noise_widens_a_limit_by_two_standard_deviations_and_nothing_found_fails() -> None:
    def verdict(found: float, side: str, sigma: float = 0.0) -> str:
        return Row("part", "what", found, "%", 2.0, side, "how", sigma).verdict

    assert verdict(-2.1, "within") == "FAIL" and verdict(-2.1, "within", 0.1) == "pass"
    assert verdict(1.9, "at least") == "FAIL" and verdict(2.1, "at most") == "FAIL"
    assert verdict(float("nan"), "at most") == "FAIL" and verdict(9.0, "reported") == "reported"


def test_photon_walk_keeps_energy_and_compton_is_that_of_klein_and_nishina() -> None:
    # 0.28657 barn per electron at the rest energy of the electron: Evans, The Atomic Nucleus (1955), table A.1
    per_electron = photon_walk.klein_nishina_cm2_g(np.array([0.51099895]))[0] / 3.34279e23
    assert per_electron == pytest.approx(2.8657e-25, rel=2e-3)
    energies = np.array([0.2, 0.5, 1.0])
    assert photon_walk.klein_nishina_cm2_g(energies) == pytest.approx(
        mass_attenuation_cm2_g("water", energies), rel=0.01
    )
    walked = photon_walk.walk(beams.POINT, 100.0, 200.0, photons=40_000)
    assert walked.imparted + walked.escaped == pytest.approx(walked.released, rel=1e-9)
    assert walked.layers.sum() == pytest.approx(walked.imparted, rel=1e-9)


def test_energy_imparted_to_a_cube__against_photon_walk() -> None:
    phantom = beams.water(5.0, 100.0, 200.0)
    dose = collapsed_cone_dose(phantom, [beams.jaw_field((-50, 50), (-50, 50), beams.POINT, mu=1.0)], beams.POINT)
    joule = float(dose.values.sum(dtype=np.float64)) * 125e-6 / fluence_per_mu(beams.POINT)
    walked = photon_walk.walk(beams.POINT, 100.0, 200.0, photons=200_000)
    # Some of the energy of the electrons leaves so small a cube, and the walk's do not travel.
    assert joule / 1.602176634e-13 / walked.imparted == pytest.approx(
        0.985, abs=0.015 + 2 * walked.sigma / walked.imparted
    )


def test_leaves_around_rectangles_can_be_formed() -> None:
    machine = load_machine("generic-6mv-mlci")
    assert machine.mlc is not None
    made = beams.leaf_aperture(machine.mlc, [(-130, 130, 40, 100), (-30, 30, -20, 40)])
    machine.check(made)
    assert made.jaw_x_mm == (-130, 130) and made.jaw_y_mm == (-20, 100)


@pytest.mark.parametrize("case", tg119.CASES, ids=lambda case: case.name)
def test_shapes_of_tg119_have_their_volumes(case: tg119.Case) -> None:
    density, masks = tg119.shapes(case)
    voxel_cc = density.grid.voxel_cc
    if "Core" in masks:
        assert masks["PTV"].sum() * voxel_cc == pytest.approx(0.75 * np.pi * (3.7**2 - 1.5**2) * 8.0, rel=0.03)
        assert masks["Core"].sum() * voxel_cc == pytest.approx(np.pi * 10.0, rel=0.03)
        assert not (masks["Core"] * masks["PTV"]).any()
    else:
        assert masks["PTV"].max() == 1 and (masks["PTV"] * masks["Rectum"]).sum() > 0
    assert {goal.structure for goal in case.goals} <= set(masks)
    assert tg119.protocol(case).target_ids == ("PTV",)


def test_a_page_shows_what_fails(tmp_path: Path) -> None:
    chapter = Chapter("one", "First chapter", "Words.")
    chapter.add("good", 1.0, "%", 2.0, "within", "so")
    chapter.add("bad", 3.0, "%", 2.0, "within", "so", note="because")
    page.write([chapter], tmp_path, complete=False)
    text = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert "| bad | 3.00 % | ±2 % | because |" in text and "**FAIL**" in text and "no folder" in text
    assert (tmp_path / "validation.csv").read_text(encoding="utf-8") == table_csv(chapter.rows)


def test_the_kept_page_agrees_with_its_table() -> None:
    folder = ROOT / "docs" / "validation"
    text = (folder / "index.md").read_text(encoding="utf-8")
    with (folder / "validation.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    verdicts = [row["verdict"] for row in rows]
    counts = " | ".join(f"**{verdicts.count(kind)}**" for kind in ("pass", "FAIL", "reported"))
    assert f"| **all** | {counts} |" in text
    for row in rows:
        assert row["what"] in text
        if row["verdict"] != "reported" and row["found"]:
            found, limit, sigma = (float(row[key] or 0) for key in ("found", "limit", "sigma"))
            again = Row(row["part"], row["what"], found, row["unit"], limit, row["side"], "", sigma)
            assert again.verdict == row["verdict"] or abs(abs(again.found) - again.limit - 2 * again.sigma) < 1e-3
    for name in ("monte-carlo-cases", "scoring-cells", "depth-dose", "basic-profiles", "energy", "tg119-1"):
        assert (folder / f"{name}.svg").exists() and f"({name}.svg)" in text
