"""Random papers: consistent ones are never flagged, whatever their rounding; planted errors are found if they show."""

import math
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cantlie.statistics.association import pearson_chi2
from cantlie.study.audit.audit import audit
from cantlie.study.audit.checks.counts import count_candidates
from cantlie.study.audit.checks.enumeration import reachable_pattern
from cantlie.study.audit.load import claims_from_dict
from cantlie.study.audit.printed import read_printed

QUICK = settings(deadline=None, max_examples=60)
DECIMALS = st.integers(0, 3)


def inconsistent(**kinds: Any) -> list[str]:
    """Return what the audit of these claims flags."""
    result = audit(claims_from_dict({"id": "random", **kinds}))
    assert result.findings
    return [f"{finding.check}: {finding.item}: {finding.recomputed}" for finding in result.of("inconsistent")]


def printed(value: float, decimals: int, up: bool) -> str:
    """Round to so many decimals; an exact tie goes up or down as told."""
    scaled = value * 10**decimals
    whole = math.floor(scaled + 1e-9)
    part = scaled - whole
    if abs(part - 0.5) < 1e-9:
        whole += up
    else:
        whole += part > 0.5
    return f"{whole / 10**decimals:.{decimals}f}"


@st.composite
def consistent_tables(draw: st.DrawFn) -> tuple[list[str], list[list[int]], str]:
    """Draw a table of counts and print it with percentages and its Pearson p."""
    levels = draw(st.integers(2, 4))
    counts = [[draw(st.integers(1, 80)) for _ in range(2)] for _ in range(levels)]
    decimals, p_decimals, up = draw(DECIMALS), draw(st.integers(2, 4)), draw(st.booleans())
    sizes = [sum(row[group] for row in counts) for group in range(2)]
    p = pearson_chi2(counts).p_value
    lines = [f"item | A (n={sizes[0]}) | B (n={sizes[1]}) | p", f"V | | | {printed(p, p_decimals, up)}"]
    for name, row in zip("abcd", counts, strict=False):
        cells = [f"{k} ({printed(100 * k / n, decimals, up)})" for k, n in zip(row, sizes, strict=True)]
        lines.append(f"  {name} | {cells[0]} | {cells[1]} |")
    return lines, counts, printed(p, p_decimals, up)


@QUICK
@given(consistent_tables())
def test_a_consistent_table_is_never_flagged(table: tuple[list[str], list[list[int]], str]) -> None:
    assert inconsistent(table=[{"place": "Table", "rows": "\n".join(table[0])}]) == []


@QUICK
@given(consistent_tables(), st.integers(0, 1), st.integers(1, 9))
def test_a_changed_count_is_found(table: tuple[list[str], list[list[int]], str], group: int, step: int) -> None:
    lines, counts, _ = table
    cells = lines[2].split("|")
    old = counts[0][group]
    cells[group + 1] = cells[group + 1].replace(f"{old} (", f"{old + step} (", 1)
    lines[2] = "|".join(cells)
    flagged = inconsistent(table=[{"place": "Table", "rows": "\n".join(lines)}])
    assert any(flag.startswith("total: V total") for flag in flagged)


@QUICK
@given(consistent_tables(), st.integers(2, 400))
def test_a_wrong_p_value_is_found_unless_another_test_gives_it(
    table: tuple[list[str], list[list[int]], str], step: int
) -> None:
    lines, counts, text = table
    printed_p = read_printed(text)
    wrong = read_printed(f"{(printed_p.value + step * printed_p.unit) % 1:.{printed_p.decimals}f}")
    candidates = count_candidates(counts, ordered=True)
    assume(not any(wrong.low - 1e-4 <= p <= wrong.high + 1e-4 for p in candidates.values()))
    lines[1] = f"V | | | {wrong.text}"
    flagged = inconsistent(table=[{"place": "Table", "rows": "\n".join(lines)}])
    assert [flag.split(":")[0] for flag in flagged] == ["p-value"]


@QUICK
@given(st.integers(0, 300), st.integers(1, 300), DECIMALS, st.booleans(), st.integers(-40, 40))
def test_a_wrong_percentage_is_found_when_it_shows(count: int, more: int, decimals: int, up: bool, step: int) -> None:
    of = count + more
    text = printed(100 * count / of, decimals, up)
    claim = {"place": "Text", "count": count, "of": of}
    assert inconsistent(proportion=[{**claim, "percent": text}]) == []
    assume(step != 0)
    wrong = float(text) + 2 * step / 10**decimals
    assume(0 <= wrong <= 100)
    assert inconsistent(proportion=[{**claim, "percent": f"{wrong:.{decimals}f}"}]) != []


