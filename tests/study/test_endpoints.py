"""Endpoints as data: who has the event when, by every convention of death."""

import pandas as pd
import pytest

from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort, typed_table
from cantlie.core.errors import CantlieError, CohortError
from cantlie.study.endpoints import STANDARD, Endpoint, build_endpoint, check_order

START = pd.Timestamp("2020-01-01")
MONTH = 365.25 / 12


def day(number):
    return START + pd.Timedelta(days=number)


def cohort_of(events, **more):
    patients = [{"patient_id": p, "treatment_start": START} for p in ("P1", "P2", "P3", "P4", "P5")]
    lesions = [{"patient_id": p, "lesion_id": n, "irradiated": "yes"} for p in ("P1", "P2") for n in ("L1", "L2")] + [
        {"patient_id": "P3", "lesion_id": "L1", "irradiated": "no"}
    ]
    rows = [{"patient_id": p, "date": day(d), "kind": k, **x} for p, d, k, x in events]
    tables = {"patients": patients, "lesions": lesions, "events": rows, **more}
    return Cohort({name: typed_table(TABLES[name], t) for name, t in tables.items() if t}, "test")


EVENTS = [
    ("P1", 100, "local_progression", {"lesion_id": "L2"}),
    ("P1", 300, "death", {}),
    ("P2", 200, "death", {}),
    ("P3", 150, "extrahepatic_progression", {}),
    ("P3", 350, "last_imaging", {}),
    ("P3", 400, "last_follow_up", {}),
    ("P4", 350, "last_imaging", {}),
    ("P4", 500, "last_follow_up", {}),
]


def times(name, cohort=None):
    data = build_endpoint(cohort or cohort_of(EVENTS), STANDARD[name])
    return {
        row.patient_id if row.lesion_id is None else f"{row.patient_id}{row.lesion_id}": (
            round(row.time_months * MONTH), int(row.status)
        )
        for row in data.frame.itertuples()
    }  # fmt: skip


def test_overall_survival_uses_the_last_contact():
    assert times("OS") == {"P1": (300, 1), "P2": (200, 1), "P3": (400, 0), "P4": (500, 0)}


def test_progression_free_survival_censors_at_the_last_imaging():
    assert times("PFS") == {"P1": (100, 1), "P2": (200, 1), "P3": (150, 1), "P4": (350, 0)}


def test_local_control_in_three_conventions_of_death():
    assert times("LC") == {"P1": (100, 1), "P2": (200, 0), "P3": (350, 0), "P4": (350, 0)}
    assert times("LPFS")["P2"] == (200, 1)
    assert times("LF")["P2"] == (200, 2)


def test_endpoints_per_lesion():
    assert times("LC_lesion") == {"P1L1": (300, 0), "P1L2": (100, 1), "P2L1": (200, 0), "P2L2": (200, 0)}
    assert set(times("DMFS_lesion")) == {"P1L1", "P1L2", "P2L1", "P2L2"}


def test_those_without_dates_are_left_out_with_a_note():
    data = build_endpoint(cohort_of(EVENTS), STANDARD["OS"])
    assert "1 left out: no event and no last day seen" in [note.message for note in data.notes]


def test_a_start_may_be_an_event():
    cohort = cohort_of(
        [*EVENTS, ("P1", 30, "metastatic_treatment_start", {}), ("P2", 50, "metastatic_treatment_start", {})]
    )
    late = Endpoint("OS", ("death",), "event", start="metastatic_treatment_start")
    frame = build_endpoint(cohort, late).frame
    assert (frame["time_months"] * MONTH).round().tolist() == [270, 150]


def test_times_given_as_outcomes_are_taken_as_they_are():
    outcomes = [
        {"patient_id": "P1", "endpoint": "OS", "time_months": 12.5, "event": 1},
        {"patient_id": "P2", "endpoint": "OS", "time_months": 30, "event": 0},
    ]
    data = build_endpoint(cohort_of([], outcomes=outcomes), STANDARD["OS"])
    assert data.time_months.tolist() == [12.5, 30]
    assert data.event.tolist() == [True, False]


