from __future__ import annotations

from datetime import timedelta
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from cantlie.core.errors import MachineError
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model_file import beam_of, load_beam_model
from cantlie.machine.machine import list_machines, load_machine, machine_at_energy, parse_machine
from cantlie.machine.mlc import pairs_in_jaws

MLCI = (resources.files("cantlie.machine") / "data" / "generic-6mv-mlci.toml").read_text()


@pytest.mark.parametrize("machine_id", list_machines())
def test_every_built_in_machine_can_be_loaded(machine_id: str) -> None:
    machine = load_machine(machine_id)
    assert machine.id == machine_id
    assert max(machine.max_field_mm) <= 400
    assert machine.sources


def test_leaf_pairs_of_the_built_in_machines() -> None:
    widths = {}
    for machine_id in list_machines():
        machine = load_machine(machine_id)
        mlc = machine.mlc
        widths[machine_id] = None if mlc is None else tuple(np.unique(mlc.leaf_widths_mm, return_counts=True)[1])
        if mlc is not None:
            np.testing.assert_allclose(mlc.leaf_boundaries_mm, -mlc.leaf_boundaries_mm[::-1])
            assert np.ptp(mlc.leaf_boundaries_mm) == (350 if machine.cobalt else 400)
    linacs = {f"generic-{energy}mv-": energy for energy in (6, 8, 10, 15)}
    assert widths == {
        **{f"{name}mlci": (40,) for name in linacs},
        **{f"{name}120": (40, 20) for name in linacs},
        **{f"{name}160": (80,) for name in linacs},
        "generic-co60": None,
        "generic-co60-mlc": (35,),
        "reference-6mv-point": None,
    }


@pytest.mark.parametrize("collimator", ["mlci", "120", "160"])
def test_a_linac_is_the_same_at_its_other_energies(collimator: str) -> None:
    six = load_machine(f"generic-6mv-{collimator}")
    for energy in (6.0, 8.0, 10.0, 15.0):
        other = machine_at_energy(six, energy)
        assert other is not None
        assert (other.id, other.energy_mv) == (f"generic-{energy:.0f}mv-{collimator}", energy)
        assert other.mlc is not None and six.mlc is not None
        np.testing.assert_array_equal(other.mlc.leaf_boundaries_mm, six.mlc.leaf_boundaries_mm)
        assert (other.name, other.jaw_x, other.max_dose_rate_mu_min) == (six.name, six.jaw_x, six.max_dose_rate_mu_min)
        back = machine_at_energy(other, 6.0)
        assert back is not None and back.id == six.id
    assert machine_at_energy(six, 18.0) is None
    assert machine_at_energy(load_machine("generic-co60"), 6.0) is None


def test_a_file_may_be_like_a_built_in_machine_and_name_energies_of_its_own(tmp_path: Path) -> None:
    low, high = tmp_path / "low.toml", tmp_path / "high.toml"
    low.write_text('like = "generic-6mv-120"\nid = "low"\nother_energies = ["high.toml"]\n[mlc]\ntransmission = 0.02\n')
    high.write_text(MLCI.replace("energy_mv = 6.0", "energy_mv = 10.0"))
    machine = load_machine(low)
    assert machine.mlc is not None
    assert (machine.id, machine.energy_mv, machine.mlc.transmission, machine.mlc.axis) == ("low", 6.0, 0.02, "X")
    other = machine_at_energy(machine, 10.0)
    assert other is not None and other.energy_mv == 10.0
    low.write_text('like = "generic-8mv-120"\n')
    with pytest.raises(MachineError, match="itself like another"):
        load_machine(low)
    low.write_text('like = "linac"\n')
    with pytest.raises(MachineError, match=r"like names no built-in machine") as caught:
        load_machine(low)
    assert caught.value.where == f"{low}, line 1"


def test_a_cobalt_source_decays() -> None:
    machine = load_machine("generic-co60")
    assert machine.cobalt is not None
    assert (machine.dosimeter_unit, machine.meterset_unit) == ("MINUTE", "min")
    first = machine.cobalt.reference_date
    rate = beam_of(machine).calibration.gy_per_mu
    assert rate == load_beam_model("generic-co60").calibration.gy_per_mu
    later = machine.on(first + timedelta(days=1925.2))
    assert beam_of(later).calibration.gy_per_mu == pytest.approx(rate / 2, rel=1e-3)
    month = machine.on(first + timedelta(days=30))
    assert beam_of(month).calibration.gy_per_mu == pytest.approx(0.9893 * rate, rel=2e-4)  # about 1.1 % in a month
    assert len({machine.sha256, later.sha256, month.sha256}) == 3
    linac = load_machine("generic-6mv-mlci")
    assert linac.on(first) is linac and linac.dosimeter_unit == "MU"


def open_field(half_mm: float = 50.0) -> Aperture:
    return Aperture((-half_mm, half_mm), (-half_mm, half_mm), np.full(40, -half_mm), np.full(40, half_mm))


def change(aperture: Aperture, pair: int, lower_mm: float, upper_mm: float) -> Aperture:
    assert aperture.leaf_lower_mm is not None and aperture.leaf_upper_mm is not None
    lower, upper = aperture.leaf_lower_mm.copy(), aperture.leaf_upper_mm.copy()
    lower[pair], upper[pair] = lower_mm, upper_mm
    return Aperture(aperture.jaw_x_mm, aperture.jaw_y_mm, lower, upper)


