"""The report of a comparison: the same slices, signed differences, rules side by side, honest about failures."""

import importlib.util
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.notes import Note
from cantlie.core.volume import Volume
from cantlie.evaluation.dvh import dvh
from cantlie.report.case_report import StructureView
from cantlie.report.comparison_figures import Panel, dose_levels, overlay_figure, slices_figure
from cantlie.report.comparison_pages import document_of_comparison, write_comparison_report
from cantlie.report.comparison_report import (
    ArmView,
    BandedDvh,
    BiologicalPanel,
    ComparisonReport,
    DeliveryLine,
    DifferenceLine,
    FailedLine,
    HalfLine,
    ProbabilityLine,
    RepairLine,
    RuleCell,
    RuleLine,
    SessionMark,
    TargetLine,
)
from cantlie.report.document import Figure, Heading, Paragraph, Table, text_of
from cantlie.report.view import view_of


def _fixture():
    path = Path(__file__).with_name("case_fixture.py")
    specification = importlib.util.spec_from_file_location("case_fixture", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["case_fixture"] = module
    specification.loader.exec_module(module)
    return module


FIXTURE = _fixture()
CT, MASKS = FIXTURE.phantom()


def arm(name: str, target: str, total_gy: float, fractions: int) -> ArmView:
    dose = FIXTURE.invented_dose(CT, MASKS[target], total_gy)
    start = datetime(2026, 1, 5, 9)
    return ArmView(
        id=name,
        title=name.upper(),
        summary="Invented.",
        technique="step-and-shoot, 9 fields, 6 MV",
        plans_from="",
        dose=dose,
        outlines=[StructureView("PTV", Volume(CT.grid, MASKS[target]), "target")],
        dvhs={n: dvh(dose, MASKS[n], CT.grid, name=n) for n in ("Liver", "Stomach", "GTV_1")},
        targets=[TargetLine("PTV", "all", 10.0, 20.0, "5 mm", f"PTV: {fractions} × {total_gy / fractions:g} Gy")],
        delivery=[DeliveryLine("PTV", fractions, 9, 80, 500.0, 11.0)],
        sessions=[SessionMark(n, 0, "PTV") for n in range(fractions)],
        treatment_days=fractions,
        calendar_days=fractions,
        shortest_interval_h=24.0,
        first_session=start,
        last_session=start,
        rules_met=2,
        rules_broken=1,
        rules_open=0,
        course_mu=500.0 * fractions,
        course_minutes=11.0 * fractions,
    )


@pytest.fixture(scope="module")
def report() -> ComparisonReport:
    arms = [arm("whole", "Liver", 30.0, 15), arm("lesion", "GTV_1", 48.0, 3)]
    banded = {a.id: BandedDvh(a.dvhs["Liver"], a.dvhs["Liver"], a.dvhs["Liver"]) for a in arms}
    organs = [StructureView(n, Volume(CT.grid, MASKS[n]), "organ") for n in ("Liver", "Stomach")]
    organs += [StructureView("GTV_1", Volume(CT.grid, MASKS["GTV_1"]), "gtv")]
    organs += [StructureView("BODY", Volume(CT.grid, MASKS["BODY"]), "body")]
    lines = [
        ProbabilityLine(a.id, "RILD", "liver disease", value, value / 2, min(1, 2 * value), good, "" if good else "far",
                        "α/β", "doi:10.1000/1")
        for a, value, good in zip(arms, (0.04, 0.002), (True, False), strict=True)
    ]  # fmt: skip
    cells = {"whole": RuleCell(39.0, "pass", True), "lesion": RuleCell(12.0)}
    return ComparisonReport(
        title="Comparison of protocols",
        case_label="phantom",
        created=datetime(2026, 1, 2, 9, 30, tzinfo=UTC),
        version="0.1.0",
        ct=CT,
        organs=organs,
        arms=arms,
        structures=["Liver", "Stomach", "GTV_1"],
        failed=[FailedLine("arcs", "Arcs", "arcs cannot be planned yet.")],
        differences=[
            DifferenceLine("Liver", "mean", "whole", "lesion", "beyond tolerance", "Mean: 30.0 Gy against 8.0 Gy.")
        ],
        panels=[BiologicalPanel("Liver", 2.5, banded, banded)],
        rules=[RuleLine("Stomach", "Dmax", "≤ 40 Gy", "Gy", "course", cells)],
        complications=lines,
        halves=[HalfLine("whole", 70.0, 60.0, 72.0, [("CTV1", 29.7, 4.5, 15.0)])],
        repairs=[RepairLine("full repair", {"whole": 60.0}, {"whole": 110.0}, {"whole": 0.04}, {})],
        notes=[Note("watch out", "whole")],
        provenance=[("Cantlie", "0.1.0")],
        citations=["doi:10.1000/1"],
    )


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("comparison")
    write_comparison_report(report, target, png_dpi=50)
    return target


def figures(document) -> dict[str, Figure]:
    return {figure.name: figure for figure in document.figures()}


def texts(document) -> str:
    parts = []
    for blocks in (document.lead, *(section.blocks for section in document.sections)):
        for block in blocks:
            if isinstance(block, Paragraph):
                parts.append(block.text)
            if isinstance(block, Table):
                parts += [row.text if isinstance(row, Heading) else " ".join(map(str, row)) for row in block.rows]
    return "\n".join(parts)


def test_all_files_are_there(folder):
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert names == {"dose-maps", "dvh-physical", "dvh-eqd2", "dvh-bed", "probabilities", "timeline"}
    html = (folder / "report.html").read_text()
    for text in ("Research use only", "arcs cannot be planned yet", "Mean: 30.0 Gy against 8.0 Gy", "watch out"):
        assert text in html
    assert 'src="http' not in html


def test_two_doses_and_their_difference_share_one_picture(report):
    assert "difference" in figures(document_of_comparison(report))["dose-maps"].caption
    third = replace(report, arms=[*report.arms, replace(report.arms[1], id="third")])
    names = figures(document_of_comparison(third))
    assert "whole − lesion, whole − third" in names["dose-differences"].alt
    fifth = replace(third, arms=[*third.arms, replace(report.arms[1], id="fourth"), replace(report.arms[1], id="last")])
    assert "dose-maps3" in figures(document_of_comparison(fifth))


def test_equal_doses_need_no_difference_map_but_a_sentence(report):
    same = replace(report, arms=[report.arms[0], replace(report.arms[0], id="lesion")])
    document = document_of_comparison(same)
    assert "the same in every voxel" in texts(document)
    assert "difference" not in figures(document)["dose-maps"].caption
    assert "the same in every voxel" not in texts(document_of_comparison(report))


def test_difference_maps_show_the_first_minus_the_other(report):
    one, other = report.arms
    panel = Panel("d", Volume(one.dose.grid, one.dose.values - other.dose.resample(one.dose.grid).values), [], True)
    view = view_of(CT, report.organs)
    figure = slices_figure(CT, [panel], report.organs, view, window_hu=(40.0, 400.0))
    image = next(i for i in figure.axes[0].images if i.cmap.name == "RdBu_r")
    assert image.norm.vmin == -image.norm.vmax
    liver = image.get_array()[image.get_array() != 0]
    assert float(liver.mean()) > 0


def test_dose_scale_is_round_and_below_the_maximum():
    for top in (0.4, 7.0, 31.0, 66.0, 104.0, 400.0):
        levels = dose_levels(top)
        assert 1 <= len(levels) <= 9
        assert levels == sorted(levels)
        assert levels[-1] <= top


def test_a_verdict_stands_only_under_its_own_protocol(report):
    table = next(
        b for s in document_of_comparison(report).sections if s.title == "Rules side by side" for b in s.blocks
    )
    row = next(row for row in table.rows if not isinstance(row, Heading))
    assert [(cell.tone, text_of(cell.value)) for cell in row[3:]] == [("pass", "39.00 Gy"), ("muted", "12.00 Gy")]


def test_lines_of_all_arms_are_in_every_diagram(report):
    panels = [("Liver", {a.id: BandedDvh(a.dvhs["Liver"]) for a in report.arms})]
    figure = overlay_figure(panels, [a.id for a in report.arms], "Dose [Gy]")
    drawn = figure.axes[0].lines
    assert len(drawn) == 2
    for line, shown in zip(drawn, report.arms, strict=True):
        dose, volume = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert volume == pytest.approx(shown.dvhs["Liver"].volume_at_dose_percent(dose))


def test_probabilities_outside_a_model_are_marked(report):
    assert "outside the model" in texts(document_of_comparison(report))


def test_pictures_and_pages_are_the_same_for_the_same_report(report):
    one, other = (figures(document_of_comparison(report))["timeline"].encoded() for _ in range(2))
    assert one == other
