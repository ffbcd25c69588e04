"""The checks one by one: what holds is consistent, what cannot hold is found, with the likely slip."""

from typing import Any

import pytest

from cantlie.study.audit.audit import audit
from cantlie.study.audit.checks.calendar import calendar_span
from cantlie.study.audit.checks.distribution import class_limits, grim, grimmer, median_interval
from cantlie.study.audit.checks.enumeration import Stratum, joint_pattern, reachable_pattern
from cantlie.study.audit.checks.geometry import ball_cc
from cantlie.study.audit.checks.paired import bowker_possible, discordant_totals, standardised_difference
from cantlie.study.audit.load import claims_from_dict
from cantlie.study.audit.printed import read_printed
from cantlie.study.audit.verdict import Finding


def findings(**kinds: Any) -> list[Finding]:
    """Audit claims given as lists of dictionaries; every claim gets a place."""
    placed = {
        kind: [{"place": "Text", **claim} for claim in value] if kind not in ("prescription", "tests") else value
        for kind, value in kinds.items()
    }
    return list(audit(claims_from_dict({"id": "made", **placed})).findings)


def only(**kinds: Any) -> Finding:
    found = findings(**kinds)
    assert len(found) == 1, found
    return found[0]


def test_percentages_name_the_slip() -> None:
    other = only(proportion=[{"count": 8, "of": 19, "percent": "36.8"}])
    assert (other.verdict, other.severity, other.slip) == (
        "inconsistent",
        "major",
        "another count: 7/19 gives 36.8%",
    )
    cut = only(proportion=[{"count": 6, "of": 19, "percent": "31.5"}])
    assert (cut.severity, cut.slip) == ("minor", "the last digit was cut off instead of rounded")
    assert "31.58" in only(proportion=[{"of": 19, "percent": "31.5"}]).slip
    assert only(proportion=[{"of": 8, "percent": "62.5"}]).recomputed == "5/8"
    assert only(proportion=[{"count": 9, "of": 8, "percent": "99"}]).severity == "major"


def test_another_denominator_is_recognised_in_a_table() -> None:
    rows = "item | A | B\nSex | |\n  m | 16 (48.5) | 17 (50.0)\n  f | 16 (50.0) | 17 (50.0)\n"
    found = [f for f in findings(table=[{"groups": {"A": 32, "B": 34}, "rows": rows}]) if f.verdict == "inconsistent"]
    assert [f.item for f in found] == ["Sex: m, A"]
    rows = "item | A | B\nSex | |\n  m | 16 (47.1) | 17 (50.0)\n  f | 16 (50.0) | 17 (50.0)\n"
    found = [f for f in findings(table=[{"groups": {"A": 32, "B": 34}, "rows": rows}]) if f.verdict == "inconsistent"]
    assert found[0].slip == "another denominator: 16/34 = 47.06%"


def test_row_percentages_are_understood_as_such() -> None:
    rows = "item | A | B\nSex | |\n  m | 10 (25.0) | 30 (75.0)\n  f | 20 (66.7) | 10 (33.3)\n"
    found = findings(table=[{"groups": {"A": 30, "B": 40}, "rows": rows}])
    assert {f.verdict for f in found if f.check == "percent"} == {"consistent"}


def test_totals_of_levels_columns_and_named_sums() -> None:
    rows = "item | A | B | all\nSex | | |\n  m | 6 | 5 | 11\n  f | 4 | 4 | 9\n"
    found = findings(table=[{"groups": {"A": 10, "B": 10, "all": 20}, "rows": rows}])
    bad = {f.item for f in found if f.verdict == "inconsistent"}
    assert bad == {"Sex total B", "f, all"}
    rows = "x | A\nCR | 3\nPR | 13\nORR | 17\n"
    table = {"groups": {"A": 32}, "rows": rows, "independent": True, "sums": ["CR + PR = ORR", "CR + XX = ORR"]}
    found = [f for f in findings(table=[table]) if f.check == "total"]
    assert [f.verdict for f in found] == ["inconsistent", "not recomputable"]


