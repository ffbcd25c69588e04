"""The road of a follow-up: two CTs with a known deformation, a recurrence in the dose, the report and the command."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import typer
from scipy import ndimage
from typer.testing import CliRunner

from cantlie.cli import follow_up as command
from cantlie.core.errors import InputError, StructureError
from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField
from cantlie.dicom.rtdose import write_rtdose
from cantlie.dicom.rtstruct import write_rtstruct
from cantlie.patient.case import Case, Ct, PatientIdentity
from cantlie.patient.contours import contours_of_fractions
from cantlie.patient.structures import Structure, StructureSet
from cantlie.workflow.follow_up import FollowUp, follow_up

GRID = Grid((30, 36, 44), (4.0, 4.0, 4.0), (-88.0, -72.0, 40.0))
CENTRE = GRID.points_mm().mean(axis=(0, 1, 2))


def ball(at_mm, radius_mm: float) -> np.ndarray:
    distance = np.linalg.norm(GRID.points_mm() - CENTRE - np.asarray(at_mm), axis=-1)
    return np.clip(0.5 + (radius_mm - distance) / 4.0, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def hu():
    x, y, z = np.moveaxis(GRID.points_mm() - CENTRE, -1, 0)
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=GRID.shape), 3.0)
    values = np.where((x / 78) ** 2 + (y / 62) ** 2 < 1, 20 + 50 * texture / texture.std(), -1000)
    values = np.where((x / 45) ** 2 + (y / 38) ** 2 + (z / 40) ** 2 < 1, values + 80, values)
    return ndimage.gaussian_filter(values, 0.6).astype(np.float32)


@pytest.fixture
def road(tmp_path, make_images, hu):
    """Write a planning case with its dose and a follow-up 11 mm deformed with a recurrence; return a request maker."""
    away = GRID.points_mm() - CENTRE
    bump = np.exp(-0.5 * (away**2).sum(-1) / 45.0**2)[..., None]
    back = DisplacementField(GRID, (11.0 * bump * np.array([0.25, -0.4, 0.9])).astype(np.float32))
    inside, outside = ball((0, 0, 0), 14), ball((50, 0, 0), 9)
    liver = ball((0, 0, 0), 38)

    def case(name: str, values: np.ndarray, masks: dict[str, np.ndarray]) -> Case:
        slices = make_images(tmp_path / name, GRID, np.round(values), "HFS")
        ct = Ct(Volume(GRID, values), "HFS", "2.25.1", "2.25.2", "2.25.3", slices)
        made = Case(ct, StructureSet(), PatientIdentity("P1"))
        structures = [
            Structure(key, contours_of_fractions(mask, GRID), n + 1, slice_spacing_mm=4.0)
            for n, (key, mask) in enumerate(masks.items())
        ]
        write_rtstruct(made, structures, tmp_path / name / "RS.dcm")
        return made

    planning = case("planning", hu, {"Liver": liver, "GTV_1": inside})
    later = {
        name: np.asarray(back.pull(Volume(GRID, mask)).values)
        for name, mask in {"Liver": liver, "Recurrence": inside, "New": outside}.items()
    }
    case("later", np.asarray(back.pull(Volume(GRID, hu), outside=-1000).values), later)
    dose = (50 * ndimage.gaussian_filter(ball((0, 0, 0), 26), 1.0)).astype(np.float32)
    write_rtdose(planning, Volume(GRID, dose), tmp_path / "RD.dcm")

    def request(**options) -> FollowUp:
        chosen = {"recurrence": "Recurrence", "doses": (tmp_path / "RD.dcm",), "prescription_gy": 50.0, **options}
        return FollowUp(tmp_path / "planning", tmp_path / "later", tmp_path / "out", spacing_mm=4.0, **chosen)

    return request


def test_a_recurrence_inside_the_dose_is_found_in_field(road, tmp_path):
    results = follow_up(road())
    place = results["recurrence"]["geometric"]
    assert place["place"] == "in-field"
    assert place["sure"]
    assert place["fraction_high"] > 0.95
    assert place["mean_gy"] == pytest.approx(50, abs=1)
    assert results["registration"]["dice"]["Liver"] > 0.93
    assert results["registration"]["largest_displacement_mm"] > 7
    assert results["structures"]["New"]["Dmean_gy"] < 10
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "report.pdf").is_file()
    assert "in-field" in page and "Research use only" in page
    assert re.search(r"case [0-9a-f]{8}", page) and "Planning CT" in page
    assert "Largest displacement" in page and "-0.0" not in page
    assert (tmp_path / "out" / "figures" / "before-after.svg").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "done"


def test_the_report_does_not_name_the_folder_of_the_patient(road, tmp_path):
    (tmp_path / "planning").rename(tmp_path / "Mustermann_Erika")
    follow_up(replace(road(method="rigid"), case=tmp_path / "Mustermann_Erika"))
    for name in ("report.html", "results.json", "run.json"):
        assert "Mustermann" not in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_a_new_lesion_is_out_of_field_and_the_command_says_so(road, tmp_path):
    app = typer.Typer()
    app.command("follow-up")(command.follow_up)
    options = ["--follow-up", tmp_path / "later", "--dose", tmp_path / "RD.dcm", "--recurrence", "New", "--grid", 4]
    arguments = [tmp_path / "planning", *options, "--prescription", 50, "--method", "rigid", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    assert "New: out-of-field" in result.stdout


def test_what_cannot_be_judged_is_refused(road):
    with pytest.raises(InputError, match="--prescription"):
        follow_up(road(prescription_gy=None))
    with pytest.raises(StructureError, match="Nowhere"):
        follow_up(road(recurrence="Nowhere"))
    with pytest.raises(InputError, match="prescription"):
        follow_up(road(prescription_gy=-1.0))
