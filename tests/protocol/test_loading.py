"""Protocols are read, and wrong ones are refused with the file, the line and the reason."""

import pytest

from cantlie.core.errors import ProtocolError
from cantlie.protocol.loading import list_protocols, load_protocol, protocol_text, read_protocol
from cantlie.protocol.metric import Metric


@pytest.fixture(scope="module")
def text():
    return protocol_text("zhang2021-alternating")


def test_zhang_alternating_holds_the_values_of_the_paper():
    protocol = load_protocol("zhang2021-alternating")
    assert protocol.citation.doi == "10.1177/15330338211051808"
    assert protocol.target_ids == ("PTV1", "PTV2")
    for target in protocol.targets:
        assert target.ptv_margin_mm.lower_upper_mm() == ((3, 3, 5), (3, 3, 5))
        prescription = protocol.prescription(target.id)
        assert (prescription.dose_per_fraction_gy, prescription.fractions, prescription.total_gy) == (2, 15, 30)
        assert prescription.metric == Metric.parse("Dmean")
    assert (protocol.technique.fields_least, protocol.technique.fields_most) == (7, 9)
    assert (protocol.schedule.order, protocol.schedule.interval_h, protocol.schedule.days_per_week) == (
        "alternating",
        6,
        5,
    )
    assert [(c.structure, c.metric, c.op, c.limit) for c in protocol.constraints] == [
        ("Stomach", "Dmax", "<=", 40),
        ("Stomach", "V45Gy[%]", "<=", 15),
        ("SpinalCord", "Dmax", "<=", 40),
        ("Bowel_Small", "V50Gy[%]", "<=", 15),
        ("Kidney_L + Kidney_R", "V20Gy[%]", "<=", 30),
        ("Liver - GTV*", "V30Gy[%]", "<", 50),
    ]
    assert str(protocol.coverage[0].metric) == "V90%[%]"
    assert protocol.coverage[0].isodose_least_percent == 85
    assert "energy_mv" in protocol.technique.choices
    assert "fields_most" not in protocol.technique.choices
    assert protocol.technique.place
    assert len(protocol.sha256) == 64


@pytest.mark.parametrize("name", list_protocols())
def test_built_in_protocols_are_valid_and_every_table_says_where_it_comes_from(name):
    protocol = load_protocol(name)
    assert protocol.id == name
    for path, section in protocol.sections():
        if path == "citation" or path.startswith("reference_limits"):
            continue
        written = section.model_fields_set - {"place", "choices", "id", "label", "target", "scheme"}
        assert section.place or written <= set(section.choices), path
    for limit in protocol.reference_limits:
        assert "doi:" in limit.source


@pytest.mark.parametrize(
    ("old", "new", "line_text", "reason"),
    [
        ("fractions = 15", "fractons = 15", "fractons = 15", "fractons is not known; did you mean 'fractions'"),
        ("fractions = 15", 'fractions = "15"', 'fractions = "15"', "valid integer"),
        ("fractions = 15", "fractions = 15.0", "fractions = 15.0", "valid integer"),
        ("dose_per_fraction_gy = 2.0\n", "", "[[prescriptions]]", "dose_per_fraction_gy is missing"),
        ('metric = "V45Gy[%]"', 'metric = "V45"', 'metric = "V45"', "needs the unit Gy"),
        ("limit = 40.0", "limit = -4.0", "limit = -4.0", "greater than or equal to 0"),
        ("left_right = 3.0", "left_right = -3.0", "left_right = -3.0", "greater than or equal to 0"),
        ("left_right = 3.0", "left = 3.0", "left = 3.0", "right is missing"),
        ("energy_mv = 6.0", "energy_mv = 6.0.1", "energy_mv = 6.0.1", "not valid TOML"),
        ('op = "<="', 'op = "=<"', 'op = "=<"', "should be '<='"),
        ('target = "PTV1"', 'target = "PTV3"', 'target = "PTV3"', "no target 'PTV3'"),
        ("fields = 9", "fields = 12", "fields = 12", "more than fields_most = 9"),
        ('unit = "Gy"', 'unit = "%"', 'unit = "%"', "Dmax is in Gy, but the limit is in %"),
        ('id = "PTV2"', 'id = "PTV1"', 'id = "PTV1"', "two targets have the id"),
        ("[split]", "[splitt]", "[splitt]", "did you mean 'split'"),
        ("volume_percent = 95.0", "volume_percent = 195.0", "volume_percent = 195.0", "less than or equal to 100"),
        ('junction = "overlap" ', 'junction = "gap" ', 'junction = "gap" ', "gap_mm is given"),
        ("interval_h = 6.0", "interval_h = 30.0", "interval_h = 30.0", "below 24 h"),
    ],
)
def test_wrong_protocol_is_refused_with_line_and_reason(text, old, new, line_text, reason):
    wrong = text.replace(old, new, 1)
    assert wrong != text
    with pytest.raises(ProtocolError) as caught:
        read_protocol(wrong, "mine.toml")
    assert reason in caught.value.what
    place, line = caught.value.where.split(", line ")
    assert place == "mine.toml"
    rows = wrong.split("\n")
    expected = {n + 1 for n, row in enumerate(rows) if line_text in row}
    assert int(line) in expected
    assert "\n" not in str(caught.value)


def test_unknown_protocol_names_the_known_ones(tmp_path):
    with pytest.raises(ProtocolError, match="did you mean zhang2021-alternating"):
        load_protocol("zhang2021-alternate")
    binary = tmp_path / "p.toml"
    binary.write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(ProtocolError, match="UTF-8"):
        load_protocol(binary)
    with pytest.raises(ProtocolError, match="folder"):
        load_protocol(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[technique]\n",
            "[technique]\ngantry = [0, 90]\n",
            "technique.gantry is not known; did you mean 'gantry_deg'",
        ),
        ("[technique]\n", "[technique]\nfoo = 1\n", "technique.foo is not known; known here are "),
        ("[technique.choices]\n", '[technique.choices]\nfoo = "x"\n', "'choices' names 'foo'"),
        (
            "[[constraints]]\n",
            "[[constraints]]\nprio = 1\n",
            "constraints[1].prio is not known; did you mean 'priority'",
        ),
        ("[biology]\n", "[biologie]\n", "biologie is not known; did you mean 'biology'"),
    ],
)
def test_an_unknown_key_is_named_with_what_may_be_meant(text, old, new, said):
    with pytest.raises(ProtocolError) as caught:
        read_protocol(text.replace(old, new, 1), "mine.toml")
    assert said in caught.value.what


def test_a_users_copy_is_read_from_its_path(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('id = "zhang2021-alternating"', 'id = "mine"'), encoding="utf-8")
    protocol = load_protocol(path)
    assert (protocol.id, protocol.source) == ("mine", str(path))


def test_empty_and_foreign_files_are_refused():
    for text in ("", "a = 1\n", "[targets]\nid = 1\n", "schema_version = 2\n"):
        with pytest.raises(ProtocolError, match="line"):
            read_protocol(text, "x.toml")


def test_a_wrong_value_in_a_list_of_tables_is_named_itself_not_the_list_that_lost_it():
    text = protocol_text("zhang2021-alternating").replace("fractions = 15", "fractions = 15.5")
    line = next(n for n, one in enumerate(text.splitlines(), start=1) if one == "fractions = 15.5")
    with pytest.raises(ProtocolError) as caught:
        read_protocol(text, "mine.toml")
    assert f"line {line}" in caught.value.where
    assert "fractions" in caught.value.what