def test_a_total_with_swapped_digits() -> None:
    assert only(total=[{"parts": [12, 30], "total": 51}]).slip == "two digits of 12 swapped (21)"
    assert only(total=[{"parts": ["30.6", "22.8"], "total": "53.4"}]).verdict == "consistent"
    assert only(total=[{"parts": ["30.6", "22.8"], "total": "53.9"}]).verdict == "inconsistent"
    assert only(total=[{"parts": [4, 3], "total": 6, "relation": "at most"}]).verdict == "inconsistent"


def test_p_values_name_the_test_and_whether_the_choice_matters() -> None:
    result = only(comparison=[{"counts": [[5, 0], [27, 33]], "p": "0.018", "tests": ["chi-square"]}])
    assert result.verdict == "consistent"
    assert "the choice of test decides" in result.remark
    fisher = only(comparison=[{"counts": [[5, 0], [27, 33]], "p": "0.024", "tests": ["chi-square"]}])
    assert fisher.verdict == "consistent"
    assert "not by a test that the paper names" in fisher.remark
    wrong = only(comparison=[{"counts": [[5, 0], [27, 33]], "p": "0.810"}])
    assert (wrong.verdict, wrong.severity) == ("inconsistent", "warning")
    swapped = only(comparison=[{"counts": [[16, 16], [16, 17]], "p": "0.930"}])
    assert "two digits swapped" in swapped.slip
    assert only(comparison=[{"p": "0.4"}]).verdict == "not recomputable"


def test_t_tests_allow_for_the_rounding_of_means() -> None:
    means = [{"n": 34, "mean": "123", "sd": "19"}, {"n": 34, "mean": "129", "sd": "17"}]
    assert only(comparison=[{"means": means, "p": "0.175"}]).verdict == "consistent"
    assert only(comparison=[{"means": means, "p": "0.220"}]).verdict == "consistent"
    assert only(comparison=[{"means": means, "p": "0.500"}]).verdict == "inconsistent"
    lost = [{"n": 34, "mean": "2.0", "sd": "3.1"}, {"n": 34, "mean": "21", "sd": "2.7"}]
    assert "20 for 2.0" in only(comparison=[{"means": lost, "p": ">0.05"}]).slip


def test_analysis_of_variance_allows_for_rounding() -> None:
    groups = [{"n": 10, "mean": mean, "sd": "3"} for mean in ("50", "51", "52")]
    assert only(comparison=[{"means": groups, "p": "0.341"}]).verdict == "consistent"
    assert only(comparison=[{"means": groups, "p": "0.450"}]).verdict == "consistent"
    assert only(comparison=[{"means": groups, "p": "0.010"}]).verdict == "inconsistent"


def test_exchanged_limits_are_told_and_end_the_check() -> None:
    assert "exchanged" in only(ratio=[{"estimate": "0.5", "ci": ["0.8", "0.4"], "p": "0.01"}]).slip
    assert only(difference=[{"estimate": "1", "ci": ["3", "-1"]}]).verdict == "inconsistent"
    assert only(survival=[{"endpoint": "OS", "median": "9", "ci": ["12", "6"]}]).severity == "major"


def test_mcnemar_is_inverted_for_the_discordant_pairs() -> None:
    assert discordant_totals(75, 73, 135, read_printed("0.902")) == [66]
    assert discordant_totals(37, 47, 135, read_printed("0.268")) == [66]
    assert discordant_totals(75, 73, 135, read_printed("0.550")) == []


def test_the_matched_table_of_li2024_gives_its_discordant_totals() -> None:
    found = {}
    for finding in audit("li2024").findings:
        if "exact McNemar with" in finding.recomputed:
            found[finding.item] = finding.recomputed.split(" with ")[1].split(" discordant")[0]
    assert found == {
        "Age (years)": "66",
        "HR expression": "66",
        "Ki-67": "1 to 51",
        "Metastatic sites: Bone": "72",
        "Metastatic sites: Brain": "59",
        "Metastatic sites: Liver": "63",
        "Metastatic sites: Lung": "59",
        "Metastatic sites: Other": "0 to 68",
        "Hormone therapy": "75",
    }


