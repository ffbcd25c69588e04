"""Pairwise incomplete repair against a sum over all pairs written out, and in its limits."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import CantlieError
from cantlie.radiobiology.linear_quadratic import bed_of_sessions_gy
from cantlie.radiobiology.repair import Repair, pairwise_bed_gy, thames_h

repairs = st.one_of(
    st.floats(0.1, 10).map(Repair.mono),
    st.tuples(st.floats(0, 1), st.floats(0.1, 1), st.floats(1, 10)).map(lambda a: Repair.bi(*a)),
)


def _all_pairs(doses, times_h, alpha_beta_gy, repair):
    """The formula as it is written in the books: one voxel, every pair of sessions."""
    total = sum(doses)
    square = 0.0
    for i, d in enumerate(doses):
        square += d * d
        for j in range(i):
            theta = sum(
                p * 0.5 ** (abs(times_h[i] - times_h[j]) / h)
                for p, h in zip(repair.parts, repair.half_times_h, strict=True)
            )
            square += 2 * d * doses[j] * theta
    return total + square / alpha_beta_gy


@settings(deadline=None, max_examples=150)
@given(data=st.data(), repair=repairs, alpha_beta=st.floats(1, 15))
def test_pairwise_bed_equals_the_sum_over_all_pairs(data, repair, alpha_beta):
    distinct = data.draw(st.integers(1, 5))
    which = data.draw(st.lists(st.integers(0, distinct - 1), min_size=1, max_size=25))
    times = data.draw(st.lists(st.floats(0, 800), min_size=len(which), max_size=len(which)))
    scales = data.draw(st.lists(st.floats(0, 2), min_size=len(which), max_size=len(which)))
    values = np.array(data.draw(st.lists(st.floats(0, 20), min_size=3 * distinct, max_size=3 * distinct)))
    doses = list(values.reshape(distinct, 3).astype(np.float32))
    bed = pairwise_bed_gy(doses, which, times, alpha_beta, repair, scales)
    for voxel in range(3):
        sessions = [float(doses[n][voxel]) * scale for n, scale in zip(which, scales, strict=True)]
        assert bed[voxel] == pytest.approx(_all_pairs(sessions, times, alpha_beta, repair), rel=1e-9, abs=1e-9)


def test_limits_are_full_repair_and_one_session():
    doses = [np.array([2.0, 1.0, 0.0], np.float32), np.array([0.6, 1.0, 2.0], np.float32)]
    apart = pairwise_bed_gy(doses, [0, 1, 0], [0.0, 500.0, 1000.0], 3.0, Repair.mono(1.0))
    assert apart == pytest.approx(bed_of_sessions_gy(doses, [2, 1], 3.0), rel=1e-9)
    together = pairwise_bed_gy(doses, [0, 1], [5.0, 5.0], 3.0, Repair.mono(1.0))
    assert together == pytest.approx(bed_of_sessions_gy([doses[0] + doses[1]], [1], 3.0), rel=1e-6)


def test_thames_factor_is_the_pairwise_sum_within_a_day():
    repair = Repair.bi(0.4, 0.3, 4.0)
    for m in (1, 2, 3, 5):
        times = [4.0 * n for n in range(m)]
        bed = pairwise_bed_gy([np.array([1.5], np.float32)], [0] * m, times, 2.5, repair)
        assert float(bed[0]) == pytest.approx(1.5 * m * (1 + (1 + thames_h(m, 4.0, repair)) * 1.5 / 2.5), rel=1e-7)


def test_a_course_of_thirty_sessions_on_a_fine_grid_is_quick():
    shape = (80, 120, 160)  # an abdomen at 2.5 mm
    random = np.random.default_rng(1)
    doses = [random.random(shape, dtype=np.float32) for _ in range(30)]
    times = np.arange(30) * 6.0
    pairwise_bed_gy([d[:1] for d in doses], range(30), times, 2.5, Repair.mono(2.0))
    start = time.process_time()
    bed = pairwise_bed_gy(doses, range(30), times, 2.5, Repair.mono(2.0))
    assert time.process_time() - start < 10.0  # every session its own dose: the worst case
    voxel = [float(dose[7, 8, 9]) for dose in doses]
    assert bed[7, 8, 9] == pytest.approx(_all_pairs(voxel, times, 2.5, Repair.mono(2.0)), rel=1e-9)


def test_wrong_schedules_are_refused():
    dose = np.ones(2, np.float32)
    with pytest.raises(CantlieError, match="only 1"):
        pairwise_bed_gy([dose], [0, 1], [0.0, 6.0], 2.5, Repair())
    with pytest.raises(CantlieError, match="one time"):
        pairwise_bed_gy([dose], [0, 0], [0.0], 2.5, Repair())
    with pytest.raises(CantlieError, match="at least one session"):
        pairwise_bed_gy([dose], [], [], 2.5, Repair())
    with pytest.raises(CantlieError, match="alpha/beta"):
        pairwise_bed_gy([dose], [0], [0.0], 0.0, Repair())
    with pytest.raises(CantlieError, match="one shape"):
        pairwise_bed_gy([dose, np.ones(3, np.float32)], [0], [0.0], 2.5, Repair())
    with pytest.raises(CantlieError, match="add up to 1"):
        Repair((1.0, 2.0), (0.5, 0.4))
