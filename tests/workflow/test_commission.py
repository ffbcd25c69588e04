"""Commissioning as a user sees it: a folder of files in, a machine that Cantlie accepts and a report out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cantlie.core.errors import InputError, MachineError
from cantlie.dose.tank import tank_dose, tank_points
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.beam_model_file import beam_model_toml, load_beam_model
from cantlie.machine.machine import load_machine
from cantlie.machine.measured_csv import parse_csv
from cantlie.workflow.commission import (
    CommissionMachine,
    commission_machine,
    machine_toml,
    read_measured_folder,
)

HEADER = "# ssd_mm: 900\n# field_mm: 50\n# energy_mv: 6\n"


def tables(value="1"):
    """A depth dose, a profile and the output factors of one field, their readings still to be filled in."""
    depths = np.concatenate([np.arange(2.0, 30.0, 2.0), np.arange(30.0, 211.0, 10.0)])
    positions = np.arange(-60.0, 60.1, 2.0)
    return {
        "pdd.csv": f"# quantity: depth dose\n{HEADER}depth_mm,dose\n" + "".join(f"{d:g},{value}\n" for d in depths),
        "profile.csv": f"# quantity: profile\n{HEADER}# axis: x\n# depth_mm: 100\nposition_mm,dose\n"
        + "".join(f"{p:g},{value}\n" for p in positions),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Measurements of the typical beam without noise."""
    place = tmp_path_factory.mktemp("measured")
    texts = tables()
    sets = [parse_csv(text, name)[0] for name, text in texts.items()]
    points = tank_points(sets)
    dose = tank_dose(BeamModel.named("generic-6mv"), points)
    for run, (name, text) in zip(points.runs, texts.items(), strict=True):
        lines = text.splitlines()
        values = 100.0 * dose[run] / dose[run].max()
        head = lines[: -values.size]
        rows = [f"{line.split(',')[0]},{value:.4f}" for line, value in zip(lines[-values.size :], values, strict=True)]
        (place / name).write_text("\n".join([*head, *rows]) + "\n")
    (place / "calibration.csv").write_text(
        "# quantity: calibration\n# gy_per_mu: 0.0095\n# ssd_mm: 950\n# depth_mm: 50\n# field_mm: 100\n"
    )
    (place / "notes.txt").write_text("not a measurement")
    return place


def test_a_folder_of_measurements_becomes_a_machine_with_a_report(folder, tmp_path):
    out = tmp_path / "out"
    results = commission_machine(CommissionMachine(folder, out, "LINAC-7", "generic-6mv-160"))
    machine = load_machine(out / "machine.toml")
    assert (machine.id, machine.name, machine.energy_mv) == ("LINAC-7", "LINAC-7", 6.0)
    assert machine.mlc.leaf_boundaries_mm.size == load_machine("generic-6mv-160").mlc.leaf_boundaries_mm.size
    model = BeamModel.model_validate(results["beam_model"])
    assert load_beam_model("beam.toml", out) == model
    assert model.calibration.gy_per_mu == 0.0095
    assert results["failed"] == 0
    assert {row["verdict"] for row in results["judged"]} == {"pass"}
    assert max(abs(row["achieved"]) for row in results["judged"]) < 0.7
    assert json.loads((out / "results.json").read_text())["machine"] == "LINAC-7"
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert set(record["provenance"]["measured_sha256"]) == {"pdd.csv", "profile.csv", "calibration.csv"}
    assert any("no output factors" in warning["message"] for warning in record["warnings"])
    page = (out / "report.html").read_text()
    assert "depth dose 50×50 mm" in page
    assert "MPPG 5.b" in page
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "residuals.csv").read_text().count("\n") > 80
    assert (out / "figures" / "profile-1.svg").exists()


