"""Laboratory tests: their names, the unit that Cantlie works in, and the conversion from other units."""

from __future__ import annotations

from dataclasses import dataclass, field

from cantlie.core.errors import CohortError


@dataclass(frozen=True, slots=True)
class LabTest:
    """One laboratory test.

    Parameters
    ----------
    code, name
        Code in the ``labs`` table and name in reports.
    unit
        Unit that Cantlie works in.
    factors
        Value in ``unit`` of one of each other unit.
    low, high
        Beyond these (in ``unit``) a value is taken for a wrong unit or a typing error.
    default_lln, default_uln
        Limits of normal used, with a note, where a laboratory's own are not given.
    """

    code: str
    name: str
    unit: str
    low: float
    high: float
    factors: dict[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    default_lln: float | None = None
    default_uln: float | None = None


_ENZYME = {"IU/L": 1.0, "ukat/L": 60.0}
_CELLS = {"10^3/uL": 1.0, "G/L": 1.0, "/uL": 1e-3, "cells/mm3": 1e-3, "K/uL": 1.0}
_BILIRUBIN_UMOL_PER_MG_DL = 17.1  # as in the published ALBI grade (models.md section 7); 1000/58.466 = 17.104
_CREATININE_UMOL_PER_MG_DL = 88.4

TESTS: dict[str, LabTest] = {
    test.code: test
    for test in (
        LabTest("ALT", "alanine aminotransferase", "U/L", 1, 20000, _ENZYME, ("GPT", "SGPT", "ALAT"), None, 40),
        LabTest("AST", "aspartate aminotransferase", "U/L", 1, 20000, _ENZYME, ("GOT", "SGOT", "ASAT"), None, 40),
        LabTest("ALP", "alkaline phosphatase", "U/L", 1, 5000, _ENZYME, ("AP",), None, 120),
        LabTest("GGT", "gamma-glutamyl transferase", "U/L", 1, 5000, _ENZYME, ("GAMMA-GT",), None, 60),
        LabTest(
            "BILIRUBIN",
            "total bilirubin",
            "umol/L",
            0.5,
            1200,
            {"mg/dL": _BILIRUBIN_UMOL_PER_MG_DL},
            ("TBIL", "BILI"),
            None,
            20.5,
        ),
        LabTest("ALBUMIN", "albumin", "g/L", 8, 70, {"g/dL": 10.0}, ("ALB",), 35, 55),
        LabTest(
            "CREATININE",
            "creatinine",
            "umol/L",
            10,
            2500,
            {"mg/dL": _CREATININE_UMOL_PER_MG_DL, "mmol/L": 1000.0},
            ("CREA",),
            None,
            104,
        ),
        LabTest("SODIUM", "sodium", "mmol/L", 90, 190, {"mEq/L": 1.0}, ("NA",), 135, 145),
        LabTest("INR", "international normalised ratio", "1", 0.4, 25, {"ratio": 1.0}, (), None, 1.2),
        LabTest("WBC", "leukocytes", "10^9/L", 0, 500, _CELLS, ("LEUKOCYTES",), 4.0, 10.0),
        LabTest("ANC", "neutrophils", "10^9/L", 0, 200, _CELLS, ("NEUTROPHILS",), 2.0, 7.5),
        LabTest("PLATELETS", "platelets", "10^9/L", 0, 3000, _CELLS, ("PLT",), 100, 400),
        LabTest(
            "HAEMOGLOBIN",
            "haemoglobin",
            "g/L",
            15,
            260,
            {"g/dL": 10.0, "mmol/L": 16.114},
            ("HB", "HGB", "HEMOGLOBIN"),
            120,
            175,
        ),
        LabTest("CEA", "carcinoembryonic antigen", "ug/L", 0, 1e6, {"ng/mL": 1.0}, (), None, 5),
        LabTest("AFP", "alpha-fetoprotein", "ug/L", 0, 1e8, {"ng/mL": 1.0, "IU/mL": 1.21}, (), None, 10),
        LabTest("CA199", "carbohydrate antigen 19-9", "kU/L", 0, 1e7, {"U/mL": 1.0}, ("CA19-9",), None, 37),
    )
}


def _squeeze(text: str) -> str:
    folded = text.strip().lower().replace("µ", "u").replace("μ", "u").replace("×", "").replace(" ", "")
    return (
        folded.replace("⁹", "^9")
        .replace("³", "^3")
        .replace("x10", "10")
        .replace("10e9", "10^9")
        .replace("10*9", "10^9")
    )


_BY_NAME = {_squeeze(alias): test for test in TESTS.values() for alias in (test.code, test.name, *test.aliases)}


def lab_test(name: str) -> LabTest | None:
    """Return the test of that code, name or alias, or None."""
    return _BY_NAME.get(_squeeze(name))


def unit_factor(test: LabTest, unit: str) -> float | None:
    """Return the value in ``test.unit`` of one ``unit``, or None when the unit is not one of this test's."""
    squeezed = _squeeze(unit)
    if squeezed == _squeeze(test.unit):
        return 1.0
    return next((factor for known, factor in test.factors.items() if _squeeze(known) == squeezed), None)


def convert_lab(test_name: str, value: float, unit: str) -> float:
    """Convert one laboratory value to the unit that Cantlie works in (``TESTS[code].unit``).

    Raises
    ------
    CohortError
        If the test or the unit is not known.
    """
    test = lab_test(test_name)
    if test is None:
        raise CohortError(
            f"no laboratory test is called {test_name!r}", where="labs", remedy=f"tests: {', '.join(TESTS)}"
        )
    factor = unit_factor(test, unit)
    if factor is None:
        known = ", ".join((test.unit, *test.factors))
        raise CohortError(f"{unit!r} is not a unit of {test.code}", where="labs", remedy=f"units: {known}")
    return value * factor
