"""Directions chosen together: about as good as trying all sets, never worse than equispaced ones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from cantlie.core.errors import PlanningError
from cantlie.plan.beam_choice import BeamSearch, CandidateBeam
from cantlie.plan.objectives import MeanDose, SquaredDeviation, SquaredOverdose, VoxelSet
from cantlie.plan.problem import Problem, Term

SIDE = 21
PLACE = np.stack(np.meshgrid(np.arange(SIDE) - 10, np.arange(SIDE) - 10, indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
TARGET = np.linalg.norm(PLACE, axis=1) <= 25
ORGAN = np.linalg.norm(PLACE - [60, 0], axis=1) <= 20
DOSE_GY = 40.0


def beams(count: int) -> list[CandidateBeam]:
    """Parallel beams in a plane: strips of 10 mm that fade by half in 140 mm."""
    result = []
    for angle in np.arange(count) * 360.0 / count:
        towards = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        depth = 100.0 - PLACE @ towards
        across = PLACE @ np.array([-towards[1], towards[0]])
        centres = np.arange(-30.0, 30.1, 10.0)
        values = np.clip(1.0 - np.abs(across[:, None] - centres) / 10.0, 0, 1) * np.exp(-0.005 * depth)[:, None]
        row, column = np.nonzero(values > 1e-3)
        start = np.searchsorted(row, np.arange(len(PLACE) + 1))
        axis = np.array([*towards, 0.0])
        kept = values[row, column].astype(np.float32)
        result.append(CandidateBeam(axis, start, column.astype(np.uint16), kept, values[TARGET].mean(axis=0)))
    return result


def problem(sparing: float = 1.0) -> Problem:
    target, organ = (VoxelSet.of_volumes(mask.astype(float)) for mask in (TARGET, ORGAN))
    body = VoxelSet.of_volumes((~TARGET).astype(float))
    return Problem(
        ("T",),
        [
            Term("T", SquaredDeviation(target, DOSE_GY, 1.0, DOSE_GY)),
            Term("T", MeanDose(body, 0.1, DOSE_GY)),
            Term("T", SquaredOverdose(organ, 0.0, sparing, DOSE_GY)),
        ],
    )


@pytest.mark.parametrize("fields", [2, 3])
def test_nearly_as_good_as_the_best_of_all_sets(fields: int) -> None:
    candidates = beams(12)
    search = BeamSearch(candidates, problem(), DOSE_GY, 30.0)
    choice = search.choose(fields)
    best = min(search._settled(search._opened(one)).value for one in combinations(range(12), fields))
    assert len(choice.chosen) == fields
    assert choice.value <= 1.01 * best


def test_never_worse_than_sets_given_beside() -> None:
    candidates = beams(24)
    others = [tuple(range(start, 24, 6)) for start in range(6)]
    choice = BeamSearch(candidates, problem(), DOSE_GY, 15.0).choose(4, others)
    assert len(choice.of_others) == 6
    assert choice.value <= min(choice.of_others) * (1 + 1e-9)


@pytest.mark.parametrize("fields", [3, 5, 7, 9])
def test_beams_avoid_what_is_spared_and_stand_apart(fields: int) -> None:
    choice = BeamSearch(beams(36), problem(5.0), DOSE_GY, 20.0).choose(fields)
    angles = np.array(choice.chosen) * 10.0
    apart = np.abs((angles[:, None] - angles + 180) % 360 - 180) + 360 * np.eye(fields)
    assert apart.min() >= 20
    through = np.abs((angles + 180) % 360 - 180) <= 10  # from the organ's side, through its middle
    assert not through.any()


def test_shares_of_open_fields_are_kept() -> None:
    candidates = [
        CandidateBeam(
            one.axis, np.arange(len(PLACE) + 1), np.zeros(len(PLACE), dtype=np.uint16),
            np.array([one.value[a:b].sum() for a, b in zip(one.start, one.start[1:], strict=False)], dtype=np.float32),
            one.to_target.sum(keepdims=True),
        )
        for one in beams(12)
    ]  # fmt: skip
    search = BeamSearch(candidates, problem(), DOSE_GY, 30.0, (0.5, 1.6))
    opened = search._opened((0, 3, 6, 9))
    solved = search._settled(opened).x
    for n, x in solved.items():
        assert 0.5 * opened[n][0] - 1e-9 <= x[0] <= 1.6 * opened[n][0] + 1e-9
    assert search.choose(3).value > 0


def test_a_turned_couch_must_be_worth_it() -> None:
    plain = beams(24)
    dear = [CandidateBeam(b.axis, b.start, b.index, b.value, b.to_target, 0.5 * (n % 2)) for n, b in enumerate(plain)]
    choice = BeamSearch(dear, problem(), DOSE_GY, 15.0).choose(3)
    assert all(n % 2 == 0 for n in choice.chosen)


def test_too_few_or_too_near_is_said() -> None:
    with pytest.raises(PlanningError, match="only 2 directions"):
        BeamSearch(beams(2), problem(), DOSE_GY, 10.0).choose(3)
    with pytest.raises(PlanningError, match="apart"):
        BeamSearch(beams(12), problem(), DOSE_GY, 100.0).choose(5)
