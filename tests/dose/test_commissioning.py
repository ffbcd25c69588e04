"""Commissioning: a known beam model is found again from noisy data, and the residuals judge what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.commissioning import commission
from cantlie.dose.field import Field
from cantlie.dose.tank import quick_dose, tank_dose, tank_points
from cantlie.dose.tank_residuals import curve_residuals, output_residuals
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel, Calibration
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.measured import MeasuredCurve, OutputFactors, measured_beam

TYPICAL = BeamModel.named("generic-6mv")
NOISE = 0.005


def harder(tilt):
    """Weights of the packaged spectrum, tilted towards high energies."""
    energies, share = BeamModel(name="base").photons()
    weights = share * energies**tilt
    edges = np.append(energies - 0.125, 6.0)
    return {"spectrum_edges_mev": tuple(edges.tolist()), "spectrum_weights": tuple(weights / weights.sum())}


LINAC = TYPICAL.model_copy(
    update={
        **harder(0.35),
        "focal_spot_sigma_mm": 1.6,
        "extra_focal_fraction": 0.09,
        "extra_focal_sigma_mm": 18.0,
        "electron_contamination": 0.22,
        "jaw_transmission": 0.003,
        "off_axis_fluence": (1.0, 1.012, 1.028, 1.040, 1.052, 1.070, 1.070),
    }
)
"""A harder beam with a wide spot and more head scatter than typical."""

UNFLATTENED = TYPICAL.model_copy(
    update={
        **harder(-0.3),
        "focal_spot_sigma_mm": 0.7,
        "extra_focal_fraction": 0.025,
        "extra_focal_sigma_mm": 9.0,
        "electron_contamination": 0.3,
        "electron_contamination_depth_mm": 8.0,
        "jaw_transmission": 0.008,
        "off_axis_fluence": (1.0, 0.97, 0.91, 0.84, 0.77, 0.65, 0.55),
        "off_axis_attenuation": (1.0, 1.002, 1.006, 1.012, 1.020, 1.034, 1.048),
    }
)
"""A softer beam without flattening filter."""


def curve(kind, axis, side_mm, ssd_mm, position, depth_mm=0.0):
    """A curve whose values are still to be measured."""
    zero = np.zeros_like(position)
    return MeasuredCurve(
        kind=kind,
        axis=axis,
        field_mm=(side_mm, side_mm),
        ssd_mm=ssd_mm,
        x_mm=position if axis == "x" else zero,
        y_mm=position if axis == "y" else zero,
        depth_mm=position if axis == "depth" else zero + depth_mm,
        value=np.ones_like(position),
        energy_mv=6.0,
        where=f"{kind} {side_mm:g}",
    )


def to_measure(sides_mm, depths_mm, output_sides_mm, ssd_mm=900.0, axes="x"):
    depth = np.concatenate([np.arange(2.0, 30.0, 2.0), np.arange(30.0, 251.0, 5.0)])
    sets = [curve("depth dose", "depth", side, ssd_mm, depth) for side in sides_mm]
    for side in sides_mm:
        for at in depths_mm:
            reach = 0.5 * side * (ssd_mm + at) / 1000.0 + 35.0
            position = np.arange(-reach, reach + 1.0, 2.0)
            sets += [curve("profile", axis, side, ssd_mm, position, at) for axis in axes]
    sides = np.array([[side, side] for side in output_sides_mm])
    return [*sets, OutputFactors(ssd_mm, 100.0, sides, np.ones(len(sides)), 6.0, "output factors")]


def measured(sets, points, dose, seed):
    """Give every curve its dose, in per cent of its maximum, with noise."""
    noisy = dose * (1.0 + NOISE * np.random.default_rng(seed).standard_normal(dose.size))
    result = []
    for run, item in zip(points.runs, sets, strict=True):
        by = noisy[run][item.reference] if isinstance(item, OutputFactors) else 0.01 * noisy[run].max()
        result.append(replace(item, value=noisy[run] / by))
    return result


def width_mm(position, values):
    """Distance from 80 % to 20 % at the right edge, of the value in the middle of the half field."""
    right = position > 0
    x, v = position[right], values[right] / np.interp(0.0, position, values)
    edge = np.interp(-0.5, -v, x)
    inner = np.interp(0.75 * edge, x, v)
    outer = x > 0.75 * edge
    return np.interp(-0.2 * inner, -v[outer], x[outer]) - np.interp(-0.8 * inner, -v[outer], x[outer])


def assert_recovered(sets, points, found, truth):
    """Hold the found dose against the dose without noise, by the bars of the project."""
    for run, item in zip(points.runs, sets, strict=True):
        is_dose, was_dose = found[run], truth[run]
        if isinstance(item, OutputFactors):
            ratio = (is_dose / is_dose[item.reference]) / (was_dose / was_dose[item.reference])
            assert np.abs(ratio - 1.0).max() < 0.005, item
        elif item.kind == "depth dose":
            at = int(np.argmin(np.abs(item.depth_mm - 100.0)))
            ratio = (is_dose / is_dose[at]) / (was_dose / was_dose[at])
            assert np.abs(ratio - 1.0)[item.depth_mm >= 10.0].max() < 0.005, item.label
            build_up = np.abs(is_dose / is_dose.max() - was_dose / was_dose.max())[item.depth_mm >= 4.0]
            assert build_up.max() < 0.01, item.label
        else:
            widths = [width_mm(item.position_mm, dose) for dose in (is_dose, was_dose)]
            assert abs(widths[0] - widths[1]) < 0.5, item.label
            axis = [np.interp(0.0, item.position_mm, dose) for dose in (is_dose, was_dose)]
            assert np.abs(is_dose / axis[0] - was_dose / axis[1]).max() < 0.03, item.label


def test_a_known_model_is_found_again_from_noisy_data():
    sets = to_measure((40.0, 100.0), (50.0, 100.0), (20.0, 40.0, 70.0, 100.0))
    points = tank_points(sets)
    truth = tank_dose(LINAC, points)
    messages = []
    result = commission(
        measured_beam(measured(sets, points, truth, 1)), "found", progress=lambda f, m="": messages.append((f, m))
    )
    found = tank_dose(result.model, points)
    assert_recovered(sets, points, found, truth)
    assert result.model.focal_spot_sigma_mm == pytest.approx(1.6, abs=0.15)
    assert result.model.relative_fluence(40.0) == pytest.approx(LINAC.relative_fluence(40.0), abs=0.006)
    # What is reported is the engine's dose of the final model.
    np.testing.assert_allclose(np.concatenate(result.curves), found[: -sets[-1].value.size], rtol=1e-6)
    assert messages[-1][0] == 1.0
    assert [f for f, _ in messages] == sorted(f for f, _ in messages)


def tilted(model, tilt):
    """The model with its spectrum tilted, in bins of its own."""
    edges, share = model.spectrum_bins()
    weights = share * (0.5 * (edges[1:] + edges[:-1])) ** tilt
    own = {"spectrum_edges_mev": tuple(edges.tolist()), "spectrum_weights": tuple((weights / weights.sum()).tolist())}
    return model.model_copy(update=own)


FIFTEEN = tilted(BeamModel.named("generic-15mv"), 0.3).model_copy(
    update={
        "focal_spot_sigma_mm": 1.5,
        "extra_focal_fraction": 0.085,
        "electron_contamination": 0.14,
        "jaw_transmission": 0.003,
        "off_axis_fluence": (1.0, 1.012, 1.028, 1.040, 1.052, 1.070, 1.070),
    }
)
COBALT = tilted(BeamModel.named("generic-co60"), -0.2).model_copy(
    update={
        "focal_spot_sigma_mm": 4.2,
        "extra_focal_fraction": 0.08,
        "off_axis_fluence": (1.0, 0.995, 0.98, 0.96, 0.94),
    }
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth_model", "energy_mv", "sad_mm", "ssd_mm"),
    [(FIFTEEN, 15.0, 1000.0, 900.0), (COBALT, 1.25, 800.0, 750.0)],
    ids=["15 MV", "cobalt-60"],
)
def test_a_beam_of_another_quality_is_found_again_from_noisy_data(truth_model, energy_mv, sad_mm, ssd_mm):
    sets = to_measure((40.0, 100.0), (50.0, 100.0), (40.0, 70.0, 100.0), ssd_mm=ssd_mm)
    sets = [replace(item, energy_mv=energy_mv) for item in sets]
    points = tank_points(sets, sad_mm)
    truth = tank_dose(truth_model, points)
    data = replace(measured_beam(measured(sets, points, truth, 1)), calibration=truth_model.calibration)
    result = commission(data, "found", sad_mm=sad_mm)
    assert_recovered(sets, points, tank_dose(result.model, points), truth)
    assert result.model.focal_spot_sigma_mm == pytest.approx(truth_model.focal_spot_sigma_mm, abs=0.3)
    assert not any("kernels" in note.message or "settled" in note.message for note in result.notes)


def test_what_was_not_measured_stays_typical_and_is_said():
    sets = to_measure((40.0,), (), (40.0,))[:1]
    points = tank_points(sets)
    truth = tank_dose(LINAC, points)
    result = commission(measured_beam(measured(sets, points, truth, 1)), "found")
    assert_recovered(sets, points, tank_dose(result.model, points), truth)
    assert result.model.relative_fluence(100.0) == pytest.approx(TYPICAL.relative_fluence(100.0))
    assert result.model.focal_spot_sigma_mm == pytest.approx(TYPICAL.focal_spot_sigma_mm, abs=0.05)
    said = " ".join(note.message for note in result.notes)
    assert "no profiles" in said
    assert "no output factors" in said
    assert "kernels" not in said


def engine_on_a_grid_of_its_own(model, sets, ssd_mm=900.0):
    """Dose at the points by the public road of plans: 2 mm voxels, fluence on 2 mm pixels, trilinear reading."""
    result = []
    for item in sets:
        fields = item.field_mm if isinstance(item, OutputFactors) else [item.field_mm]
        values = []
        for width, height in fields:
            reach = 0.5 * max(width, height) * 1.25 + 90.0
            n = 2 * round(reach / 2.0) + 1
            grid = Grid((n, 165, n), (2.0, 2.0, 2.0), (-(n - 1.0), 1.0, -(n - 1.0)))
            pixels = pixel_centres(-0.5 * width - 80.0, 0.5 * width + 80.0, 2.0)
            aperture = Aperture((-0.5 * width, 0.5 * width), (-0.5 * height, 0.5 * height))
            fluence = aperture_fluence(aperture, 1.0, None, model, pixels, pixels)
            geometry = BeamGeometry((0.0, 1000.0 - ssd_mm, 0.0), 0.0)
            water = Volume(grid, np.ones(grid.shape, dtype=np.float32))
            key = (model.name, width, height)
            if key not in _GRID_DOSES:
                _GRID_DOSES[key] = collapsed_cone_dose(water, [Field(geometry, fluence)], model)
            if isinstance(item, OutputFactors):
                values.append(_GRID_DOSES[key].sample([[0.0, item.depth_mm, 0.0]]))
            else:
                place = np.stack([item.x_mm, item.depth_mm, item.y_mm], axis=1)
                values.append(_GRID_DOSES[key].sample(place))
        result.append(np.concatenate(values))
    return np.concatenate(result)


_GRID_DOSES: dict = {}


@pytest.mark.slow
@pytest.mark.parametrize("model", [LINAC, UNFLATTENED], ids=["linac", "unflattened"])
def test_a_known_model_is_found_again_from_a_whole_noisy_data_set(model):
    _GRID_DOSES.clear()
    sets = to_measure((30.0, 100.0, 250.0), (15.0, 100.0, 200.0), (20.0, 30.0, 50.0, 100.0, 150.0, 250.0), axes="xy")
    points = tank_points(sets)
    truth = engine_on_a_grid_of_its_own(model, sets)
    result = commission(measured_beam(measured(sets, points, truth, 2)), "found")
    found = engine_on_a_grid_of_its_own(result.model, sets)
    assert_recovered(sets, points, found, truth)
    assert not any("settled" in note.message for note in result.notes)


def test_pencils_follow_the_engine():
    points = tank_points(to_measure((40.0,), (100.0,), (40.0,)))
    deep = points.depth_mm >= 20.0
    other = TYPICAL.model_copy(update={"focal_spot_sigma_mm": 1.8, "extra_focal_fraction": 0.1, **harder(0.3)})
    engine = tank_dose(other, points)[deep] / tank_dose(TYPICAL, points)[deep]
    quick = quick_dose(other, points)[deep] / quick_dose(TYPICAL, points)[deep]
    assert np.abs(np.log(engine)).max() > 0.1
    assert np.abs(quick / engine - 1.0).max() < 0.3 * np.abs(engine - 1.0).max()
    assert np.corrcoef(np.log(engine), np.log(quick))[0, 1] > 0.98


@pytest.mark.parametrize("dose", [tank_dose, quick_dose])
def test_one_monitor_unit_is_what_the_calibration_says(dose):
    model = TYPICAL.model_copy(
        update={"calibration": Calibration(gy_per_mu=0.0123, depth_mm=50.0, ssd_mm=950.0, field_mm=60.0)}
    )
    points = tank_points([OutputFactors(950.0, 50.0, np.array([[60.0, 60.0]]), np.ones(1))])
    assert dose(model, points)[0] == pytest.approx(0.0123, rel=0.005)


def judged(result):
    return {row.metric.split(",")[0]: row for row in result.judged}


def analytic_profile(shift_mm=0.0, tail=0.01):
    position = np.arange(-90.0, 90.1, 1.0)
    edge = 0.5 * 100.0  # at the isocentre plane: SSD 900 mm, depth 100 mm
    values = tail + (1 - tail) / (1 + np.exp((np.abs(position) - edge - shift_mm) / 1.5))
    return replace(curve("profile", "x", 100.0, 900.0, position, 100.0), value=values)


def test_residuals_measure_a_shifted_edge_and_a_wrong_tail():
    same = judged(curve_residuals(analytic_profile(), analytic_profile().value * 0.01))
    assert all(abs(row.achieved) < 1e-9 for row in same.values())
    shifted = judged(curve_residuals(analytic_profile(), analytic_profile(2.5).value * 0.01))
    assert shifted["penumbra"].achieved == pytest.approx(2.5, abs=0.15)
    assert [shifted[name].verdict for name in ("high dose", "penumbra", "tail")] == ["pass", "fail", "pass"]
    raised = judged(curve_residuals(analytic_profile(), analytic_profile(0.0, 0.05).value * 0.01))
    assert raised["tail"].achieved == pytest.approx(4.0, abs=0.1)
    assert [raised[name].verdict for name in ("high dose", "tail")] == ["pass", "fail"]


def test_residuals_of_a_depth_dose_do_not_depend_on_its_scale():
    depth = np.arange(0.0, 251.0, 1.0)
    values = (1.0 - 0.6 * np.exp(-depth / 4.0)) * np.exp(-depth / 200.0)
    item = replace(curve("depth dose", "depth", 100.0, 900.0, depth), value=73.0 * values)
    assert all(abs(row.achieved) < 1e-9 for row in curve_residuals(item, values).judged)
    steeper = judged(curve_residuals(item, values * np.exp(-depth / 4000.0)))
    assert steeper["high dose"].verdict == "fail"
    shallower = (1.0 - 0.6 * np.exp(-(depth + 1.0) / 4.0)) * np.exp(-depth / 200.0)
    assert judged(curve_residuals(item, shallower))["build-up"].achieved == pytest.approx(-1.0, abs=0.25)


def test_residuals_of_output_factors_are_relative_to_the_reference_field():
    fields = np.array([[50.0, 50.0], [100.0, 100.0], [200.0, 200.0]])
    item = OutputFactors(900.0, 100.0, fields, np.array([0.90, 2.0, 2.2]) * 0.5)
    rows = output_residuals([item], [np.array([0.4545, 1.0, 1.1])])
    assert [row.achieved for row in rows] == pytest.approx([1.0, 0.0, 0.0])
    assert output_residuals([item], [np.array([0.46, 1.0, 1.1])])[0].verdict == "fail"