def test_bowker_is_searched_over_all_tables_of_pairs() -> None:
    assert bowker_possible([127, 2, 6], [124, 9, 2], read_printed("0.117"))
    assert not bowker_possible([1, 1, 0], [1, 0, 1], read_printed("0.900"))


def test_balance_counts_large_standardised_differences() -> None:
    assert standardised_difference(37 / 135, 47 / 135) == pytest.approx(-0.161, abs=5e-4)
    rows = "x | A | B\nS | |\n  a | 20 | 30\n  b | 80 | 70\n"
    found = findings(table=[{"groups": {"A": 100, "B": 100}, "rows": rows, "balanced": True}])
    assert [f.verdict for f in found if f.check == "balance"] == ["inconsistent"]


def test_ratio_interval_and_p_tell_one_story() -> None:
    good = findings(ratio=[{"estimate": "1.647", "ci": ["1.217", "2.229"], "p": "0.001"}])
    assert {f.verdict for f in good} == {"consistent"}
    copied = findings(ratio=[{"estimate": "0.361", "ci": ["0.361", "0.650"], "p": "<0.001"}])
    assert "lower limit is printed in place of the estimate (0.484" in copied[0].slip
    cited = findings(ratio=[{"estimate": "4.51", "ci": ["1.10", "18.47"], "p": "0.007"}])
    assert [f.verdict for f in cited] == ["consistent", "inconsistent"]
    lost = findings(difference=[{"estimate": "1.93", "ci": ["0.018", "3.87"], "p": "0.074"}])
    assert lost[0].slip == "a minus sign lost before 0.018"


def test_the_odd_interval_of_a_paper_is_found_only_where_the_others_are_symmetric() -> None:
    def survival(*triples: tuple[str, str, str]) -> list[Finding]:
        claims = [{"endpoint": "OS", "group": str(i), "median": m, "ci": [a, b]} for i, (m, a, b) in enumerate(triples)]
        return [f for f in findings(survival=claims) if f.check == "interval"]

    symmetric = [("33.9", "27.9", "39.9"), ("57.2", "44.5", "69.8"), ("34.1", "27.5", "40.6")]
    odd = ("51.7", "48.8", "63.8")
    assert [f.verdict for f in survival(*symmetric, odd)] == ["consistent"] * 3 + ["inconsistent"]
    assert {f.verdict for f in survival(odd, ("9.2", "6.0", "14.2"), ("5.7", "3.8", "8.5"))} == {"consistent"}
    assert survival(("70", "48.8", "63.8"))[0].severity == "major"


def test_survival_logic() -> None:
    two = [
        {"endpoint": "OS", "rates": {"12": "59.6"}, "median": "20.4"},
        {"endpoint": "PFS", "rates": {"12": "65.6"}, "median": "17.3"},
    ]
    bad = [f for f in findings(survival=two) if f.verdict == "inconsistent"]
    assert [f.item for f in bad] == ["PFS against OS (all) at 12 months"]
    late = [{"endpoint": "LC", "median": "7.0", "rates": {"12": "69.8"}}]
    assert only(survival=late).verdict == "inconsistent"
    rising = [{"endpoint": "OS", "rates": {"12": "50", "24": "60"}}]
    assert only(survival=rising).severity == "major"


def test_kaplan_meier_rates_are_enumerated() -> None:
    def rates(*values: str) -> list[Any]:
        return [read_printed(value) for value in values]

    assert reachable_pattern(8, rates("62.5")) is not None
    found = reachable_pattern(11, rates("90"))
    assert found is not None
    assert (found.events, found.censored) == (1, 1)
    assert reachable_pattern(3, rates("90.0")) is None
    assert reachable_pattern(5, rates("30.0"), events=2) is None
    assert reachable_pattern(13, rates("85.7"), events=2) is not None


