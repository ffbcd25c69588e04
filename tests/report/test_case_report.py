"""The report of a planned case: complete, self-contained, honest about what is missing, without names."""

import importlib.util
import re
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.bands import MetricBand
from cantlie.plan.request import Conflict
from cantlie.report.case_pages import document_of_case, with_colours, write_case_report
from cantlie.report.case_report import CaseReport, StructureView
from cantlie.report.document import Table
from cantlie.report.dvh_figure import on_white
from cantlie.report.html import write_html
from cantlie.report.isodose_figure import isodose_colours
from cantlie.report.registration_pages import shift_text
from cantlie.report.robustness_pages import robustness_section
from cantlie.report.slice_drawing import Entry, merged
from cantlie.report.slices import Slice, take
from cantlie.report.view import view_of
from cantlie.workflow.case_page import parameters_text


def _fixture() -> ModuleType:
    path = Path(__file__).with_name("case_fixture.py")
    specification = importlib.util.spec_from_file_location("case_fixture", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["case_fixture"] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report() -> CaseReport:
    module = _fixture()
    return module.make_report(*module.phantom())


@pytest.fixture(scope="module")
def folder(report: CaseReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report")
    write_case_report(report, target)
    return target


def test_all_files_are_there(folder: Path) -> None:
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert names == {
        "targets",
        "isodose-course",
        "isodose-ptv1",
        "isodose-ptv2",
        "dvh-course",
        "dvh-ptv1",
        "dvh-ptv2",
        "fluence-ptv1",
        "fluence-ptv2",
        "calendar",
    }
    assert names == {path.stem for path in (folder / "figures").glob("*.png")}


def test_html_holds_everything_and_fetches_nothing(folder: Path, report: CaseReport) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]{0,24})', html)
    assert len(sources) == 10
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.findall(r"<(?:script|link|iframe)", html)
    assert all(len(alt) > 10 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', html))
    for word in (
        "Research use only",
        "Stomach",
        "D0.03cc",
        "EQD2 (α/β = 2.5 Gy)",
        "2026-01-05",
        "Methods",
        "IEC 61217",
    ):
        assert word in html
    text = re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]+"', "", html))
    assert " nan" not in text.lower() and " None" not in text


def test_every_constraint_has_its_verdict_in_the_table(report: CaseReport) -> None:
    document = document_of_case(report)
    tables = [b for s in document.sections for b in s.blocks if isinstance(b, Table) and b.caption == "Organs at risk"]
    assert len(tables) == 1
    assert len(tables[0].rows) == len(report.constraints) == 6


def test_a_bare_case_can_be_reported(report: CaseReport, tmp_path: Path) -> None:
    """One plan, no targets view, no calendar, no biology: chapters without content are left out."""
    bare = replace(
        report,
        plans=report.plans[:1],
        targets=None,
        sessions=(),
        biology=(),
        ntcp=(),
        checks=(),
        notes=(),
        coverage=(),
        constraints=(),
        course_indices=(),
        protocol_choices=(),
        citations=(),
        attributions=(),
        provenance=(),
    )
    titles = [section.title for section in document_of_case(bare).sections]
    assert "Course" not in titles and "Biological effect" not in titles and "Rules of the protocol" not in titles
    write_html(document_of_case(bare), tmp_path / "bare.html")
    assert (tmp_path / "bare.html").stat().st_size > 100_000


def test_failed_rules_are_named_at_the_top(report: CaseReport) -> None:
    failed = [r for r in report.constraints if r.verdict == "fail"]
    assert failed, "the invented dose breaks a limit"
    text = str(document_of_case(report).lead)
    assert "Not every rule of the protocol is met" in text
    assert all(r.metric in text for r in failed)


def test_a_broken_rule_is_told_once(report: CaseReport) -> None:
    conflict = Conflict("Heart", "Dmax", "<", 30.0, "Gy", "course", 1, "delivery", 29.0, 30.4)
    other = Note("is not contoured", "Duodenum")
    told = document_of_case(replace(report, conflicts=(conflict,), notes=[conflict.note(), other]))
    assert "was not met beside the other rules" not in str(told)
    assert "is not contoured" in str(told)


