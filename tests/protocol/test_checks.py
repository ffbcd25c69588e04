"""Constraints that cannot bind, follow from others or contradict: all of the printed ones, and none falsely."""

import pytest

from cantlie.protocol.checks import check_protocol
from cantlie.protocol.loading import list_protocols, load_protocol
from cantlie.protocol.sections import Constraint, Coverage, Prescription, Split


def _findings(protocol):
    return {
        (f.constraint.split(" ")[0].rstrip(":"), f.constraint.split(": ")[1].split(" ")[0], f.kind)
        for f in check_protocol(protocol)
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "zhang2021-alternating",
            {
                ("Stomach", "V45Gy[%]", "implied"),
                ("Bowel_Small", "V50Gy[%]", "only at the junction"),
                ("Liver", "V30Gy[%]", "tension"),
            },
        ),
        (
            "zhang2021-sequential",
            {
                ("Stomach", "V45Gy[%]", "implied"),
                ("Bowel_Small", "V50Gy[%]", "only at the junction"),
                ("Liver", "V30Gy[%]", "tension"),
            },
        ),
        ("liu2022-sbrt", {("Duodenum", "V55Gy[%]", "cannot bind")}),
        (
            "pei2019-imrt",
            {
                ("SpinalCord", "Dmax", "not in every scheme"),
                ("Stomach", "Dmax", "not in every scheme"),
                ("Bowel_Small", "Dmax", "not in every scheme"),
            },
        ),
        ("yin2014-boost", {("Kidney_L", "D100%", "implied"), ("Kidney_R", "D100%", "implied")}),
        ("li2024-palliative", set()),
    ],
)
def test_findings_in_the_printed_protocols(name, expected):
    assert _findings(load_protocol(name)) == expected


def test_every_built_in_protocol_was_judged():
    assert set(list_protocols()) == {
        "zhang2021-alternating",
        "zhang2021-sequential",
        "liu2022-sbrt",
        "pei2019-imrt",
        "yin2014-boost",
        "li2024-palliative",
    }


def _with(*constraints, **changes):
    made = tuple(
        Constraint(structure=s, metric=m, op=op, limit=float(limit), unit=unit) for s, m, op, limit, unit in constraints
    )
    return load_protocol("zhang2021-alternating").model_copy(update={"constraints": made, **changes})


@pytest.mark.parametrize(
    ("stricter", "weaker"),
    [
        (("Heart", "Dmax", "<=", 20, "Gy"), ("Heart", "Dmean", "<=", 25, "Gy")),
        (("Heart", "Dmax", "<=", 20, "Gy"), ("Heart", "D0.03cc", "<=", 20, "Gy")),
        (("Heart", "V20Gy[%]", "<=", 10, "%"), ("Heart", "V25Gy[%]", "<=", 10, "%")),
        (("Heart", "V20Gy[%]", "<=", 10, "%"), ("Heart", "D10%", "<=", 21, "Gy")),
        (("Heart", "V20Gy[cc]", "<=", 10, "cc"), ("Heart", "D12cc", "<", 22, "Gy")),
        (("Liver - GTV*", "CV15Gy[cc]", ">=", 800, "cc"), ("Liver - GTV*", "CV17Gy[cc]", ">=", 700, "cc")),
    ],
)
def test_the_weaker_of_two_limits_is_found(stricter, weaker):
    for pair in ((stricter, weaker), (weaker, stricter)):
        findings = [f for f in check_protocol(_with(*pair)) if f.kind == "implied"]
        assert [pair[f.index] for f in findings] == [weaker]


@pytest.mark.parametrize(
    "pair",
    [
        (("Heart", "V20Gy[%]", "<=", 10, "%"), ("Heart", "V10Gy[%]", "<=", 30, "%")),
        (("Heart", "V20Gy[%]", "<=", 10, "%"), ("Heart", "V25Gy[cc]", "<=", 50, "cc")),
        (("Heart", "Dmean", "<=", 20, "Gy"), ("Heart", "Dmax", "<=", 25, "Gy")),
        (("Kidney_L", "Dmax", "<=", 20, "Gy"), ("Kidney_R", "Dmean", "<=", 25, "Gy")),
        (("Liver", "CV15Gy[cc]", ">=", 700, "cc"), ("Liver", "V20Gy[%]", "<=", 95, "%")),
    ],
)
def test_limits_that_do_not_follow_are_left_alone(pair):
    assert not [f for f in check_protocol(_with(*pair)) if f.kind in ("implied", "cannot bind")]


def test_the_same_limit_twice_is_found_once():
    twice = ("Heart", "Dmax", "<=", 20, "Gy")
    findings = check_protocol(_with(twice, twice))
    assert [(f.index, f.kind) for f in findings] == [(1, "implied")]
    assert "says the same" in findings[0].reason


def test_limits_beyond_any_dose_are_found():
    findings = check_protocol(_with(("Heart", "Dmax", "<=", 70, "Gy"), ("Heart", "Dmean", "<", 67, "Gy")))
    assert [f.kind for f in findings if f.index == 0] == ["cannot bind"]
    assert "66 Gy" in findings[0].reason


def test_without_overlap_the_bowel_limit_cannot_bind():
    bowel = ("Bowel_Small", "V50Gy[%]", "<=", 15, "%")
    assert [f.kind for f in check_protocol(_with(bowel, split=Split(junction="abut")))] == ["cannot bind"]
    assert [f.kind for f in check_protocol(_with(bowel))] == ["only at the junction"]


def test_coverage_and_limits_that_exclude_each_other_are_found():
    cover = (Coverage(target="PTV1", isodose_percent=95.0, volume_percent=95.0, scope="course"),)
    for limit in (
        ("PTV1", "Dmax", "<=", 28, "Gy"),
        ("PTV1", "V25Gy[%]", "<", 90, "%"),
        ("PTV1", "Dmax[%]", "<=", 90, "%"),
    ):
        findings = check_protocol(_with(limit, coverage=cover))
        assert [f.kind for f in findings] == ["contradiction"], limit
    assert not check_protocol(_with(("PTV1", "Dmax", "<=", 33, "Gy"), coverage=cover))
    both = (("Heart", "V10Gy[%]", "<=", 20, "%"), ("Heart", "V15Gy[%]", ">=", 30, "%"))
    assert [f.kind for f in check_protocol(_with(*both))] == ["contradiction"]


def test_a_mean_below_what_all_of_the_liver_is_prescribed_contradicts():
    assert [f.kind for f in check_protocol(_with(("Liver - GTV*", "Dmean", "<", 20, "Gy")))] == ["contradiction"]
    low = tuple(Prescription(target=t, dose_per_fraction_gy=1.0, fractions=15) for t in ("PTV1", "PTV2"))
    assert not check_protocol(_with(("Liver - GTV*", "Dmean", "<", 20, "Gy"), prescriptions=low))