def test_enumeration_keeps_every_digit_that_is_printed() -> None:
    rates = [read_printed("75.00"), read_printed("74.99")]
    assert reachable_pattern(12, rates) is None
    assert reachable_pattern(12, rates[:1]) is not None


def test_standard_errors_and_intervals_of_proportions_name_their_convention() -> None:
    claim = {"count": 10, "of": 40, "percent": "25.0"}
    found = findings(proportion=[{**claim, "se": "6.8", "ci": ["12.7", "41.2"]}])
    assert [f.verdict for f in found] == ["consistent"] * 3
    assert found[2].recomputed == "made by clopper-pearson"
    wrong = findings(proportion=[{**claim, "se": "43.3", "ci": ["12.7", "49.2"]}])
    assert [f.verdict for f in wrong] == ["consistent", "inconsistent", "inconsistent"]
    assert "standard deviation" in wrong[1].slip


def test_the_convention_of_an_interval_is_named() -> None:
    # S = 60 %, standard error 10 % on the log(-log) scale 0.3263: limits 38.0 and 76.4.
    rate = {"endpoint": "OS", "rates": {"12": "60.0"}, "rate_ci": {"12": ["38.0", "76.4"]}}
    found = next(f for f in findings(survival=[rate]) if f.check == "interval")
    assert "log(−log)" in found.recomputed
    median = {"endpoint": "OS", "median": "9.2", "ci": ["6.0", "14.2"]}
    assert "symmetric on the log scale" in only(survival=[median]).recomputed


def test_all_groups_of_yin2014_come_from_one_course_of_events() -> None:
    pooled = Stratum("all", 19, read_printed("78.3"))
    kps = [Stratum("<80", 8, read_printed("62.5")), Stratum(">=80", 11, read_printed("90"))]
    spread = [Stratum("yes", 5, read_printed("30")), Stratum("no", 14, read_printed("92.9"))]
    assert joint_pattern(pooled, [kps, spread]) == "4 events and 1 censored"
    swapped = [Stratum("<80", 7, read_printed("62.5")), Stratum(">=80", 12, read_printed("90"))]
    assert joint_pattern(pooled, [swapped, spread], longest=5) is None


def test_grim_and_grimmer() -> None:
    assert grim(read_printed("3.47"), 15, "", "").verdict == "consistent"
    assert grim(read_printed("3.48"), 15, "", "").verdict == "inconsistent"
    assert grim(read_printed("123"), 34, "", "").verdict == "consistent"
    # 1, 1, 2, 4: mean 2.00, SD 1.41; with the same mean no whole numbers give an SD of 1.50.
    assert grimmer(read_printed("2.00"), read_printed("1.41"), 4, "", "").verdict == "consistent"
    assert grimmer(read_printed("2.00"), read_printed("1.50"), 4, "", "").verdict == "inconsistent"


def test_order_statistics() -> None:
    assert median_interval([(32, 50, 32), (50, 66, 36)]) == (50, 66)
    assert class_limits("32-49") == (32, pytest.approx(50))
    assert class_limits(">1 and ≤3") == (1, 3)
    assert class_limits("male") is None
    age = {"n": 68, "median": 48, "range": [32, 65], "bins": {"32-49": 32, "50-65": 36}}
    assert [f.verdict for f in findings(summary=[age])] == ["consistent", "inconsistent"]
    assert only(summary=[{"n": 19, "mean": 3, "sum": 70}]).check == "mean"
    pooled = {"n": 36, "median": 30, "groups": {"a": {"n": 13, "median": 25}, "b": {"n": 23, "median": 13}}}
    assert only(summary=[pooled]).verdict == "inconsistent"
    spread = {"n": 10, "range": [0, 10], "sd": "7.0"}
    assert only(summary=[spread]).verdict == "inconsistent"


