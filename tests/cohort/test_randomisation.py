"""Randomisation lists and pooling of centres."""

from dataclasses import replace
from pathlib import Path

import pytest

from cantlie.cohort.importing import read_cohort
from cantlie.cohort.pooling import pool_cohorts
from cantlie.cohort.randomisation import randomisation_list
from cantlie.core.errors import CohortError

GOOD = Path(__file__).parents[1] / "data" / "cohort" / "good"


def test_a_list_is_balanced_in_blocks_and_the_same_again():
    first = randomisation_list(["A", "B"], 68, seed=7)
    assert first.equals(randomisation_list(["A", "B"], 68, seed=7))
    assert not first.equals(randomisation_list(["A", "B"], 68, seed=8))
    assert first["number"].tolist() == list(range(1, 69))
    blocks = first.groupby("block")["arm"].value_counts().unstack(fill_value=0)
    assert (blocks["A"] == blocks["B"]).iloc[:-1].all()
    assert set(first.groupby("block").size().iloc[:-1]) == {4, 6}
    running = (first["arm"] == "A").cumsum() - (first["arm"] == "B").cumsum()
    assert running.abs().max() <= 3


def test_strata_and_ratio():
    found = randomisation_list(
        ["A", "B"], 30, seed=1, block_sizes=(3,), ratio=(2, 1), strata={"child": ["A", "B"], "site": ["x", "y"]}
    )
    assert found["stratum"].nunique() == 4
    assert (found.groupby("stratum")["arm"].value_counts().unstack()["A"] == 20).all()


@pytest.mark.parametrize(
    "arguments", [{"block_sizes": (5,)}, {"arms": ["A"]}, {"ratio": (2, 1), "block_sizes": (4,)}, {"size": 0}]
)
def test_a_wrong_list_is_refused(arguments):
    call = {"arms": ["A", "B"], "size": 10, "seed": 1, **arguments}
    with pytest.raises(CohortError):
        randomisation_list(call.pop("arms"), call.pop("size"), **call)


def test_centres_are_pooled_and_kept_apart():
    one = read_cohort(GOOD)
    two = replace(
        one.select({"P1", "P2"}), tables={n: f for n, f in one.select({"P1", "P2"}).tables.items() if n != "drugs"}
    )
    bare = two.patients.assign(ecog=float("nan"))
    pooled = pool_cohorts({"Xian": one, "Wuhan": replace(two, tables={**two.tables, "patients": bare})})
    assert len(pooled) == 5
    assert pooled.patients["centre"].value_counts().to_dict() == {"Xian": 3, "Wuhan": 2}
    assert set(pooled.table("events")["patient_id"]) <= set(pooled.patients["patient_id"])
    assert len(pooled.table("drugs")) == 2
    assert any("Wuhan gave no ecog" in note.message for note in pooled.notes)
    assert pooled.patients["treatment_start"].dtype.kind == "M"
    with pytest.raises(CohortError, match="not mixed"):
        pool_cohorts({"a": one, "b": replace(one, synthetic=True)})
    with pytest.raises(CohortError, match="nothing to pool"):
        pool_cohorts({})