def test_progression_after_death_in_time_is_noted():
    outcomes = [
        {"patient_id": "P1", "endpoint": "OS", "time_months": 12, "event": 1},
        {"patient_id": "P1", "endpoint": "PFS", "time_months": 13, "event": 1},
    ]
    cohort = cohort_of([], outcomes=outcomes)
    notes = check_order(build_endpoint(cohort, STANDARD["PFS"]), build_endpoint(cohort, STANDARD["OS"]))
    assert "PFS is longer than OS in 1 patients" in notes[0].message
    good = cohort_of(EVENTS)
    assert check_order(build_endpoint(good, STANDARD["PFS"]), build_endpoint(good, STANDARD["OS"])) == ()


def test_wrong_endpoints_are_refused():
    with pytest.raises(CantlieError, match="no event is called 'relapse'"):
        Endpoint("X", ("relapse",), "event")
    with pytest.raises(CohortError, match="no patient has the dates"):
        build_endpoint(cohort_of([]), STANDARD["OS"])
    early = cohort_of([("P1", -10, "death", {})])
    with pytest.raises(CohortError, match="before it starts"):
        build_endpoint(early, STANDARD["OS"])


def test_every_endpoint_describes_itself():
    assert STANDARD["LF"].describe().endswith("death is a competing event")
    assert "or death from any cause" in STANDARD["PFS"].describe()


def test_deaths_marked_in_outcomes_compete_censor_or_count_as_the_endpoint_says():
    rows = [
        {"patient_id": p, "endpoint": name, "time_months": m, "event": e, "competing": c}
        for name in ("LF", "LC", "LPFS")
        for p, m, e, c in (("P1", 5.0, 1, None), ("P2", 6.0, 0, "yes"), ("P3", 7.0, 0, "no"))
    ]
    given = cohort_of(EVENTS, outcomes=rows)
    for name, expected in (("LF", [1, 2, 0]), ("LC", [1, 0, 0]), ("LPFS", [1, 1, 0])):
        data = build_endpoint(given, STANDARD[name])
        assert data.status.tolist() == expected
        assert [n.level for n in data.notes] == ["info"]
    unmarked = [{**row, "competing": None} for row in rows]
    notes = build_endpoint(cohort_of(EVENTS, outcomes=unmarked), STANDARD["LF"]).notes
    assert any("marks no competing death" in n.message for n in notes)


def test_outcomes_of_lesions_are_no_outcomes_of_patients():
    rows = [
        {"patient_id": "P1", "endpoint": "LC", "time_months": 5.0, "event": 0, "lesion_id": n} for n in ("L1", "L2")
    ]
    with pytest.raises(CohortError, match="single lesions"):
        build_endpoint(cohort_of(EVENTS, outcomes=rows), STANDARD["LC"])


def test_a_start_that_is_no_date_is_refused():
    with pytest.raises(CohortError, match="holds no dates"):
        build_endpoint(cohort_of(EVENTS), Endpoint("X", ("death",), "event", start="sex"))


def test_a_local_progression_without_a_lesion_is_that_of_the_only_one_and_else_told():
    events = [("P1", 100, "local_progression", {}), ("P2", 90, "local_progression", {})]
    events += [(p, 300, "last_imaging", {}) for p in ("P1", "P2")]
    lesions = [{"patient_id": "P1", "lesion_id": "L1", "irradiated": "yes"}]
    lesions += [{"patient_id": "P2", "lesion_id": n, "irradiated": "yes"} for n in ("L1", "L2")]
    data = build_endpoint(cohort_of(events, lesions=lesions), STANDARD["LC_lesion"])
    assert data.status.tolist() == [1, 0, 0]
    assert any("1 local progressions of patients with several" in note.message for note in data.notes)


def test_a_lesion_endpoint_of_several_kinds_takes_local_events_of_its_lesion_only():
    own = Endpoint("X", ("local_progression", "extrahepatic_progression"), "censors", level="lesion")
    data = build_endpoint(cohort_of(EVENTS), own)
    found = {f"{r.patient_id}{r.lesion_id}": int(r.status) for r in data.frame.itertuples()}
    assert found == {"P1L1": 0, "P1L2": 1, "P2L1": 0, "P2L2": 0}


def test_patients_with_findings_after_the_last_day_seen_are_told():
    labs = [{"patient_id": "P4", "date": day(600), "test": "ALT", "value": 30.0, "unit": "U/L"}]
    told = build_endpoint(cohort_of(EVENTS, labs=labs), STANDARD["OS"]).notes
    assert any("1 patients have findings after the last day seen" in n.message and "P4" in n.message for n in told)
    assert not build_endpoint(cohort_of(EVENTS), STANDARD["OS"]).notes[1:]
