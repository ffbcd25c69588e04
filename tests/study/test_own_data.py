"""A user's own study: three arms, missing values, empty tables; every number is right or the sentence says why not."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.statistics.comparison import kruskal_wallis, one_way_anova, welch_anova
from cantlie.statistics.cox import cox
from cantlie.study.analysis import analyse
from cantlie.study.analysis_tests import compare_numbers, count_cell, standardised_difference
from cantlie.study.definition import Study

START = pd.Timestamp("2018-01-01")
DAYS_PER_MONTH = 365.25 / 12
ARMS = "A" * 20 + "B" * 20 + "C" * 5


def definition(**changes):
    study = {
        "id": "mine",
        "title": "Own",
        "citation": {"title": "t", "authors": "a", "journal": "j", "year": 2024, "doi": "10.1/x"},
        "design": "cohort",
        "groups": [{"id": g, "name": f"Arm {g}", "n": 1} for g in "ABC"],
        "group_variable": "arm",
        "variables": [
            {"name": "arm", "source": "patients.arm", "levels": ["A", "B", "C"]},
            {"name": "age", "source": "patients.age_years"},
            {"name": "old", "source": "patients.age_years", "cuts": [60], "levels": ["<60", ">=60"]},
            {"name": "stage", "source": "patients.x_stage", "levels": ["I", "II", "III"]},
            {"name": "tox", "source": "toxicities.grade", "aggregate": "max", "default": 0},
        ],
        "sets": {"young": {"old": "<60"}},
        "endpoints": [{"name": "OS"}],
    }
    return {**study, **changes}


def cohort(**changes):
    rng = np.random.default_rng(3)
    n = len(ARMS)
    ids = [f"P{k:02d}" for k in range(n)]
    days = rng.integers(20, 900, n)
    dead = rng.random(n) < 0.6
    patients = pd.DataFrame(
        {
            "patient_id": ids,
            "arm": list(ARMS),
            "treatment_start": START,
            "age_years": np.round(rng.normal(60, 9, n), 1),
            "x_stage": rng.choice(["I", "II", "III"], n),
        }
    )
    kinds = ["death" if d else "last_follow_up" for d in dead]
    events = pd.DataFrame({"patient_id": ids, "date": [START + pd.Timedelta(days=int(d)) for d in days], "kind": kinds})
    tables = {"patients": patients, "events": events, **changes}
    return Cohort({name: typed_table(TABLES[name], rows) for name, rows in tables.items()})


def run(cohort_=None, **changes):
    return analyse(Study.model_validate(definition(**changes)), cohort_ or cohort())


def cells(result, name):
    made = next(t for t in result.tables if t.id == name)
    return made, [[c.text for c in row] for row in made.rows]


def table(kind, *rows, **more):
    return {"id": "t", "title": "T", "kind": kind, "groups": ["A", "B", "C"], "rows": list(rows), **more}


def ages(data):
    patients = data.patients
    return [patients.loc[patients["arm"] == g, "age_years"].to_numpy() for g in "ABC"]


def test_welch_anova__against_r():
    """oneway.test(list(c(1, 2, 4), c(2, 5, 6, 9), c(7, 7.5)))."""
    found = welch_anova([1, 2, 4], [2, 5, 6, 9], [7, 7.5])
    assert found.statistic == pytest.approx(12.4749731088, rel=1e-9)
    assert found.p_value == pytest.approx(0.0251120273417, rel=1e-9)


def test_three_arms_are_compared_by_a_test_of_three_groups():
    data = cohort()
    rows = [{"variable": "age", "statistic": s} for s in ("mean_sd", "median_range")]
    _, found = cells(run(data, tables=[table("characteristics", *rows)]), "t")
    groups = ages(data)
    for line, tests in ((found[0], (one_way_anova, welch_anova)), (found[1], (kruskal_wallis, kruskal_wallis))):
        assert [float(p) for p in line[-3:-1]] == [pytest.approx(t(*groups).p_value, abs=5e-4) for t in tests]
    assert compare_numbers([*groups, np.array([1.0])], "as_published", normal=True) is None


def test_all_patients_are_no_group_beside_their_arms():
    rows = [{"variable": v, "statistic": s} for v, s in (("age", "mean_sd"), ("stage", "counts"))]
    with_all = {**table("characteristics", *rows), "groups": ["all", "A", "B"]}
    without = {**with_all, "groups": ["A", "B"]}
    first, second = (cells(run(tables=[t]), "t")[1] for t in (with_all, without))
    assert [line[-3:] for line in first] == [line[-3:] for line in second]


def test_each_set_of_a_table_has_its_own_tests():
    rows = [{"variable": "stage", "level": "III", "label": "III"}, {"endpoint": "OS", "month": 12, "label": "alive"}]
    two, found = cells(run(tables=[table("events", *rows, sets=["all", "young"])]), "t")
    young, alone = cells(run(tables=[table("events", *rows, sets=["young"])]), "t")
    assert all(len(line) == len(two.columns) for line in found)
    p = two.columns.index("p as published, young")
    assert [line[p] for line in found] == [line[young.columns.index("p as published")] for line in alone]
    assert found[0][two.columns.index("Kaplan-Meier B, young")] == "–"
    numbers = table("characteristics", {"variable": "age", "statistic": "mean_sd"}, sets=["all", "young"])
    numbers["groups"] = ["A", "B"]
    made, line = cells(run(tables=[numbers]), "t")
    assert line[0][made.columns.index("p as published, young")] not in (
        "–",
        line[0][made.columns.index("p as published, all")],
    )


def test_grades_stand_for_every_arm_and_a_fatal_one_is_not_hidden():
    rows = [
        {"patient_id": p, "date": START, "term": "x", "scale": "study", "grade": g} for p, g in (("P00", 5), ("P21", 2))
    ]
    result = run(cohort(toxicities=rows), tables=[table("grades", {"variable": "tox", "label": "Any"})])
    made, found = cells(result, "t")
    assert made.columns[:7] == ("Event", "Group", "Grade 1", "Grade 2", "Grade 3", "Grade 4", "Grade 5")
    assert [line[1] for line in found] == ["Arm A, n = 20", "Arm B, n = 20", "Arm C, n = 5"]
    assert found[0][6] == "1 (5.0%)"
    assert found[1][3] == "1 (5.0%)"
    none = run(tables=[table("grades", {"variable": "tox", "label": "Any"})])
    assert any("no table toxicities" in note.message for note in none.notes)


def test_a_third_level_is_not_taken_for_the_reference_of_a_hazard_ratio():
    data = cohort()
    term = {"label": "B / A", "variable": "arm", "level": "B", "reference": "A", "multivariable": True}
    made, found = cells(run(data, cox={"endpoint": "OS", "terms": [term]}), "cox")
    events = data.table("events")
    two = np.array([arm != "C" for arm in ARMS])
    time = ((events["date"] - START).dt.days / DAYS_PER_MONTH).to_numpy()[two]
    right = cox(
        time, events["kind"].eq("death").to_numpy()[two], (data.patients["arm"] == "B").to_numpy()[two, None] * 1.0
    )
    assert found[0][2].startswith(f"{right.hazard_ratio[0]:.3f} ")
    assert any("40 of 45 rows" in note for note in made.notes)
    open_term = {**term, "reference": ""}
    assert cells(run(data, cox={"endpoint": "OS", "terms": [open_term]}), "cox")[1][0][2] != found[0][2]


def test_a_regression_that_cannot_be_fitted_says_why():
    data = cohort()
    empty = cohort(patients=data.patients.assign(age_years=np.nan, x_stage=data.patients["x_stage"]))
    terms = [{"label": "age", "variable": "age"}]
    made, found = cells(run(empty, cox={"endpoint": "OS", "terms": terms}), "cox")
    assert found[0][1] == "cannot be fitted"
    assert any("no patient has all values" in note for note in made.notes)


def test_survival_without_an_event_has_no_interval_of_no_width():
    alive = cohort().table("events").assign(kind="last_follow_up")
    _, found = cells(run(cohort(events=alive), survival=[{"endpoint": "OS"}]), "survival")
    assert found[1][4:] == ["100.0%", "100.0%"]


def test_complete_imbalance_is_not_a_difference_of_zero():
    assert standardised_difference(["x"] * 5, ["y"] * 5, "x") == np.inf
    assert standardised_difference(["x"] * 5, ["x"] * 5, "x") == 0
    assert np.isnan(standardised_difference([], ["x"], "x"))
    data = cohort()
    two = data.patients.assign(arm=list("A" * 20 + "B" * 25), x_stage=["I"] * 20 + ["III"] * 25)
    groups = [{"id": g, "name": g, "n": 1} for g in "AB"]
    tables = [{**table("characteristics", {"variable": "stage"}), "groups": ["A", "B"]}]
    variables = [v if v["name"] != "arm" else {**v, "levels": ["A", "B"]} for v in definition()["variables"]]
    love = {"id": "l", "title": "Balance", "kind": "love"}
    sets = {"matched": {"old": "<60"}}
    result = run(cohort(patients=two), groups=groups, tables=tables, variables=variables, figures=[love], sets=sets)
    assert cells(result, "balance")[1][0][2] == "+∞ *"
    assert np.isfinite([p["SMD, all"] for f in result.figures for p in f.points]).all()


def test_patients_without_a_treatment_are_no_controls_and_numbers_stay_numbers_in_the_score():
    data = cohort()
    unknown = data.patients.assign(arm=[None if n < 4 else arm for n, arm in enumerate(ARMS)])
    matching = {"treatment": "arm", "treated": "B", "covariates": ["age", "stage"]}
    result = run(cohort(patients=unknown), matching=matching)
    _, found = cells(result, "matching")
    assert found[0][1] == "20 / 21"
    assert found[-1][0] == "overlap weights"
    assert float(found[-1][2]) < 0.001
    said = " ".join(note.message for note in result.notes)
    assert "4 patients have no known treatment" in said
    assert "4 patients have no group" in said
    assert "the controls of B are A and C together" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": [table("characteristics", {"variable": "age"})]}, "has none: give the variable its levels"),
        ({"tables": [{**table("events", {"variable": "stage", "level": "IV"})}]}, "'IV' is no level of stage"),
        ({"tables": [{**table("grades", {"variable": "tox"}), "groups": ["A", "X"]}]}, "names 'X'"),
        ({"tables": [table("characteristics", {"variable": "stage", "printed": {"Q": [1]}})]}, "names 'Q'"),
        ({"tables": [table("events", {"endpoint": "OS"})]}, "endpoint and month together"),
        ({"survival": [{"endpoint": "OS", "group": "Z"}]}, "names 'Z'"),
        ({"compare": [{"endpoint": "OS", "by": "arm", "set": "zz"}]}, "names 'zz'"),
        ({"sets": {"s": {"foo": "x"}}}, "names 'foo'"),
        ({"competing": "LF"}, "names 'LF'"),
        ({"endpoints": [{"name": "XYZ"}]}, "give its events and how death counts"),
        ({"matching": {"treatment": "arm", "treated": "Z", "covariates": ["age"]}}, "'Z' is no level of arm"),
        ({"figures": [{"id": "f", "title": "F", "kind": "km", "endpoint": "OS", "by": "age"}]}, "has none"),
        ({"figures": [{"id": "f", "title": "F", "kind": "km", "by": "arm"}]}, "lacks its endpoint"),
        (
            {"figures": [{"id": "f", "title": "F", "kind": "km", "endpoint": "OS", "where": {"foo": "x"}}]},
            "names 'foo'",
        ),
        ({"cox": {"endpoint": "OS", "terms": [{"label": "x", "variable": "stage", "level": "V"}]}}, "'V' is no level"),
        ({"groups": [{"id": "A", "name": "A", "n": 1}] * 2}, "two groups have the same id"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_before_anything_is_counted(changes, message):
    with pytest.raises(ValidationError, match=message):
        Study.model_validate(definition(**changes))


def test_a_factor_of_several_levels_has_a_p_of_all_its_levels():
    data = cohort()
    terms = [{"label": f"{s} / I", "variable": "stage", "level": s, "reference": "I"} for s in ("II", "III")]
    made, _ = cells(run(data, cox={"endpoint": "OS", "terms": terms}), "cox")
    events = data.table("events")
    time = ((events["date"] - START).dt.days / DAYS_PER_MONTH).to_numpy()
    model = cox(time, events["kind"].eq("death").to_numpy(), pd.DataFrame({"stage": data.patients["x_stage"]}))
    assert f"II / I, III / I: p {model.wald_test.p_value:.3f} of all together (Wald)" in made.notes


def test_missing_values_and_sizes_that_differ_are_told():
    data = cohort()
    ages_known = data.patients["age_years"].where(np.arange(len(ARMS)) > 2)
    events = data.table("events").iloc[:-1]
    rows = [{"variable": "age", "statistic": "mean_sd"}, {"variable": "old"}]
    lacking = cohort(patients=data.patients.assign(age_years=ages_known), events=events)
    result = run(lacking, tables=[table("characteristics", *rows)], survival=[{"endpoint": "OS"}])
    _, found = cells(result, "missing")
    assert found == [
        ["old", "3 (6.7%)", "3 (15.0%)", "0 (0.0%)", "0 (0.0%)"],
        ["age", "3 (6.7%)", "3 (15.0%)", "0 (0.0%)", "0 (0.0%)"],
        ["endpoint OS", "1 (2.2%)", "0 (0.0%)", "0 (0.0%)", "1 (20.0%)"],
    ]
    assert any("20 patients in the data, 1 in the study file" in note.message for note in result.notes)
    answers = {line[0]: line[2] for line in cells(result, "checklist")[1]}
    assert answers["12c"].startswith("Patients without a value")


def test_a_group_without_the_event_stands_in_the_figure_of_its_test():
    data = cohort()
    rows = [
        {"patient_id": f"P{n:02d}", "date": START + pd.Timedelta(days=10), "kind": "local_progression"}
        for n in (1, 22, 23)
    ]
    events = pd.concat([data.table("events"), pd.DataFrame(rows)], ignore_index=True)
    figure = {"id": "f", "title": "LF", "kind": "cif", "endpoint": "LF", "by": "arm"}
    result = run(cohort(events=events), endpoints=[{"name": "OS"}, {"name": "LF"}], figures=[figure], competing="LF")
    drawn = next(f for f in result.figures if f.spec.id == "f")
    assert [(g.label, g.events) for g in drawn.groups] == [("Arm A", 1), ("Arm B", 2), ("Arm C", 0)]
    assert (drawn.groups[2].value == 0).all()
    assert cells(result, "competing")[1][-1][:3] == ["Arm C", "", "no event"]


def test_a_share_of_the_assessed_names_its_denominator_and_halves_round_up():
    data = cohort()
    stage = data.patients["x_stage"].where(np.arange(len(ARMS)) > 3, None)
    row = {"variable": "stage", "level": "III", "label": "III"}
    _, found = cells(run(cohort(patients=data.patients.assign(x_stage=stage)), tables=[table("events", row)]), "t")
    assert "/16 (" in found[0][1]
    assert "/" not in found[0][2]
    assert count_cell(1, 8, 0, None, None).text == "1 (13%)"
    assert count_cell(1, 16, 1, None, None).text == "1 (6.3%)"
    assert count_cell(0, 0, 1, None, None, size=0).text == "0"


def test_one_test_that_cannot_be_made_does_not_end_the_study():
    data = cohort()
    same = data.table("events").assign(date=START + pd.Timedelta(days=30), kind="death")
    events = same.assign(kind=["death"] + ["last_follow_up"] * (len(ARMS) - 1))
    events.loc[1:, "date"] = START + pd.Timedelta(days=10)
    term = {"label": "B / A", "variable": "arm", "level": "B", "reference": "A", "multivariable": True}
    asked = {
        "compare": [{"endpoint": "OS", "by": "arm"}],
        "cox": {"endpoint": "OS", "terms": [term]},
        "figures": [{"id": "f", "title": "OS", "kind": "km", "endpoint": "OS", "by": "arm"}],
    }
    result = run(cohort(events=events), **asked)
    assert cells(result, "logrank")[1][0][2:] == ["–", "–", "nothing to compare"]
    assert next(f for f in result.figures if f.spec.id == "f").text == ""
    assert cells(run(cohort(events=same), **asked), "cox")[1][0][-1] == "–"
