"""The metric language: what it reads, what it refuses and why."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import ProtocolError
from cantlie.protocol.metric import Metric


@pytest.mark.parametrize(
    ("text", "kind", "argument", "argument_unit", "unit", "canonical"),
    [
        ("Dmax", "max", 0, "", "Gy", "Dmax"),
        (" d mean ", "mean", 0, "", "Gy", "Dmean"),
        ("Dmin[%]", "min", 0, "", "%", "Dmin[%]"),
        ("D0.03cc", "dose_at_volume", 0.03, "cc", "Gy", "D0.03cc"),
        ("D .5 ml", "dose_at_volume", 0.5, "cc", "Gy", "D0.5cc"),
        ("D95%", "dose_at_volume", 95, "%", "Gy", "D95%"),
        ("D98%[%]", "dose_at_volume", 98, "%", "%", "D98%[%]"),
        ("V20Gy[%]", "volume_at_dose", 20, "Gy", "%", "V20Gy[%]"),
        ("V 30 Gy [ cm3 ]", "volume_at_dose", 30, "Gy", "cc", "V30Gy[cc]"),
        ("V2000cGy[%]", "volume_at_dose", 20, "Gy", "%", "V20Gy[%]"),
        ("V95%[%]", "volume_at_dose", 95, "%", "%", "V95%[%]"),
        ("V107%[cc]", "volume_at_dose", 107, "%", "cc", "V107%[cc]"),
        ("CV15Gy[cc]", "volume_below_dose", 15, "Gy", "cc", "CV15Gy[cc]"),
    ],
)
def test_metric_is_read(text, kind, argument, argument_unit, unit, canonical):
    metric = Metric.parse(text)
    assert (metric.kind, metric.argument, metric.argument_unit, metric.unit) == (kind, argument, argument_unit, unit)
    assert str(metric) == canonical
    assert Metric.parse(canonical) == metric


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("dose", "cannot be read"),
        ("V20", "needs the unit Gy"),
        ("V20Gy", r"say with \[%\] or \[cc\]"),
        ("V20Gy[Gy]", r"say with \[%\] or \[cc\]"),
        ("V20cc[%]", "needs the unit Gy"),
        ("D95", "needs the unit cc or %"),
        ("D95Gy", "needs the unit cc or %"),
        ("D120%", "cannot exceed 100 %"),
        ("D2cc[cc]", "Gy or in % of the prescription"),
        ("Vmax", "only in Dmax"),
        ("Dmax5cc", "only in Dmax"),
        ("D", "no volume or dose"),
        ("D-5cc", "cannot be read"),
    ],
)
def test_metric_is_refused_with_the_reason(text, reason):
    with pytest.raises(ProtocolError, match=reason) as caught:
        Metric.parse(text)
    assert "V20Gy[%]" in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(
    head=st.sampled_from(["D", "V", "CV"]),
    argument=st.floats(0.01, 100).map(lambda x: round(x, 3)),
    percent=st.booleans(),
    absolute=st.booleans(),
)
def test_canonical_text_reads_back_as_the_same_metric(head, argument, percent, absolute):
    if head == "D":
        text = f"D{argument}{'%' if percent else 'cc'}" + ("" if absolute else "[%]")
    else:
        text = f"{head}{argument}{'%' if percent else 'Gy'}[{'cc' if absolute else '%'}]"
    metric = Metric.parse(text)
    assert metric.argument == argument
    assert Metric.parse(str(metric)) == metric
    assert metric.needs_prescription == ((head == "D" and not absolute) or (head != "D" and percent))
