"""Leaf sequences: every rule of every machine holds for any fluence, and the shapes are the best there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import summed_fluence
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.plan.apertures import TIP_STEP, tip_steps
from cantlie.plan.raster import Raster, raster_of
from cantlie.plan.segments import Segments, aperture_of, make_legal, opening, opening_gradient
from cantlie.plan.sequencing import sequence
from cantlie.plan.shapes import LeafRules, best_shape, leaf_rules

MACHINES = ("generic-6mv-mlci", "generic-6mv-120", "generic-6mv-160")
GEOMETRY = BeamGeometry((0.0, 0.0, 0.0), 0.0)


def raster_for(machine_id: str, half_along_mm: float, half_across_mm: float, shift_mm: float = 0.0) -> Raster:
    # at gantry 0 of a patient on the back x of the frame points to the left and y to the head
    x, z = np.meshgrid(np.arange(-half_along_mm, half_along_mm, 4.0), np.arange(-half_across_mm, half_across_mm, 4.0))
    points = np.stack([x.ravel() + shift_mm, np.zeros(x.size), z.ravel()], axis=1)
    return raster_of(GEOMETRY, load_machine(machine_id), points, 5.0, 5.0)[0]


def random_fluence(raster: Raster, seed: int, smooth: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    noise = rng.random((raster.leaves, raster.shape[1]))
    fluence = ndimage.gaussian_filter(noise, smooth) if smooth else noise
    fluence -= np.quantile(fluence, rng.uniform(0, 0.6))
    return np.maximum(fluence, 0) / max(fluence.max(), 1e-9) * rng.uniform(5, 80) * raster.leaf_used()


def check_legal(machine_id: str, raster: Raster, segments: Segments) -> None:
    machine = load_machine(machine_id)
    for n in range(len(segments)):
        machine.check(aperture_of(segments, n, raster, machine), where=f"segment {n}")
    assert (segments.mu >= machine.min_segment_mu - 1e-9).all()


@settings(deadline=None, max_examples=40)
@given(
    machine_id=st.sampled_from(MACHINES),
    seed=st.integers(0, 10_000),
    smooth=st.sampled_from([0.0, 1.0, 3.0]),
    half_along=st.integers(10, 170),
    half_across=st.integers(10, 120),
    shift=st.integers(-60, 60),
)
def test_no_rule_of_the_machine_is_broken(
    machine_id: str, seed: int, smooth: float, half_along: int, half_across: int, shift: int
) -> None:
    raster = raster_for(machine_id, half_along, half_across, shift)
    fluence = random_fluence(raster, seed, smooth)
    segments = sequence(fluence, raster, load_machine(machine_id), max_segments=5)
    check_legal(machine_id, raster, segments)


@settings(deadline=None, max_examples=40)
@given(machine_id=st.sampled_from(MACHINES), seed=st.integers(0, 10_000), jitter=st.floats(0, 200))
def test_moved_tips_are_made_legal(machine_id: str, seed: int, jitter: float) -> None:
    raster = raster_for(machine_id, 100, 60, seed % 50)
    machine = load_machine(machine_id)
    segments = sequence(random_fluence(raster, seed, 1.0), raster, machine, max_segments=3)
    rng = np.random.default_rng(seed)
    segments.lower_mm[:] += rng.normal(0, jitter, segments.lower_mm.shape)
    segments.upper_mm[:] += rng.normal(0, jitter, segments.upper_mm.shape)
    make_legal(segments, machine)
    check_legal(machine_id, raster, segments)
    lower, upper = segments.lower_mm.copy(), segments.upper_mm.copy()
    make_legal(segments, machine)
    np.testing.assert_allclose(segments.lower_mm, lower)
    np.testing.assert_allclose(segments.upper_mm, upper)


def rules(adjacent: int, rows: int, gap: int = 1, closable: bool = False) -> LeafRules:
    return LeafRules(gap, adjacent, closable, 99, 0, 99, np.ones(rows, dtype=bool), np.ones(rows, dtype=bool))


@pytest.mark.parametrize("adjacent", [-1, 0, 1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_best_shape__against_all_shapes(adjacent: int, seed: int) -> None:
    price = np.random.default_rng(seed).normal(-0.1, 1, (3, 5))
    intervals = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    best = 0.0
    for first in range(3):
        for last in range(first, 3):
            for shape in itertools.product(intervals, repeat=last - first + 1):
                if adjacent >= 0 and any(
                    p[1] - q[0] < adjacent or q[1] - p[0] < adjacent for p, q in itertools.pairwise(shape)
                ):
                    continue
                best = max(best, sum(price[first + n, a:b].sum() for n, (a, b) in enumerate(shape)))
    worth, lower, upper = best_shape(price, rules(adjacent, 3))
    assert worth == pytest.approx(best)
    assert sum(price[r, a:b].sum() for r, (a, b) in enumerate(zip(lower, upper, strict=True)) if a >= 0) == (
        pytest.approx(worth)
    )


def test_best_shape_may_close_pairs_where_leaves_close() -> None:
    price = np.array([[1.0, 1], [-1, -1], [-2, 3]])
    worth, lower, upper = best_shape(price, rules(-1, 3, closable=True))
    assert worth == 5
    assert list(zip(lower, upper, strict=True)) == [(0, 2), (-1, -1), (1, 2)]


def test_more_segments_come_closer() -> None:
    raster = raster_for("generic-6mv-mlci", 80, 80)
    fluence = random_fluence(raster, 3, 2.0)
    machine = load_machine("generic-6mv-mlci")
    mlc = machine.mlc
    assert mlc is not None
    errors = []
    for count in (1, 4, 8, 16):
        segments = sequence(fluence, raster, machine, max_segments=count)
        assert len(segments) <= count
        errors.append(float(np.linalg.norm(opening(segments, raster, mlc) - fluence) / np.linalg.norm(fluence)))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.35 and errors[3] < 0.25


def test_rounded_ends_do_not_open_more_than_is_wanted() -> None:
    raster = raster_for("generic-6mv-mlci", 60, 60)
    machine = load_machine("generic-6mv-mlci")
    mlc = machine.mlc
    assert mlc is not None and mlc.tip_offset_mm > 0
    opened = np.zeros(raster.leaf_used().shape)
    opened[1:-1, 3:-3] = 30.0
    found = opening(sequence(opened, raster, machine, max_segments=3), raster, mlc)
    np.testing.assert_allclose(found[opened > 0], 30.0, rtol=1e-9)
    assert found[opened == 0].max() <= 30.0 * mlc.transmission + 1e-9


@pytest.mark.parametrize("mu", [10.0, 60.0])
def test_tips_step_as_their_curvature_asks(mu: float) -> None:
    """Where a dose counts squared, second derivatives times steps are the same whatever the monitor units."""
    raster = raster_for("generic-6mv-mlci", 60, 60)
    machine = load_machine("generic-6mv-mlci")
    mlc = machine.mlc
    assert mlc is not None
    used = 10.0 * raster.leaf_used()
    segments = sequence(used, raster, machine, max_segments=1).with_mu(np.array([mu]))
    leaf = raster.leaves // 2

    def squared(shift_mm: float) -> float:
        moved = Segments(segments.mu, segments.lower_mm.copy(), segments.upper_mm, segments.is_open)
        moved.lower_mm[0, leaf] += shift_mm
        return float(np.sum(opening(moved, raster, mlc) ** 2))

    second = squared(2.0) - 2 * squared(1.5) + squared(1.0)
    step = tip_steps(segments.mu, raster.width_mm)[0]
    assert second / 0.25 * step == pytest.approx(2 * TIP_STEP, rel=0.05)


def test_a_uniform_field_is_one_segment_and_nothing_is_none() -> None:
    raster = raster_for("generic-6mv-mlci", 40, 40)
    machine = load_machine("generic-6mv-mlci")
    uniform = 20.0 * raster.leaf_used()
    segments = sequence(uniform, raster, machine, max_segments=10)
    assert len(segments) == 1
    assert segments.mu[0] == pytest.approx(20)
    assert len(sequence(0 * uniform, raster, machine, max_segments=10)) == 0
    assert len(sequence(uniform / 100, raster, machine, max_segments=10)) == 0


def test_opening_agrees_with_the_fluence_of_the_machine() -> None:
    machine = load_machine("generic-6mv-mlci")
    assert machine.mlc is not None
    raster = raster_for("generic-6mv-mlci", 80, 80)
    segments = sequence(random_fluence(raster, 5, 2.0), raster, machine, max_segments=6)
    rng = np.random.default_rng(1)
    segments.lower_mm[:] += rng.uniform(-7, 7, segments.lower_mm.shape)
    make_legal(segments, machine)
    segments.lower_mm[:] = np.round(segments.lower_mm, 1)
    segments.upper_mm[:] = np.round(segments.upper_mm, 1)
    apertures = [aperture_of(segments, n, raster, machine) for n in range(len(segments))]
    ideal = BeamModel(name="ideal")
    x, y = raster.along_mm, raster.across_mm
    expected = summed_fluence(apertures, list(segments.mu), machine.mlc, ideal, x, y).values_mu
    ours = raster.spread(opening(segments, raster, machine.mlc))
    np.testing.assert_allclose(ours, expected, atol=1e-6 * expected.max())


def test_opening_gradient_by_differences() -> None:
    machine = load_machine("generic-6mv-mlci")
    mlc = machine.mlc
    assert mlc is not None
    raster = raster_for("generic-6mv-mlci", 60, 60)
    segments = sequence(random_fluence(raster, 8, 2.0), raster, machine, max_segments=4)
    rng = np.random.default_rng(2)
    segments.lower_mm[:] += rng.uniform(-2, 2, segments.lower_mm.shape)
    segments.upper_mm[:] += rng.uniform(-2, 2, segments.upper_mm.shape)
    weights = rng.normal(size=(raster.leaves, raster.shape[1]))
    d_mu, d_lower, d_upper = opening_gradient(segments, raster, mlc, weights)

    def total() -> float:
        return float(np.sum(weights * opening(segments, raster, mlc)))

    base = total()
    for array, derivative in ((segments.mu, d_mu), (segments.lower_mm, d_lower), (segments.upper_mm, d_upper)):
        for place in list(np.ndindex(*array.shape))[:60]:
            if array.ndim == 2 and not segments.is_open[place]:
                assert derivative[place] == 0
                continue
            extreme = array.ndim == 2 and array[place] in (
                array[place[0]][segments.is_open[place[0]]].min(),
                array[place[0]][segments.is_open[place[0]]].max(),
            )
            if extreme:  # the tip that the jaw follows also moves the jaw; that part is left out of the derivative
                continue
            array[place] += 1e-4
            assert (total() - base) / 1e-4 == pytest.approx(derivative[place], rel=1e-4, abs=1e-6)
            array[place] -= 1e-4


def test_rules_of_the_mlci_on_a_raster() -> None:
    machine = load_machine("generic-6mv-mlci")
    raster = raster_for("generic-6mv-mlci", 150, 150, 40)
    found = leaf_rules(machine, raster)
    assert (found.min_columns, found.adjacent_columns, found.closable) == (2, 2, False)
    assert raster.left_mm + found.last_lower * 5 == 125
    assert raster.left_mm + found.first_upper * 5 == max(-125, raster.left_mm)
    assert found.can_start.sum() == len(found.can_start) - (int(raster.across_mm[-1] // 10) - 12)