def test_doses_forwards_and_backwards() -> None:
    assert only(fractionation=[{"total": 42, "fractions": 3, "bed": "100.8"}]).verdict == "consistent"
    wrong = only(fractionation=[{"total": 42, "fractions": 3, "bed": "238.0"}])
    assert wrong.slip == "another α/β: 3 Gy gives 238.0"
    assert only(fractionation=[{"total": "30.6", "per_fraction": "1.7"}]).verdict == "consistent"
    assert only(fractionation=[{"total": "31.0", "per_fraction": "1.7"}]).verdict == "inconsistent"
    series = {"total_range": [30, 60], "fractions_range": [7, 30], "per_fraction_range": ["2", "5.2"]}
    inverse = findings(fractionation=[{**series, "bed_range": ["39", "79.04"]}])
    assert [f.recomputed for f in inverse[:2]] == ["10 × 3 Gy", "10 × 5.2 Gy"]
    assert findings(fractionation=[{**series, "bed_range": ["39", "140"]}])[1].verdict == "inconsistent"
    phases = [{"per_fraction": "1.7", "fractions": [15, 20]}, {"per_fraction": "1.9", "fractions": [7, 20]}]
    assert only(fractionation=[{"total": "66.3", "phases": phases}]).recomputed == "20 × 1.7 + 17 × 1.9"
    assert only(fractionation=[{"total": "66.4", "phases": phases}]).verdict == "inconsistent"


def constraints(*rows: tuple[str, str, str, float, str], **prescription: float) -> list[str]:
    claims = [
        {"structure": s, "metric": m, "op": op, "limit": str(limit), "unit": unit} for s, m, op, limit, unit in rows
    ]
    more = {"prescription": prescription} if prescription else {}
    return [f.verdict for f in findings(constraint=claims, **more)]


def test_constraints_that_cannot_bind() -> None:
    void = ["consistent", "inconsistent"]
    assert constraints(("stomach", "Dmax", "<=", 40, "Gy"), ("Stomach", "V45Gy", "<=", 15, "percent")) == void
    assert constraints(("bowel", "V55Gy", "<", 5, "percent"), max_gy=48, max_percent=110) == ["inconsistent"]
    assert constraints(("bowel", "V50Gy", "<", 5, "percent"), max_gy=48, max_percent=110) == ["consistent"]
    assert constraints(("kidney", "D66%", "<", 18, "Gy"), ("kidney", "D100%", "<", 20, "Gy")) == void
    assert constraints(("liver", "V20Gy", "<", 30, "percent"), ("liver", "V30Gy", "<", 40, "percent")) == void
    assert constraints(("liver", "V20Gy", "<", 30, "percent"), ("liver", "V30Gy", "<", 20, "percent")) == [
        "consistent",
        "consistent",
    ]
    assert constraints(("ptv", "Dmax", "<", 50, "Gy"), ("ptv", "Dmean", ">", 55, "Gy")) == [
        "consistent",
        "inconsistent",
    ]


def test_calendars() -> None:
    assert calendar_span(15) == (19, 21)
    assert calendar_span(30) == (40, 42)
    assert calendar_span(3, every_days=2) == (5, 5)
    assert calendar_span(30, per_day=2) == (19, 21)
    assert "treatment days" in only(schedule=[{"fractions": 15, "days": 15}]).slip
    assert only(schedule=[{"fractions": 15, "days": 19}]).verdict == "consistent"
    assert only(schedule=[{"fractions": 30, "weeks": "<6"}]).verdict == "consistent"
    assert only(schedule=[{"fractions": 35, "weeks": "<6"}]).verdict == "inconsistent"


def test_dates() -> None:
    late = {"accrual_to": "2018-01", "followup_end": "2019-04", "needs_months": 36}
    assert [f.verdict for f in findings(dates=[late])] == ["consistent", "inconsistent"]
    turned = {"accrual_from": "2018", "accrual_to": "2017"}
    assert only(dates=[turned]).verdict == "inconsistent"
    longest = {"accrual_from": "2011-07", "submitted": "2012-07", "longest_months": "20.0"}
    assert only(dates=[longest]).verdict == "inconsistent"


