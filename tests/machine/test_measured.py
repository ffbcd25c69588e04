"""Measured beam data: what the three forms say, and one clear sentence for each way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cantlie.core.errors import CantlieError, InputError
from cantlie.machine.measured import MeasuredCalibration, MeasuredCurve, OutputFactors, measured_beam
from cantlie.machine.measured_csv import parse_csv
from cantlie.machine.measured_mcc import parse_mcc
from cantlie.machine.measured_w2cad import parse_w2cad

DEPTHS = (0, 5, 10, 15, 20, 30, 50, 100, 150, 200)
DOSES = (45, 80, 95, 100, 98.5, 94.4, 86.2, 66.8, 50.9, 38.6)


def depth_dose(header="# energy_mv: 6\n# ssd_mm: 900\n# field_mm: 100\n", columns="depth_mm,dose_percent", rows=None):
    pairs = zip(DEPTHS, DOSES, strict=True) if rows is None else rows
    body = "".join(f"{depth},{dose}\n" for depth, dose in pairs)
    return f"# quantity: depth dose\n{header}{columns}\n{body}"


PROFILE = """# quantity: profile
# energy_mv: 6
# axis: crossline
# ssd_cm: 90
# depth_cm: 10
# field_x_mm: 100
# field_y_mm: 50
position_cm;dose
-6,0;0,05
-4,0;0,98
0;1,0
4,0;0,99
6,0;0,05
"""

OUTPUT = """# quantity: output factors
# energy_mv: 6
# ssd_mm: 900
# depth_mm: 100
field_x_mm,field_y_mm,output_factor
50,50,0.92
100,100,1.0
200,100,1.05
"""

W2CAD = """$NUMS 002
$STOM
%VERSION 02
%DATE 01-01-2020
%DETY CHA
%BMTY PHO
%FLSZ 100*80
%TYPE OPD
%AXIS Z
%PNTS 010
%STEP 050
%SSD 0900
{points}$ENOM
$STOM
%BMTY PHO
%FLSZ 100*80
%TYPE OPP
%AXIS Y
%SSD 0900
%DPTH 100
<+000.0 -060.0 +100.0 +005.0>
<+000.0 -030.0 +100.0 +098.0>
<+000.0 +000.0 +100.0 +100.0>
<+000.0 +030.0 +100.0 +098.0>
<+000.0 +060.0 +100.0 +005.0>
$ENOM
$STOM
%BMTY PHO
%FLSZ 100*100
%TYPE WDD
%SSD 0900
<+000.0 +000.0 +100.0 +066.0>
$ENOM
$ENOF
""".format(points="".join(f"<+000.0 +000.0 {z:+06.1f} {d:+06.1f}>\n" for z, d in zip(DEPTHS, DOSES, strict=True)))


def mcc(kind="PDD", extra="", ssd="\t\tSSD=900.00\n", field="\t\tFIELD_INPLANE=80.00\n\t\tFIELD_CROSSPLANE=100.00\n"):
    rows = "".join(f"\t\t\t{z:.2f}\t\t{d:.4E}\t\t#{d:.3E}\n" for z, d in zip(DEPTHS, DOSES, strict=True))
    return (
        "BEGIN_SCAN_DATA\n\tFORMAT=CC-Export V1.9\n\tBEGIN_SCAN  1\n\t\tMODALITY=X\n\t\tENERGY=6.00\n"
        f"{ssd}{field}\t\tWEDGE_ANGLE=0.00\n{extra}\t\tSCAN_CURVETYPE={kind}\n"
        f"\t\tBEGIN_DATA\n{rows}\t\tEND_DATA\n\tEND_SCAN  1\nEND_SCAN_DATA\n"
    )


def test_csv_holds_several_quantities_in_mm_and_cm():
    calibration = "# quantity: calibration\n# gy_per_mu: 0.0098\n# ssd_cm: 100\n# depth_cm: 5\n# field_cm: 10\n"
    curve, profile, outputs, given_calibration = parse_csv(depth_dose() + PROFILE + OUTPUT + calibration, "all.csv")
    assert isinstance(curve, MeasuredCurve)
    assert (curve.kind, curve.ssd_mm, curve.field_mm, curve.energy_mv) == ("depth dose", 900.0, (100.0, 100.0), 6.0)
    assert curve.depth_mm.tolist() == list(DEPTHS)
    assert isinstance(profile, MeasuredCurve)
    assert (profile.axis, profile.ssd_mm, profile.field_mm) == ("x", 900.0, (100.0, 50.0))
    assert profile.x_mm.tolist() == [-60.0, -40.0, 0.0, 40.0, 60.0]
    assert set(profile.depth_mm) == {100.0}
    assert profile.value[1] == 0.98
    assert isinstance(outputs, OutputFactors)
    assert outputs.field_mm[2].tolist() == [200.0, 100.0]
    assert outputs.reference == 1
    assert isinstance(given_calibration, MeasuredCalibration)
    assert given_calibration.calibration.depth_mm == 50.0


def test_diagonal_profiles_lie_on_the_diagonal():
    text = PROFILE.replace("crossline", "diagonal")
    (curve,) = parse_csv(text, "d.csv")
    assert isinstance(curve, MeasuredCurve)
    assert np.hypot(curve.x_mm, curve.y_mm)[0] == pytest.approx(60.0)
    assert curve.position_mm.tolist() == pytest.approx([-60.0, -40.0, 0.0, 40.0, 60.0])


def test_w2cad_reads_open_fields_and_notes_the_rest():
    curves, notes = parse_w2cad(W2CAD, "beam.asc")
    assert [(c.kind, c.axis, c.field_mm, c.ssd_mm) for c in curves] == [
        ("depth dose", "depth", (100.0, 80.0), 900.0),
        ("profile", "y", (100.0, 80.0), 900.0),
    ]
    assert curves[0].value.tolist() == list(DOSES)
    assert curves[1].position_mm.tolist() == [-60.0, -30.0, 0.0, 30.0, 60.0]
    assert "WDD" in notes[0].message


def test_mcc_reads_crossplane_as_x_and_inplane_as_y():
    (curve,), notes = parse_mcc(mcc(), "beam.mcc")
    assert (curve.field_mm, curve.ssd_mm, curve.energy_mv, notes) == ((100.0, 80.0), 900.0, 6.0, [])
    assert curve.depth_mm.tolist() == list(DEPTHS)
    (inplane,), _ = parse_mcc(mcc("INPLANE_PROFILE", "\t\tSCAN_DEPTH=50.00\n"), "beam.mcc")
    assert (inplane.axis, set(inplane.depth_mm)) == ("y", {50.0})
    curves, notes = parse_mcc(mcc(extra="\t\tSCAN_OFFAXIS_INPLANE=20.00\n"), "beam.mcc")
    assert not curves
    assert "SCAN_OFFAXIS_INPLANE" in notes[0].message


def test_curves_are_sorted_and_points_measured_twice_are_used_once():
    rows = [*zip(DEPTHS, DOSES, strict=True)][::-1]
    (part,) = parse_csv(depth_dose(rows=[*rows, rows[-1]]), "a.csv")
    beam = measured_beam([part])
    assert beam.curves[0].depth_mm.tolist() == list(DEPTHS)
    assert beam.energy_mv == 6.0
    assert any("no calibration" in note.message for note in beam.notes)


BAD = {
    "unit of a column": (depth_dose(columns="depth,dose_percent"), "the column 'depth' has no unit", "line 5"),
    "unit of a header": (
        depth_dose("# energy_mv: 6\n# ssd: 900\n# field_mm: 100\n"), "ssd has no unit", "line 3"
    ),
    "ssd": (depth_dose("# energy_mv: 6\n# field_mm: 100\n"), "no ssd_mm", "line 1"),
    "field": (depth_dose("# energy_mv: 6\n# ssd_mm: 900\n"), "field size is missing", "line 1"),
    "energy": (depth_dose("# ssd_mm: 900\n# field_mm: 100\n"), "no file states the energy", "line 1"),
    "maximum": (
        depth_dose(rows=[*zip(DEPTHS, DOSES, strict=True)][3:]), "does not cover its maximum", "line 1"
    ),
    "short": (depth_dose(rows=[*zip(DEPTHS, DOSES, strict=True)][:7]), "ends at 50 mm", "line 1"),
    "no number": (depth_dose() + "250,abc\n", "the row is not 2 numbers", "line 16"),
    "mixed energies": (depth_dose() + PROFILE.replace("energy_mv: 6", "energy_mv: 10"), "mix energies", "line 16"),
    "quantity": (depth_dose().replace("depth dose", "tmr"), "quantity 'tmr' is unknown", "line 1"),
    "nothing said": ("depth_mm,dose\n1,2\n", "does not say what it holds", "line 1"),
    "no depth dose": (PROFILE, "there is no depth dose", ""),
    "axis": (PROFILE.replace("crossline", "sideways"), "axis 'sideways' is unknown", "line 3"),
    "off the axis": (depth_dose() + PROFILE.replace("\n-6,0", "\n20,0").replace("\n-4,0", "\n21,0").replace(
        "\n0;", "\n22;"), "does not reach the axis", "line 16"),
    "factor": (depth_dose() + OUTPUT.replace("0.92", "-0.92"), "must be positive", "line 21"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_csv_is_refused_with_file_and_line(case):
    text, what, line = BAD[case]
    with pytest.raises(InputError) as caught:
        measured_beam(parse_csv(text, "bad.csv"))
    assert what in caught.value.what
    assert line in caught.value.where
    assert not line or "bad.csv" in caught.value.where


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (W2CAD.replace("%SSD 0900\n", ""), "%SSD is missing"),
        (W2CAD.replace("%FLSZ 100*80\n", ""), "field size"),
        (W2CAD.replace("100*80", "100"), "not like 100*100"),
        (W2CAD.replace("+098.0>", ">"), "not four numbers"),
        (W2CAD.rsplit("$ENOM", 1)[0], "the file is cut"),
        ("hello", "no scan"),
    ],
)
def test_bad_w2cad_is_refused(text, what):
    with pytest.raises(InputError, match=r"beam\.asc") as caught:
        parse_w2cad(text, "beam.asc")
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (mcc(ssd=""), "SSD is missing"),
        (mcc(field=""), "field size FIELD_CROSSPLANE is missing"),
        (mcc("CROSSPLANE_PROFILE"), "SCAN_DEPTH is missing"),
        (mcc().rsplit("END_SCAN  1", 1)[0], "the file is cut"),
        (mcc().replace("5.00\t\t8.0000E+01", "5.00\t\tx"), "not position and dose"),
        ("hello", "no scan"),
    ],
)
def test_bad_mcc_is_refused(text, what):
    with pytest.raises(InputError, match=r"beam\.mcc") as caught:
        parse_mcc(text, "beam.mcc")
    assert what in caught.value.what


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_are_read_or_refused_but_never_break(data):
    source, parse = data.draw(
        st.sampled_from([(depth_dose() + PROFILE + OUTPUT, parse_csv), (W2CAD, parse_w2cad), (mcc(), parse_mcc)])
    )
    place = data.draw(st.integers(0, len(source)))
    length = data.draw(st.integers(0, 30))
    text = source[:place] + data.draw(st.text(max_size=10)) + source[place + length :]
    try:
        found = parse(text, "file")
        measured_beam(found if isinstance(found, list) else found[0], 6.0)
    except CantlieError as error:
        assert error.sentence()
