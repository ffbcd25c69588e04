"""RTPLANs with a single value deleted, emptied or altered: read as before, told, or refused; never a traceback."""

from __future__ import annotations

import copy
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from cantlie.core.errors import CantlieError, DicomError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dicom.plan_file import PlanFile, plan_of
from cantlie.dicom.rtplan import write_rtplan
from cantlie.dicom.values import parse
from cantlie.machine.aperture import Aperture
from cantlie.machine.geometry import BeamGeometry
from cantlie.machine.machine import load_machine
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.structures import StructureSet
from cantlie.plan.pieces import pieces
from cantlie.plan.treatment import ControlPoint, TreatmentBeam, TreatmentPlan

GRID = Grid((4, 4, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Dataset:
    """An arc and a static field of a machine with leaves."""
    machine = load_machine("generic-6mv-mlci")
    pairs = machine.mlc.pairs
    lower = np.linspace(-23.0, -17.0, pairs)

    def point(gantry: float, shift: float, mu: float) -> ControlPoint:
        geometry = BeamGeometry((1.0, 2.0, 3.0), gantry, 10.0, 0.0)
        return ControlPoint(geometry, Aperture((-60, 60), (-50, 55), lower + shift, lower + 30 + shift), mu)

    arc = TreatmentBeam(1, "arc", tuple(point(330 + 20 * k, 2 * k, 30.0 * k) for k in range(3)), True)
    static = TreatmentBeam(2, "field", (point(90, 0, 0), point(90, 0, 50)))
    case = Case(
        Ct(Volume(GRID, np.zeros(GRID.shape, np.float32)), "HFS", "2.25.1", "2.25.2", "2.25.3", ()),
        StructureSet(),
        PatientIdentity("P1"),
    )
    path = tmp_path_factory.mktemp("plan") / "RP.dcm"
    write_rtplan(case, TreatmentPlan("two", machine.name, (arc, static), 3, 42.0), machine, "2.25.55", path)
    return dcmread(path)


def read(data: Dataset) -> PlanFile:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(stream)
    return plan_of(parse(stream.getvalue(), "RP.dcm", pixels=True), "RP.dcm")


def elements(data: Dataset, name: str = "") -> Iterator[str]:
    """Name every element of a plan: ``BeamSequence.0.ControlPointSequence.1.GantryAngle``."""
    for element in data:
        yield name + element.keyword
        if element.VR == "SQ":
            for n, one in enumerate(element.value):
                yield from elements(one, f"{name}{element.keyword}.{n}.")


def holder(data: Dataset, name: str) -> tuple[Dataset, str]:
    """Return the data set that holds an element, and the keyword of the element."""
    *above, keyword = name.split(".")
    for sequence, n in zip(above[::2], above[1::2], strict=True):
        data = data[sequence].value[int(n)]
    return data, keyword


def altered(value: Any, change: Callable[[float], float]) -> Any:
    many = hasattr(value, "__iter__")
    numbers = [change(float(v)) for v in (value if many else [value])]
    return numbers if many else numbers[0]


CHANGES: dict[str, Callable[[Dataset, str], None]] = {
    "deleted": lambda data, tag: data.__delattr__(tag),
    "emptied": lambda data, tag: setattr(data[tag], "value", [] if data[tag].VR == "SQ" else None),
    "odd": lambda data, tag: setattr(data[tag], "value", "ODD"),
    "huge": lambda data, tag: setattr(data[tag], "value", altered(data[tag].value, lambda v: 1e9)),
    "negated": lambda data, tag: setattr(data[tag], "value", altered(data[tag].value, lambda v: -v)),
    "first item lost": lambda data, tag: setattr(data[tag], "value", data[tag].value[1:]),
    "last item lost": lambda data, tag: setattr(data[tag], "value", data[tag].value[:-1]),
    "last item twice": lambda data, tag: data[tag].value.append(copy.deepcopy(data[tag].value[-1])),
}


def delivered(file: PlanFile) -> tuple[Any, ...]:
    """Everything of a plan that decides its dose."""
    parts = [
        (beam.number, *(round(v, 6) for v in (*g.isocentre_mm, g.gantry_deg % 360, g.collimator_deg, g.couch_deg)),
         g.sad_mm, a.jaw_x_mm, a.jaw_y_mm, np.round([a.leaf_lower_mm, a.leaf_upper_mm], 6).tolist(), round(part.mu, 6))
        for beam in file.plan
        for part in pieces(beam, gantry_step_deg=20, leaf_step_mm=100)
        for g, a in [(part.geometry, part.aperture)]
    ]  # fmt: skip
    edges = {n: tuple(e) for n, e in file.leaf_boundaries_mm.items()}
    return file.plan.fractions, parts, edges, file.mlc_axis, file.energy_mv


# Where another value is another legal plan: nobody can tell that it was altered.
_UNCHANGED = r"ControlPointSequence\.[1-9]\.(BeamLimitingDevicePositionSequence|GantryAngle)$"  # PS3.3 C.8.8.14.5
_LEGAL = {
    "negated": r"(Gantry|BeamLimitingDevice|PatientSupport)Angle$|IsocenterPosition$",
    "huge": r"IsocenterPosition$",  # found by the recalculation, which knows where the CT lies
    "deleted": _UNCHANGED + r"|NominalBeamEnergy$",  # the recalculation takes the energy of the machine and says so
    "emptied": _UNCHANGED + r"|NominalBeamEnergy$",
    "first item lost": _UNCHANGED,
    "last item lost": _UNCHANGED,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_single_change_never_alters_the_delivery_in_silence(plan, change):
    before = read(plan)
    expected, known = delivered(before), {note.sentence() for note in before.notes}
    refused = 0
    for name in elements(plan):
        place, keyword = holder(plan, name)
        kind = place[keyword].VR
        if place[keyword].is_empty:
            continue
        if ("item" in change and kind != "SQ") or (change == "odd" and kind not in ("CS", "SH", "LO")):
            continue
        if change in ("huge", "negated") and kind not in ("DS", "IS"):
            continue
        data = copy.deepcopy(plan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            CHANGES[change](*holder(data, name))
        try:
            found = read(data)
        except CantlieError as error:
            assert error.where and error.remedy, name
            refused += 1
            continue
        told = {note.sentence() for note in found.notes} - known
        assert told or delivered(found) == expected or re.search(_LEGAL.get(change, "$^"), name), name
    assert refused >= 5


def first_beam(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda data: setattr(data.BeamSequence[0], keyword, value)


def point(n: int, keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda data: setattr(data.BeamSequence[0].ControlPointSequence[n], keyword, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: setattr(d.FractionGroupSequence[0], "NumberOfFractionsPlanned", 0), "0 fractions"),
        (lambda d: setattr(d.BeamSequence[1], "BeamNumber", 1), "two beams of the plan have the number 1"),
        (lambda d: d.BeamSequence.pop(1), "a beam 2 that it does not have"),
        (
            lambda d: d.FractionGroupSequence[0].ReferencedBeamSequence[1].__delattr__("BeamMeterset"),
            "no monitor units",
        ),
        (lambda d: d.FractionGroupSequence[0].ReferencedBeamSequence.pop(1), "2 beams are treated, but names 1"),
        (lambda d: d.BeamSequence[0].ControlPointSequence.pop(2), "2 control points, but says that it has 3"),
        (first_beam("FinalCumulativeMetersetWeight", 180), "end at 60, but the final weight is 180"),
        (first_beam("SourceAxisDistance", 100), "100 mm from the axis"),
        (point(2, "IsocenterPosition", [0, 0, 9]), "isocentre moves"),
        (point(1, "CumulativeMetersetWeight", None), "control point 1 has no cumulative"),
        (point(1, "GantryAngle", 3500), "more than a whole turn"),
        (point(0, "NominalBeamEnergy", 600), "600 MV"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(plan, change, words):
    data = copy.deepcopy(plan)
    change(data)
    with pytest.raises(DicomError, match=words):
        read(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: [setattr(p, "GantryRotationDirection", "NONE") for p in d.BeamSequence[0].ControlPointSequence],
         "which way the gantry turns"),
        (point(0, "BeamLimitingDeviceAngle", None), "how the collimator stands"),
        (first_beam("RadiationType", ""), "photons were taken"),
    ],
)  # fmt: skip
def test_what_a_plan_leaves_open_is_told(plan, change, words):
    data = copy.deepcopy(plan)
    change(data)
    assert any(words in note.message and note.where == "beam 1" for note in read(data).notes)


def test_a_beam_that_no_fraction_names_is_left_out_with_a_warning(plan):
    data = copy.deepcopy(plan)
    group = data.FractionGroupSequence[0]
    group.ReferencedBeamSequence.pop(1)
    group.NumberOfBeams = 1
    file = read(data)
    assert [beam.number for beam in file.plan] == [1]
    assert any("belongs to no fraction" in note.message and note.level == "warning" for note in file.notes)
