"""The audits of the three other papers: what a reader of their text found must come out, and nothing else.

Each finding below was looked up in the paper; `QUOTES` are the words that show it, and a test finds them in the text
where the project's folder of papers is at hand.
"""

import re

import pytest

from cantlie.study.audit.audit import audit

FINDINGS = {
    "liu2022": (
        ("p-value", "Location"),
        ("percent", "≥ 3 cm, < 5 cm, HCC"),
        ("percent", "≥ 5 cm, Liver metastasis"),
        ("percent", "Out-field only, Liver metastasis"),
        ("percent", "single lesion"),
        ("logic", "PFS against OS"),
        ("vacuous-constraint", "duodenum V55Gy"),
        ("plausibility", "CTCAE"),
        ("text-vs-text", "period of treatment"),
        ("text-vs-text", "diagnosis was confirmed"),
        ("label", "failure patterns"),
        ("label", "acute adverse events"),
        ("label", "late adverse events"),
        ("label", "ribs"),
        ("text-vs-table", "late liver toxicity of grade 3"),
        ("text-vs-table", "late liver toxicity of grade 4"),
        ("statement", "2-year survival called more than 80%"),
        ("reporting", "response of the tumours"),
    ),
    "pei2019": (
        ("hazard-ratio", "earlier chemotherapy"),
        ("interval", "OS (all) at 12 months"),
        ("logic", "median LC (all) against its rates"),
        ("logic", "LC with death as event against OS"),
        ("geometry", "smallest volume against smallest diameter"),
        ("text-vs-table", "earlier regimens"),
        ("text-vs-table", "with active (uncontrolled) extrahepatic disease"),
        ("text-vs-table", "without active (with controlled) extrahepatic disease"),
        ("text-vs-text", "follow-up, median and range"),
        ("text-vs-text", "overall survival at 1 and 2 years"),
        ("label", "grade 4 blood toxicity"),
        ("text-vs-table", "gastrointestinal toxicity"),
    ),
    "li2024": (
        ("method", "tests of the matched groups"),
        ("balance", "standardised differences"),
        ("hazard-ratio", "radiotherapy as the text prints it"),
        ("interval", "10-year recurrence (%): estimate in its interval"),
        ("interval", "10-year recurrence (%): p from the interval"),
        ("interval", "median OS (RT before)"),
        ("plausibility", "lapatinib"),
        ("plausibility", "palbociclib"),
        ("text-vs-table", "age that divides the groups"),
        ("text-vs-table", "univariable hazard ratio of radiotherapy"),
        ("text-vs-table", "independent factors of survival"),
        ("statement", "liver metastasis called a predictive factor"),
    ),
}
QUOTES = {
    "liu2022": (
        r"2-year survival\s+rate of more than 80%",
        r"from 2011 to 2019",
        r"July 2011 to December 2020",
        r"CTCAE 4\.3",
        r"rates were 59\.6 and 44\.2%",
        r"Grade 3 and 4 liver function toxicity occurred in two \(5\.6%\) and one \(2\.8%\)",
    ),
    "pei2019": (
        r"4\.51, 95% CI, 1\.10–18\.47, P = 0\.007",
        r"1-year and 2-year OS rates were 46\.4% \(95% CI, 5\.7%–48\.1%\)",
        r"at I and 2 years were 46\.4% and 27\.4%",
        r"range, 2\.1–48\.8 months",
        r"followed up for 49\.8 months",
        r"One case of grade 4 leukopenia",
        r"One patient with grade 4 leukemia",
        r"we did not observe gastrointestinal toxicity",
    ),
    "li2024": (
        r"HR 0\.361, 95% CI 0\.361–0\.650",
        r"1\.93% \(95% CI 0\.018–3\.87; p=0\.074\)",
        r"51\.7 \(48\.8-63\.8\)",
        r"Lapatinib is taken orally at 400 mg once daily",
    ),
}


@pytest.mark.parametrize("paper", FINDINGS)
def test_every_known_fault_is_found_and_nothing_else_is_flagged(paper):
    flagged = [finding for finding in audit(paper).findings if finding.verdict == "inconsistent"]
    left = list(flagged)
    for check, words in FINDINGS[paper]:
        fitting = [finding for finding in left if finding.check == check and words in finding.item]
        assert len(fitting) == 1, f"{check}: {words}"
        left.remove(fitting[0])
    assert [f"{finding.check}: {finding.item}" for finding in left] == []


@pytest.mark.parametrize("paper", QUOTES)
def test_the_faults_stand_in_the_paper__against_its_text(paper, oracles):
    file = oracles.parent / "papers" / f"{paper}.txt"
    if not file.is_file():
        pytest.skip("the text of the papers is not at hand")
    text = file.read_text(encoding="utf-8")
    for quote in QUOTES[paper]:
        assert re.search(quote, text), quote