def test_volumes_against_diameters() -> None:
    assert ball_cc(2.0) == pytest.approx(4.18879, abs=1e-5)
    sizes = {"diameter_cm": ["1.6", "16.7"], "volume_cc": ["3.15", "2214.75"]}
    assert [f.verdict for f in findings(size=[sizes])] == ["inconsistent", "consistent"]


def test_the_same_fact_in_several_places() -> None:
    def says(*values: str) -> str:
        return only(
            quantity=[{"what": "x", "stated": [{"place": str(i), "value": v} for i, v in enumerate(values)]}]
        ).verdict

    assert says("50%", "50.0 %") == "consistent"
    assert says("0.02", "0.03") == "inconsistent"
    assert says("0.001", "<0.001") == "consistent"
    assert says(">4", ">=4") == "inconsistent"
    assert says("4.9-69.1", "4.9 to 69.1") == "consistent"
    assert says("randomised", "Randomised") == "consistent"
    assert says("randomised", "retrospective") == "inconsistent"


def test_statements_against_their_numbers() -> None:
    assert only(statement=[{"says": "not significant", "p": ".018"}]).verdict == "inconsistent"
    assert only(statement=[{"says": "significant", "p": "0.050"}]).verdict == "consistent"
    turned = {"says": "larger", "subject": "a", "values": {"a": "62.5", "b": "90"}}
    assert only(statement=[turned]).verdict == "inconsistent"
    assert only(statement=[{"says": "above", "limit": 80, "values": {"OS": "44.2"}}]).verdict == "inconsistent"


def test_labels() -> None:
    def labels(*names: str) -> list[str]:
        rows = "x | A\nDose |\n" + "".join(f"  {name} | 1\n" for name in names)
        found = findings(table=[{"groups": {"A": len(names)}, "rows": rows}])
        return [f.verdict for f in found if f.check in ("label", "logic")]

    assert labels("≤4960", "<4960") == ["inconsistent"]
    assert labels("≤4960", ">4960") == ["consistent"]
    assert labels("<50", ">50") == ["inconsistent"]
    assert labels("< 2 cm", "≥ 2 cm, < 3 cm", "≥ 3 cm") == ["consistent"]
    assert labels("ALT<40", "AST<40") == ["inconsistent"]
    assert findings(table=[{"caption": "?????", "groups": {"A": 1}, "rows": "x | A\nm | 1\n"}])[0].check == "label"


def test_values_against_clinical_ranges() -> None:
    digit = only(plausible=[{"quantity": "palbociclib daily", "value": 1250}])
    assert digit.slip.startswith("a digit too many: 125 mg")
    assert only(plausible=[{"quantity": "CTCAE version", "value": "4.3"}]).verdict == "inconsistent"
    assert only(plausible=[{"quantity": "shoe size", "value": 43}]).verdict == "not recomputable"


def test_the_flow_of_patients_and_announced_results() -> None:
    flow = {
        "group": "A",
        "entered": 34,
        "analysed": 32,
        "excluded": [{"n": 2, "reason": "nausea", "from_toxicity": True}],
    }
    assert [f.verdict for f in findings(flow=[flow])] == ["consistent", "inconsistent"]
    assert only(flow=[{"group": "A", "entered": 34, "analysed": 33}]).verdict == "inconsistent"
    assert only(announced=[{"what": "LC"}]).verdict == "inconsistent"
    assert only(open=[{"printed": "p = 0.4", "why": "needs data"}]).verdict == "not recomputable"


def test_no_word_of_intent_in_any_finding() -> None:
    words = ("fraud", "fabricat", "manipulat", "falsif", "misconduct", "dishonest", "intent", "suspicious")
    for study in ("zhang2021", "liu2022", "pei2019", "yin2014", "li2024"):
        for finding in audit(study).findings:
            text = " ".join((finding.item, finding.recomputed, finding.method, finding.remark, finding.slip)).casefold()
            assert not any(word in text for word in words)
