"""Fields from nearly one direction share a superposition, and little is lost by it."""

from __future__ import annotations

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.directions import groups_of, mean_frame
from cantlie.dose.field import Field
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

POINT = BeamModel.named("reference-6mv-point")
PIXELS = pixel_centres(-60.0, 60.0, 2.0)


def field(gantry_deg, middle_mm=0.0, mu=100.0, isocentre_mm=(0.0, 0.0, 0.0), **more):
    aperture = Aperture((middle_mm - 15.0, middle_mm + 15.0), (-20.0, 20.0))
    fluence = aperture_fluence(aperture, mu, None, POINT, PIXELS, PIXELS)
    return Field(BeamGeometry(isocentre_mm, gantry_deg, **more), fluence)


def test_an_arc_falls_into_groups_and_comes_back_into_them():
    there = [field(float(a)) for a in (0, 2, 4, 6, 8, 10)]
    back = [field(float(a)) for a in (9, 7, 5, 3, 1)]
    groups = groups_of([*there, *back], 6.0)
    assert sum(len(group) for group in groups) == 11
    for group in groups:
        angles = [one.geometry.gantry_deg for one in group]
        assert max(angles) - min(angles) <= 6.0 + 1e-9
    assert [one.geometry.gantry_deg for one in groups[0]] == [0, 2, 4, 6, 5, 3, 1]


def test_static_beams_isocentres_and_couches_stay_apart():
    beams = [
        field(0.0),
        field(20.0),
        field(0.0, isocentre_mm=(30.0, 0.0, 0.0)),
        field(90.0),
        field(90.0, couch_deg=20.0),
    ]
    assert [len(group) for group in groups_of(beams)] == [1] * 5
    assert [len(group) for group in groups_of([field(359.0), field(1.0)])] == [2]
    assert [len(group) for group in groups_of([field(0.0), field(1.0)], 0.0)] == [1, 1]


def test_the_mean_frame_is_that_of_the_weights():
    axes, source = mean_frame([field(0.0, mu=1.0), field(4.0, mu=3.0)])
    expected = BeamGeometry((0.0, 0.0, 0.0), 3.0)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[2], -expected.axes[2], atol=1e-3)
    np.testing.assert_allclose(source, expected.source_mm, atol=0.5)
    np.testing.assert_allclose(axes[:2], expected.axes[:2], atol=1e-3)
    one = field(30.0)
    np.testing.assert_array_equal(mean_frame([one])[1], one.geometry.source_mm)


def test_a_grouped_arc_has_the_dose_of_its_fields():
    grid = Grid((30, 40, 50), (4.0, 4.0, 4.0), (-98.0, -78.0, -58.0))
    _, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    density = np.where((x / 90) ** 2 + (y / 70) ** 2 < 1, 1.0, 0.0012).astype(np.float32)
    density[(x > 30) & (density > 0.5)] = 0.3
    patient = Volume(grid, density)
    arc = [field(float(angle), 12.0 * np.sin(angle / 5.0)) for angle in range(-8, 10, 2)]
    separate = collapsed_cone_dose(patient, arc, POINT, span_deg=0.0).values
    grouped = collapsed_cone_dose(patient, arc, POINT).values
    assert len(groups_of(arc)) == 3
    inside = separate > 0.5 * separate.max()
    off = (grouped - separate) / separate.max()
    assert abs(off[inside].mean()) < 0.002
    assert np.percentile(np.abs(off[inside]), 99) < 0.012
    assert not np.array_equal(grouped, separate)
