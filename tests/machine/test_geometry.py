"""Beam geometry against the definitions of IEC 61217 and DICOM."""

import numpy as np
import pytest

from cantlie.core.errors import GeometryError
from cantlie.machine.geometry import PATIENT_POSITIONS, BeamGeometry

ISO = (10.0, -25.0, 40.0)


@pytest.mark.parametrize(
    ("position", "gantry", "source"),
    [
        ("HFS", 0, (0, -1, 0)),
        ("HFS", 90, (1, 0, 0)),
        ("HFS", 270, (-1, 0, 0)),
        ("FFS", 0, (0, -1, 0)),
        ("FFS", 90, (-1, 0, 0)),
        ("HFP", 0, (0, 1, 0)),
        ("HFP", 90, (-1, 0, 0)),
        ("FFP", 90, (1, 0, 0)),
        ("HFDR", 0, (1, 0, 0)),
        ("HFDL", 0, (-1, 0, 0)),
    ],
)
def test_source_stands_where_the_patient_position_puts_it(position, gantry, source):
    beam = BeamGeometry(ISO, gantry, patient_position=position)
    np.testing.assert_allclose((beam.source_mm - ISO) / 1000, source, atol=1e-12)


@pytest.mark.parametrize("position", PATIENT_POSITIONS)
@pytest.mark.parametrize("angles", [(0, 0, 0), (33, 12, 0), (200, 350, 45), (90, 90, 270)])
def test_axes_are_a_right_handed_orthonormal_frame(position, angles):
    axes = BeamGeometry(ISO, *angles, patient_position=position).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_collimator_turns_counter_clockwise_seen_from_the_source():
    # Gantry 0, HFS: the source looks down; x_b at collimator 90 points to the gantry, which is the patient's head.
    np.testing.assert_allclose(BeamGeometry(ISO, 0, 90).axes[0], (0, 0, 1), atol=1e-12)


def test_couch_90_brings_a_lateral_beam_to_the_feet_or_head():
    # At couch 90 the support's x axis points to the gantry (fixed y); gantry 90 fires from fixed +x, i.e. support -y:
    # for a head-first patient that is from the feet.
    np.testing.assert_allclose((BeamGeometry(ISO, 90, 0, 90).source_mm - ISO) / 1000, (0, 0, -1), atol=1e-12)


def test_project_is_constant_along_a_ray():
    beam = BeamGeometry(ISO, 33, 12, 20, patient_position="FFS")
    x, y = np.array([-50.0, 0.0, 80.0]), np.array([20.0, 0.0, -100.0])
    plane = np.asarray(ISO) + x[:, None] * beam.axes[0] + y[:, None] * beam.axes[1]
    for fraction in (0.7, 1.0, 1.3):
        points = beam.source_mm + fraction * (plane - beam.source_mm)
        got_x, got_y, axial = beam.project(points)
        np.testing.assert_allclose(got_x, x, atol=1e-9)
        np.testing.assert_allclose(got_y, y, atol=1e-9)
        np.testing.assert_allclose(axial, 1000 * fraction, atol=1e-9)


def test_unknown_patient_position_is_refused_in_one_sentence():
    with pytest.raises(GeometryError, match="SITTING"):
        BeamGeometry(ISO, 0, patient_position="SITTING")