def test_an_open_field_breaks_no_rule() -> None:
    load_machine("generic-6mv-mlci").check(open_field())


@pytest.mark.parametrize(
    ("lower", "upper", "clause"),
    [
        (-201, 0, "lower tip retracted"),
        (0, 201, "upper tip retracted"),
        (126, 140, "lower tip further across"),
        (-140, -126, "upper tip further across"),
        (0, 9, "opposed tips closer"),
        (45, 60, "opposed tip of its neighbour"),
        (-60, -45, "opposed tip of its neighbour"),
    ],
)
def test_each_broken_leaf_rule_is_named(lower: float, upper: float, clause: str) -> None:
    rules = load_machine("generic-6mv-mlci").broken_rules(change(open_field(), 20, lower, upper))
    assert any(clause in rule and "leaf pair 2" in rule for rule in rules)


def test_interdigitation_is_allowed_where_the_machine_allows_it() -> None:
    lower, upper = np.full(80, -50.0), np.full(80, 50.0)
    lower[40], upper[40] = 60.0, 70.0
    aperture = Aperture((-50, 70), (-50, 50), lower, upper)
    assert load_machine("generic-6mv-160").broken_rules(aperture) == []


def test_spread_within_a_bank_is_limited() -> None:
    lower, upper = np.full(60, -100.0), np.full(60, 100.0)
    lower[30] = 60.0
    rules = load_machine("generic-6mv-120").broken_rules(Aperture((-100, 100), (-50, 50), lower, upper))
    assert rules == ["lower bank spreads over 160.0 mm, more than 150 mm"]


def test_jaw_limits() -> None:
    machine = load_machine("generic-6mv-mlci")
    assert machine.broken_rules(Aperture((-210, 0), (0, 20)))[0].startswith("X jaw opens beyond")
    assert machine.broken_rules(Aperture((0, 20), (130, 150)))[0].startswith("Y jaw crosses")
    assert machine.broken_rules(Aperture((0, 5), (0, 20)))[0].startswith("X jaws stand closer")


def test_error_names_the_rule_and_the_place() -> None:
    with pytest.raises(MachineError, match=r"cannot form.*beam 3, segment 2"):
        load_machine("generic-6mv-mlci").check(change(open_field(), 3, 0, 5), where="beam 3, segment 2")


def test_pairs_in_jaws() -> None:
    mlc = load_machine("generic-6mv-mlci").mlc
    assert mlc is not None
    assert pairs_in_jaws(mlc, Aperture((-50, 50), (-20, 30))) == slice(18, 23)
    assert pairs_in_jaws(mlc, Aperture((-50, 50), (-25, 25))) == slice(17, 23)


@pytest.mark.parametrize(
    ("old", "new", "line_with", "reason"),
    [
        ("sad_mm = 1000.0", 'sad_mm = "far"', "sad_mm", "must be a number"),
        ("sad_mm = 1000.0", "sad_mm = nan", "sad_mm", "must be a number"),
        ("arcs = true", "arcs = 1", "arcs", "must be true or false"),
        ('axis = "X"', 'axis = "Z"', "axis", "must be 'X' or 'Y'"),
        ("[[40, 10.0]]", "[[40, -1]]", "leaf_widths", "no possible width"),
        ("arcs = true", "arcs = true\nwings = 2", "wings", "is not a value of a machine"),
        ("[jaw_x]", "[cobalt]\nreference_date = 2026\n[jaw_x]", "reference_date", "must be a date"),
        ("couch_range_deg = [-90.0, 90.0]", "couch_range_deg = [90, -90]", "couch_range", "in order"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(old: str, new: str, line_with: str, reason: str) -> None:
    assert old in MLCI
    text = MLCI.replace(old, new, 1)
    line = next(n for n, content in enumerate(text.splitlines(), 1) if content.startswith(line_with))
    with pytest.raises(MachineError, match=reason) as caught:
        parse_machine(text.encode(), "mine.toml")
    assert caught.value.where == f"mine.toml, line {line}"


def test_a_missing_value_and_broken_toml_are_refused() -> None:
    with pytest.raises(MachineError, match=r"mlc\.min_gap_mm is missing"):
        parse_machine(
            "\n".join(s for s in MLCI.splitlines() if not s.startswith("min_gap_mm"))
            .replace("[jaw_x]", "[jaw_x]\nmin_gap_mm = 1")
            .replace("[jaw_y]", "[jaw_y]\nmin_gap_mm = 1")
            .encode(),
            "m",
        )
    with pytest.raises(MachineError, match="not readable as TOML"):
        parse_machine(b"id = ", "m")
    with pytest.raises(MachineError, match="no machine is called 'linac'"):
        load_machine("linac")


def test_a_users_file_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MLCI.replace("generic-6mv-mlci", "mine"))
    machine = load_machine(path)
    assert machine.id == "mine"
    assert machine.sha256 != load_machine("generic-6mv-mlci").sha256
    with pytest.raises(MachineError, match="cannot be read"):
        load_machine(tmp_path / "other.toml")