def test_a_run_that_fails_says_so_and_leaves_no_old_machine(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "pdd.csv").write_text(tables()["pdd.csv"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "machine.toml").write_text("of an earlier run")
    with pytest.raises(InputError, match=r"does not cover its maximum .*pdd\.csv, line 1"):
        commission_machine(CommissionMachine(data, out, "X"))
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    assert not (out / "machine.toml").exists()


def test_folders_and_names_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_measured_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no measured data"):
        read_measured_folder(tmp_path)
    with pytest.raises(InputError, match="cannot be the name"):
        commission_machine(CommissionMachine(tmp_path, tmp_path / "out", "no such name!"))
    (tmp_path / "a.mcc").write_bytes(b"BEGIN_SCAN 1\n\xff\xfe")
    with pytest.raises(InputError, match=r"a\.mcc"):
        read_measured_folder(tmp_path)


def test_water_tank_files_of_an_older_day_are_read_as_latin_1(tmp_path):
    rows = "".join(
        f"\t\t\t{z:.2f}\t\t{100 * np.exp(-0.005 * z) * (1.1 - np.exp(-z / 5)):.4E}\n" for z in range(0, 300, 5)
    )
    scan = (
        "BEGIN_SCAN_DATA\n\tBEGIN_SCAN  1\n\t\tMODALITY=X\n\t\tENERGY=6.00\n\t\tSSD=900.00\n\t\tFIELD_INPLANE=100.00\n"
        "\t\tFIELD_CROSSPLANE=100.00\n\t\tWEDGE_ANGLE=0.00\n\t\tCOMMENT=Prüfung, 20 °C\n\t\tSCAN_CURVETYPE=PDD\n"
        f"\t\tBEGIN_DATA\n{rows}\t\tEND_DATA\n\tEND_SCAN  1\nEND_SCAN_DATA\n"
    )
    found = []
    for encoding in ("latin-1", "utf-8"):
        (tmp_path / "pdd.mcc").write_bytes(scan.replace("\n", "\r\n").encode(encoding))
        beam, _ = read_measured_folder(tmp_path)
        (curve,) = beam.curves
        found.append(curve.value)
    assert found[0].size == 60
    np.testing.assert_array_equal(*found)
    (tmp_path / "pdd.mcc").write_bytes(b"\x89PNG\x00\xff")
    with pytest.raises(InputError, match="not a UTF-8 text"):
        read_measured_folder(tmp_path)


def test_the_machine_keeps_everything_of_its_base_but_name_energy_and_beam(tmp_path):
    text = machine_toml("generic-6mv-mlci", "MINE", 6.0, "beam.toml")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    (tmp_path / "beam.toml").write_text(beam_model_toml(BeamModel.named("generic-6mv")))
    mine, base = load_machine(path), load_machine("generic-6mv-mlci")
    for name in ("sad_mm", "jaw_x", "jaw_y", "min_segment_mu", "arcs", "couch_range_deg"):
        assert getattr(mine, name) == getattr(base, name)
    assert base.other_energies and not mine.other_energies  # those are generic beams, not this linac's
    again = machine_toml(str(path), "AGAIN", 6.0, "other.toml")
    assert 'id = "AGAIN"' in again
    assert 'beam_model = "other.toml"' in again


def test_a_machine_that_is_like_another_can_be_the_base_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(machine_toml("generic-15mv-120", "MINE", 18.0, "generic-15mv"))
    mine = load_machine(path)
    assert (mine.id, mine.energy_mv, mine.other_energies) == ("MINE", 18.0, ())
    assert mine.mlc is not None and mine.mlc.leaf_boundaries_mm.size == 61


def test_beam_models_come_back_from_their_files_as_they_were(tmp_path):
    model = BeamModel.named("generic-6mv").model_copy(update={"name": 'a "quoted" name', "focal_spot_sigma_mm": 0.1})
    path = tmp_path / "beam.toml"
    path.write_text(beam_model_toml(model, "a remark\nof two lines"))
    assert load_beam_model(str(path)) == model
    assert load_beam_model("generic-6mv") == BeamModel.named("generic-6mv")
    path.write_text("name = ")
    with pytest.raises(MachineError, match="not readable as TOML"):
        load_beam_model(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        load_beam_model("absent.toml", tmp_path)
