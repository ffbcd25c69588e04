"""Options that cannot be meant are refused before anything is read or planned."""

from pathlib import Path

import pytest

from cantlie.core.errors import CantlieError, InputError
from cantlie.protocol.loading import load_protocol
from cantlie.workflow.choices import with_choices
from cantlie.workflow.evaluate_case import EvaluateCase, evaluate_case
from cantlie.workflow.plan_case import plan_case
from cantlie.workflow.planned_case import PlanCase
from cantlie.workflow.what_if import WhatIf

PROTOCOL = "zhang2021-alternating"


@pytest.mark.parametrize("angles", ["0,400", "nan", "-181,0", "0;90", "0,,90", "1e9"])
def test_angles_that_do_not_exist_are_refused(angles):
    with pytest.raises(InputError, match="angle") as caught:
        with_choices(load_protocol(PROTOCOL), gantry=angles)
    assert caught.value.where == "--gantry"


def test_angles_below_zero_and_the_full_turn_are_brought_into_range():
    protocol, _ = with_choices(load_protocol(PROTOCOL), gantry="-30,360, 90")
    assert protocol.technique.gantry_deg == (330.0, 0.0, 90.0)


@pytest.mark.parametrize("plane", ["nan,0,0,1,-1,0", "0,0,0,inf,0,0", "1,2", "0,0,0,0,0,0"])
def test_planes_that_do_not_exist_are_refused(plane):
    with pytest.raises(InputError) as caught:
        with_choices(load_protocol(PROTOCOL), plane=plane)
    assert caught.value.where == "--plane"


@pytest.mark.parametrize(("work", "kind"), [(plan_case, PlanCase), (evaluate_case, EvaluateCase)])
def test_an_unusable_shift_log_is_refused_before_the_case_is_read(work, kind, tmp_path):
    """The case does not exist: whoever reads it first would complain about that instead."""

    def request(what_if: WhatIf) -> PlanCase | EvaluateCase:
        return kind(Path("no case"), protocol=PROTOCOL, out=tmp_path / "out", what_if=what_if)

    log = tmp_path / "log.csv"
    log.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(CantlieError) as caught:
        work(request(WhatIf(shifts=log)))
    assert "log.csv" in caught.value.where
    with pytest.raises(InputError, match="both given"):
        work(request(WhatIf(shifts=log, simulated_mm=(2.0, 2.0))))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [{"given": 3}, {"previous_ct": Path("ct")}])
def test_what_belongs_to_an_earlier_plan_is_not_forgotten_without_one(option, tmp_path):
    with pytest.raises(InputError, match="earlier plan"):
        plan_case(PlanCase(Path("no case"), PROTOCOL, tmp_path / "out", **option))