@QUICK
@given(st.floats(0.1, 8), st.floats(0.05, 0.6), st.integers(2, 3), st.integers(2, 4))
def test_hazard_ratios_with_interval_and_p(ratio: float, error: float, decimals: int, p_decimals: int) -> None:
    from scipy import stats

    low, high = (math.exp(math.log(ratio) + sign * stats.norm.isf(0.025) * error) for sign in (-1, 1))
    p = 2 * stats.norm.sf(abs(math.log(ratio)) / error)
    estimate, lower, upper = (f"{value:.{decimals}f}" for value in (ratio, low, high))
    assume(float(lower) > 0)
    claim = {"place": "Table", "estimate": estimate, "ci": [lower, upper], "p": f"{p:.{p_decimals}f}"}
    assert inconsistent(ratio=[claim]) == []
    if float(lower) / float(estimate) < 0.8:
        assert inconsistent(ratio=[{**claim, "estimate": lower}]) != []


@QUICK
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=4, max_size=25), st.integers(0, 2))
def test_rates_of_a_real_curve_are_possible(patients: list[tuple[int, bool]], decimals: int) -> None:
    """Any Kaplan–Meier curve of real patients passes the enumeration and the median check."""
    times = np.array([time for time, _ in patients])
    events = np.array([event for _, event in patients])
    curve, steps = 1.0, []
    for time in np.unique(times):
        dead = int(events[times == time].sum())
        curve *= 1 - dead / int((times >= time).sum())
        steps.append((float(time), curve))
    rates = {
        str(t): f"{100 * next((s for time, s in reversed(steps) if time <= t), 1.0):.{decimals}f}" for t in (12, 24, 36)
    }
    median = next((time for time, s in steps if s <= 0.5 + 1e-12), None)
    claim = {"place": "Text", "endpoint": "OS", "n": len(patients), "rates": rates, "events": int(events.sum())}
    if median is not None:
        claim["median"] = f"{median:.{decimals}f}"
    assert inconsistent(survival=[claim]) == []


@QUICK
@given(st.integers(2, 12), st.integers(1, 11))
def test_without_censoring_exactly_the_whole_counts_are_possible(patients: int, dead: int) -> None:
    assume(dead <= patients)
    rate = f"{100 * (patients - dead) / patients:.2f}"
    pattern = reachable_pattern(patients, [read_printed(rate)])
    assert pattern is not None
    assert pattern.censored == 0


@QUICK
@given(st.integers(1, 40), st.sampled_from([1.5, 1.7, 2.0, 2.5, 3.0, 5.2, 16.0]), st.sampled_from([2.5, 3.0, 10.0]))
def test_doses_and_effects(fractions: int, dose: float, alpha_beta: float) -> None:
    effect = fractions * dose * (1 + dose / alpha_beta)
    claim = {
        "place": "Methods",
        "total": f"{fractions * dose:.1f}",
        "fractions": fractions,
        "per_fraction": f"{dose:.1f}",
        "bed": f"{effect:.2f}",
        "eqd2": f"{effect / (1 + 2 / alpha_beta):.1f}",
        "alpha_beta": alpha_beta,
    }
    assert inconsistent(fractionation=[claim]) == []
    assert inconsistent(fractionation=[{**claim, "bed": f"{effect + 0.5:.2f}"}]) != []


@QUICK
@given(st.lists(st.integers(0, 12), min_size=3, max_size=40), st.integers(1, 3))
def test_means_of_whole_numbers_pass_grim_and_grimmer(values: list[int], decimals: int) -> None:
    data = np.array(values)
    claim = {
        "place": "Table",
        "n": len(values),
        "mean": f"{data.mean():.{decimals}f}",
        "sd": f"{data.std(ddof=1):.{decimals}f}",
        "range": [int(data.min()), int(data.max())],
        "sum": int(data.sum()),
        "median": f"{np.median(data):.1f}",
        "whole_numbers": True,
        "bins": {"<=5": int((data <= 5).sum()), ">5": int((data > 5).sum())},
    }
    assert inconsistent(summary=[claim]) == []


@QUICK
@given(
    st.lists(st.floats(-50, 50), min_size=3, max_size=30),
    st.lists(st.floats(-50, 50), min_size=3, max_size=30),
    st.integers(0, 2),
)
def test_p_values_of_real_means_are_reproduced(first: list[float], second: list[float], decimals: int) -> None:
    from scipy import stats

    assume(np.ptp(first) > 1 and np.ptp(second) > 1)
    p = float(stats.ttest_ind(first, second).pvalue)
    means = [
        {"n": len(x), "mean": f"{np.mean(x):.{decimals}f}", "sd": f"{np.std(x, ddof=1):.{decimals}f}"}
        for x in (first, second)
    ]
    assert inconsistent(comparison=[{"place": "Table", "means": means, "p": f"{p:.3f}"}]) == []
