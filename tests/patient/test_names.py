"""Structure names: spellings in use to TG-263."""

import numpy as np
import pytest

from cantlie.core.errors import StructureError
from cantlie.patient.names import AliasError, aliases_from_toml, built_in_aliases, standard_name
from cantlie.patient.structures import Structure, StructureSet, with_standard_names


@pytest.mark.parametrize(
    ("spellings", "standard"),
    [
        ("liver LIVER Liver 肝脏 whole_liver ＬＩＶＥＲ", "Liver"),
        ("Liver-GTV Liver_minus_GTV NormalLiver", "Liver-GTV"),
        ("spinalcord Spinal_Cord cord CORD 脊髓", "SpinalCord"),
        ("SpinalCanal spinal-canal", "SpinalCanal"),
        ("kidney_l Lt.Kidney KidneyLeft left_kidney L_KIDNEY 左肾", "Kidney_L"),
        ("kidney_r rt_kidney Kidney(R)", "Kidney_R"),
        ("stomach STOMACH 胃", "Stomach"),
        ("duodenum Duodenum 十二指肠", "Duodenum"),
        ("SmallBowel Bowel_Small small-bowel", "Bowel_Small"),
        ("BowelBag Bag_Bowel bowel", "Bag_Bowel"),
        ("body BODY external External skin_contour", "BODY"),
        ("gallbladder Gall_Bladder GB", "Gallbladder"),
        ("IVC VenaCava_Inf V_Venacava_I", "V_Venacava_I"),
        ("Liver_S4 liver_segment_4 SegIV segment_04", "Liver_S4"),
        ("Liver_S4a SegIVa", "Liver_S4a"),
        ("GTV_1 GTV1 gtv-01 GTV(1)", "GTV_1"),
        ("GTV_119 GTV119", "GTV_119"),
        ("Oesophagus esophagus", "Esophagus"),
    ],
)
def test_spellings(spellings, standard):
    assert {standard_name(name) for name in spellings.split()} == {standard}


@pytest.mark.parametrize("name", ["", "GTV_virtual", "ring1", "Dose 50%", "S1", "liverish", "GTVold"])
def test_unknown_names_stay_unknown(name):
    assert standard_name(name) is None


def test_every_key_is_its_own_standard_name():
    table = built_in_aliases()
    assert all(table(standard) == standard for standard in set(table.exact.values()))


def test_user_table_goes_first():
    mine = aliases_from_toml(
        '[names]\nStomach = ["Magen"]\nMyLiver = ["liver"]\n[numbered]\n"GTV_{n}" = ["Herd {n}"]\n'
    )
    table = mine.before(built_in_aliases())
    assert [table(n) for n in ("MAGEN", "Liver", "Herd 12", "Cord")] == ["Stomach", "MyLiver", "GTV_12", "SpinalCord"]
    assert aliases_from_toml('Stomach = ["Magen"]')("magen") == "Stomach"


@pytest.mark.parametrize(
    "text", ["[names\n", "[names]\nLiver = 3\n", "[colours]\nLiver=['x']\n[names]\n", "[numbered]\nA=['b']\n"]
)
def test_wrong_alias_file_is_one_sentence(text):
    with pytest.raises(AliasError, match=r"\(my\.toml\)") as caught:
        aliases_from_toml(text, "my.toml")
    assert caught.value.remedy


def make(name, dicom_type="", empty=False):
    contours = () if empty else (np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]),)
    return Structure(name, contours, dicom_type=dicom_type)


def test_rivals_for_a_name_are_told():
    named, notes = with_standard_names([make("cord"), make("SpinalCord"), make("liver")])
    assert [s.key for s in named] == ["cord", "SpinalCord", "Liver"]
    assert len(notes) == 1 and "'cord'" in notes[0].message


def test_external_is_body_whatever_its_name():
    named, _ = with_standard_names([make("Hülle", "EXTERNAL"), make("Liver", "ORGAN")])
    assert named[0].key == "BODY"
    named, _ = with_standard_names([make("BODY"), make("external", "EXTERNAL")])
    assert StructureSet(named)["BODY"].name == "external"


def test_an_empty_structure_does_not_take_the_name():
    named, _ = with_standard_names([make("Liver", empty=True), make("LIVER")])
    assert [s.standard_name for s in named] == [None, "Liver"]


def test_structure_set_finds_by_any_spelling_and_says_what_is_missing():
    named, _ = with_standard_names([make("lt kidney"), make("VenaCava_Inf"), make("odd one")])
    found = StructureSet(named)
    assert found["Kidney_L"].name == found["lt kidney"].name == "lt kidney"
    assert found["IVC"].key == "V_Venacava_I" and "VenaCava_Inf" in found and "odd one" in found
    with pytest.raises(
        StructureError, match=r"no structure is called 'Liver'.*present: Kidney_L, V_Venacava_I, odd one"
    ):
        found["Liver"]