def test_slices_follow_radiological_convention() -> None:
    grid = Grid((3, 4, 5), (1.0, 2.0, 3.0), (-2.0, -3.0, -3.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    axial = take(Volume(grid, x + 10 * y), Slice("axial", 0.0))
    assert axial is not None
    # x grows to the patient's left and to the right of the image: the patient's right is on the left.
    np.testing.assert_allclose(axial.values, axial.horizontal_mm[None] + 10 * axial.vertical_mm[:, None])
    assert Slice("axial", 0).letters == ("R", "L", "A", "P") and Slice("axial", 0).downwards
    coronal = take(Volume(grid, x + 10 * z), Slice("coronal", 1.0))
    assert coronal is not None
    np.testing.assert_allclose(coronal.values, coronal.horizontal_mm[None] + 10 * coronal.vertical_mm[:, None])
    assert Slice("coronal", 0).letters == ("R", "L", "S", "I") and not Slice("coronal", 0).downwards
    sagittal = take(Volume(grid, y + 10 * z), Slice("sagittal", 0.5))
    assert sagittal is not None
    np.testing.assert_allclose(sagittal.values, sagittal.horizontal_mm[None] + 10 * sagittal.vertical_mm[:, None])
    assert Slice("sagittal", 0).letters == ("A", "P", "S", "I")
    assert take(Volume(grid, x), Slice("axial", 99.0)) is None
    between = take(Volume(grid, z), Slice("axial", 1.2))
    assert between is not None
    np.testing.assert_allclose(between.values, 1.2)


def test_the_view_is_centred_on_the_targets(report: CaseReport) -> None:
    view = view_of(report.ct, report.structures)
    assert min(abs(report.ct.grid.z_mm - view.point_mm[2])) < 1e-6
    lower, upper = np.array(view.lower_mm), np.array(view.upper_mm)
    assert (lower < view.point_mm).all() and (upper > view.point_mm).all()


def test_a_protocol_without_limits_is_not_said_to_meet_them(report: CaseReport) -> None:
    assert "Organ limits met" in str(document_of_case(report).lead)
    lead = str(document_of_case(replace(report, constraints=())).lead)
    assert "Organ limits met" not in lead and "the protocol sets none" in lead


def test_the_slices_meet_in_the_largest_of_lesions_far_apart() -> None:
    grid = Grid((20, 30, 60), (4.0, 4.0, 4.0), (-118.0, -58.0, 0.0))
    x = grid.points_mm()
    small, large = (
        np.linalg.norm(x - c, axis=-1) < r for c, r in (((-90.0, 0.0, 30.0), 10.0), ((80.0, 10.0, 50.0), 16.0))
    )
    both = [StructureView("PTV", Volume(grid, (small | large).astype(np.float32)), "target")]
    ct = Volume(grid, np.zeros(grid.shape, dtype=np.float32))
    assert np.allclose(view_of(ct, both).point_mm, (80.0, 10.0, 50.0), atol=4.0)
    plans = [StructureView(name, Volume(grid, one.astype(np.float32)), "target") for name, one in
             (("PTV1", x[..., 0] < 0), ("PTV2", x[..., 0] >= 0))]  # fmt: skip
    assert abs(view_of(ct, plans).point_mm[0]) < 4.0


def test_colours_can_be_told_apart_and_read_on_white() -> None:
    grid = Grid((1, 1, 1), (1, 1, 1), (0, 0, 0))
    mask = Volume(grid, np.ones((1, 1, 1), dtype=np.float32))
    views = with_colours([StructureView(f"S{n}", mask) for n in range(12)] + [StructureView("PTV", mask, "target")])
    assert len({view.colour for view in views}) == 13
    assert on_white("#ffffff") != "#ffffff"
    assert on_white("#0072b2") == "#0072b2"
    assert len(set(isodose_colours([50, 70, 80, 90, 95, 100, 107]))) == 7
    assert len(set(isodose_colours([90, 95, 100]))) == 3


def test_no_patient_attribute_has_a_place(report: CaseReport) -> None:
    fields = set(CaseReport.__dataclass_fields__)
    assert not {name for name in fields if "name" in name or "birth" in name or "patient_id" in name}
    assert isinstance(report.created, datetime)


def test_model_parameters_are_written_as_in_a_paper():
    text = parameters_text({"n": 0.97, "td50_gy": 40.7111, "alpha_beta_gy": float("nan"), "alpha_per_gy": 0.3})
    assert text == "n = 0.97, TD50 = 40.7 Gy, α = 0.3/Gy"


def test_outlines_that_look_alike_share_a_line_of_the_legend():
    def labels(*names):
        return [entry.label for entry in merged([Entry(name, "#fff") for name in names])]

    assert labels("GTV_1", "GTV_2", "GTV_3") == ["GTV_1 to GTV_3"]
    assert labels("Liver of the MRI", "Met of the MRI") == ["Liver of the MRI, Met of the MRI"]
    many = [f"{name} of the CT" for name in ("Lung_R", "Lung_L", "Kidney_R", "Kidney_L", "Spleen", "Heart", "Liver")]
    assert labels(*many) == ["Lung_R of the CT, Lung_L of the CT, Kidney_R of the CT and 4 more"]


def test_displacements_name_the_side_of_the_patient():
    assert shift_text((6.31, -3.34, 9.6)) == "6.3 mm left, 3.3 mm anterior, 9.6 mm superior"


def test_limits_in_scenarios_have_their_unit_and_show_how_they_are_missed() -> None:
    band = MetricBand(
        "Liver", "V30Gy[%]", "%", "course", "<", 50.0, 45.4, 50.02, 43.1, "5 mm to left", None, "pass", "fail"
    )
    section = robustness_section([band], [], {}, method="", varied="Displaced.")
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    cells = [cell for row in table.rows if isinstance(row, list) for cell in row]
    assert "< 50 %" in cells and "50.02 %" in cells and "45.4 %" in cells
