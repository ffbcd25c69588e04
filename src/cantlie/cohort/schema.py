"""The tidy tables of a cohort: which tables there are, their columns, units, codes and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["id", "text", "code", "number", "integer", "date", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name, description
        Name with its unit, and what it holds.
    kind
        ``id`` and ``text`` are strings, ``code`` one of ``codes``, ``number`` and ``integer`` lie between ``low`` and
        ``high``, ``date`` is an ISO date (2019-04-30), ``flag`` is yes or no.
    required
        The column must be there and filled in every row.
    """

    name: str
    kind: Kind
    description: str
    required: bool = False
    codes: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One tidy table; ``key`` names the columns that together may occur once only."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


EVENT_KINDS = (
    "death",
    "local_progression",
    "new_liver_lesion",
    "extrahepatic_progression",
    "progression",
    "last_follow_up",
    "last_imaging",
    "lost_to_follow_up",
    "withdrawal",
    "metastatic_treatment_start",
)
"""What can happen to a patient; ``progression`` is one whose place is not known."""

PROGRESSION_KINDS = ("local_progression", "new_liver_lesion", "extrahepatic_progression", "progression")
DEATH_CAUSES = (
    "tumour",
    "liver_failure",
    "treatment",
    "other_cancer",
    "infection",
    "bleeding",
    "cardiovascular",
    "other",
)
"""Classes of the cause of death; ``tumour`` is the disease under study, ``liver_failure`` without its growth."""
YES_NO = ("yes", "no")
EXTRA_PREFIX = "x_"
"""Columns of a user's own begin with this; they are kept and taken as numbers where all their values are numbers."""

_PATIENT = Column("patient_id", "id", "pseudonym of the patient, never a name or a hospital number", required=True)
_LESION = Column("lesion_id", "id", "lesion within the patient")
_DATE = Column("date", "date", "date", required=True)

PATIENTS = Table(
    "patients",
    "One row for each patient: who was enrolled, and the state before treatment.",
    (
        _PATIENT,
        Column("arm", "text", "treatment arm or comparison group"),
        Column("centre", "text", "treating centre"),
        Column("sex", "code", "sex", codes=("female", "male")),
        Column("age_years", "number", "age at the start of treatment", low=0, high=120),
        Column("enrolled", "date", "enrolment or randomisation"),
        Column("treatment_start", "date", "first day of the treatment under study"),
        Column("primary_diagnosed", "date", "diagnosis of the primary tumour"),
        Column("metastasis_diagnosed", "date", "diagnosis of the (liver) metastases"),
        Column("primary_site", "text", "site of the primary tumour"),
        Column("histology", "text", "histological type"),
        Column("t_stage", "code", "AJCC T", codes=("TX", "T0", "Tis", "T1", "T2", "T3", "T4")),
        Column("n_stage", "code", "AJCC N", codes=("NX", "N0", "N1", "N2", "N3")),
        Column("m_stage", "code", "AJCC M", codes=("M0", "M1")),
        Column("ajcc_edition", "integer", "edition of the AJCC staging manual", low=5, high=9),
        Column("her2_ihc", "code", "HER2 immunohistochemistry", codes=("0", "1+", "2+", "3+")),
        Column("her2_amplified", "code", "HER2 in-situ hybridisation amplified", codes=YES_NO),
        Column("hormone_receptor", "code", "oestrogen or progesterone receptor", codes=("negative", "positive")),
        Column("ki67_percent", "number", "Ki-67 labelling index", low=0, high=100),
        Column("ecog", "integer", "ECOG (= WHO) performance status", low=0, high=5),
        Column("kps", "integer", "Karnofsky performance status", low=0, high=100),
        Column("child_pugh_score", "integer", "Child-Pugh points", low=5, high=15),
        Column("child_pugh_class", "code", "Child-Pugh class", codes=("A", "B", "C")),
        Column("ascites", "code", "ascites", codes=("none", "mild", "moderate")),
        Column("encephalopathy_grade", "integer", "hepatic encephalopathy", low=0, high=4),
        Column("hepatitis_b", "code", "hepatitis B", codes=YES_NO),
        Column("cirrhosis", "code", "cirrhosis", codes=YES_NO),
        Column("liver_volume_cc", "number", "volume of the liver", low=100, high=8000),
        Column("uninvolved_liver_cc", "number", "liver less gross tumour", low=50, high=8000),
        Column("extrahepatic_disease", "code", "active disease outside the liver", codes=YES_NO),
        Column("prior_liver_rt", "code", "earlier radiotherapy to the upper abdomen", codes=YES_NO),
        Column("prior_regimens", "integer", "earlier lines of systemic treatment", low=0, high=20),
        Column("life_expectancy_months", "number", "estimated life expectancy", low=0, high=600),
        Column("completed", "code", "treatment completed", codes=YES_NO),
        Column("not_completed_reason", "text", "why not"),
        Column("consent", "code", "written consent or waiver of the ethics committee", codes=("yes", "no", "waived")),
        Column("ethics_id", "text", "approval number of the ethics committee"),
        Column("death_cause", "text", "cause of death in words"),
        Column("death_cause_code", "code", "cause of death in one of a few classes", codes=DEATH_CAUSES),
    ),
    ("patient_id",),
)
LESIONS = Table(
    "lesions",
    "One row for each lesion known before treatment.",
    (
        _PATIENT,
        Column("lesion_id", "id", "lesion within the patient", required=True),
        Column("organ", "text", "organ of the lesion"),
        Column("lobe", "code", "liver lobe", codes=("left", "right", "both", "caudate")),
        Column("diameter_mm", "number", "longest diameter", low=0, high=400),
        Column("volume_cc", "number", "volume", low=0, high=8000),
        Column("timing", "code", "against the primary tumour", codes=("synchronous", "metachronous")),
        Column("role", "code", "role in RECIST", codes=("target", "non_target", "node")),
        Column("irradiated", "code", "in the treated volume", codes=YES_NO),
        Column("count", "integer", "number of lesions that this row stands for", low=1, high=1000),
    ),
    ("patient_id", "lesion_id"),
)
COURSES = Table(
    "courses",
    "One row for each course (or phase) of radiotherapy.",
    (
        _PATIENT,
        Column("course_id", "id", "course within the patient", required=True),
        Column("start", "date", "first session"),
        Column("end", "date", "last session"),
        Column("technique", "text", "technique (3D-CRT, IMRT, VMAT, SBRT, ...)"),
        Column("site", "text", "irradiated site"),
        Column("dose_gy", "number", "total physical dose", low=0.1, high=120),
        Column("fractions", "integer", "number of fractions", low=1, high=80),
        Column("dose_per_fraction_gy", "number", "dose of one fraction", low=0.1, high=40),
    ),
    ("patient_id", "course_id"),
)
DOSIMETRY = Table(
    "dosimetry",
    "One row for each dose-volume metric of a patient's plan.",
    (
        _PATIENT,
        Column("structure", "text", "structure", required=True),
        Column("metric", "text", "metric (Dmean, Dmax, V20Gy, ...)", required=True),
        Column("value", "number", "value", required=True, low=0, high=10000),
        Column("unit", "code", "unit", required=True, codes=("Gy", "%", "cc", "1")),
    ),
    ("patient_id", "structure", "metric"),
)
ASSESSMENTS = Table(
    "assessments",
    "One row for each finding at a visit: response, performance, symptoms.",
    (
        _PATIENT,
        _DATE,
        Column(
            "kind",
            "code",
            "what was assessed",
            required=True,
            codes=("response", "ecog", "kps", "pain", "analgesic", "ascites", "jaundice", "visit", "child_pugh_score"),
        ),
        Column("value", "text", "finding; for a response CR, PR, SD, PD or NE", required=True),
        Column("method", "text", "modality or criteria"),
        _LESION,
    ),
    ("patient_id", "date", "kind", "lesion_id"),
)
MEASUREMENTS = Table(
    "measurements",
    "One row for each lesion at each imaging time, for RECIST and mRECIST.",
    (
        _PATIENT,
        Column("lesion_id", "id", "lesion within the patient", required=True),
        _DATE,
        Column("longest_mm", "number", "longest diameter", low=0, high=400),
        Column("short_axis_mm", "number", "short axis of a node", low=0, high=200),
        Column("viable_mm", "number", "longest arterially enhancing diameter", low=0, high=400),
        Column("status", "code", "of a non-target lesion", codes=("present", "absent", "progressed", "not_evaluable")),
        Column("new", "code", "lesion that was not there before", codes=YES_NO),
    ),
    ("patient_id", "lesion_id", "date"),
)
LABS = Table(
    "labs",
    "One row for each laboratory value.",
    (
        _PATIENT,
        _DATE,
        Column("test", "code", "test", required=True, codes=()),
        Column("value", "number", "value", required=True, low=0),
        Column("unit", "text", "unit as reported", required=True),
        Column("lln", "number", "lower limit of normal, same unit", low=0),
        Column("uln", "number", "upper limit of normal, same unit", low=0),
    ),
    ("patient_id", "date", "test"),
)
TOXICITIES = Table(
    "toxicities",
    "One row for each graded toxicity.",
    (
        _PATIENT,
        _DATE,
        Column("term", "text", "term of the scale", required=True),
        Column(
            "scale",
            "code",
            "scale",
            required=True,
            codes=("CTCAE-4.03", "CTCAE-5.0", "CTCAE-6.0", "RTOG", "RTOG/EORTC", "study"),
        ),
        Column("grade", "integer", "grade", required=True, low=0, high=5),
        Column(
            "attribution",
            "code",
            "to the treatment",
            codes=("unrelated", "unlikely", "possible", "probable", "definite"),
        ),
    ),
    ("patient_id", "date", "term", "scale"),
)
EVENTS = Table(
    "events",
    "One row for each thing that happened, and the last day on which nothing had.",
    (
        _PATIENT,
        _DATE,
        Column("kind", "code", "what happened", required=True, codes=EVENT_KINDS),
        _LESION,
        Column("detail", "text", "site, cause or remark"),
    ),
    ("patient_id", "date", "kind", "lesion_id", "detail"),
)
OUTCOMES = Table(
    "outcomes",
    "Times to an endpoint worked out elsewhere, for cohorts published without dates.",
    (
        _PATIENT,
        Column("endpoint", "text", "endpoint (OS, PFS, RFS, LC, ...)", required=True),
        Column("time_months", "number", "time from the start of the endpoint", required=True, low=0, high=1200),
        Column("event", "flag", "1 when the event was seen, 0 when censored", required=True),
        _LESION,
        Column("competing", "code", "a death ended the time before the event, which is 0 then", codes=YES_NO),
    ),
    ("patient_id", "endpoint", "lesion_id"),
)
DRUGS = Table(
    "drugs",
    "One row for each period of exposure to a drug.",
    (
        _PATIENT,
        Column("drug", "text", "drug or regimen", required=True),
        Column(
            "role",
            "code",
            "time against radiotherapy",
            required=True,
            codes=("previous", "concurrent", "adjuvant", "supportive", "maintenance"),
        ),
        Column("drug_class", "text", "class (chemotherapy, anti-HER2, hormone, hepatoprotective, ...)"),
        Column("start", "date", "first day"),
        Column("end", "date", "last day"),
        Column("dose", "number", "dose of one administration", low=0),
        Column("dose_unit", "text", "its unit (mg, mg/m2, mg/kg, g)"),
        Column("route", "text", "route"),
        Column("cycle_days", "number", "length of a cycle", low=0, high=365),
    ),
    ("patient_id", "drug", "role", "start"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        PATIENTS,
        LESIONS,
        COURSES,
        DOSIMETRY,
        ASSESSMENTS,
        MEASUREMENTS,
        LABS,
        TOXICITIES,
        EVENTS,
        OUTCOMES,
        DRUGS,
    )
}

IDENTIFYING = (
    "name",
    "first_name",
    "last_name",
    "surname",
    "patient_name",
    "mrn",
    "hospital_number",
    "address",
    "phone",
    "telephone",
    "email",
    "birth_date",
    "date_of_birth",
    "dob",
    "national_id",
    "ssn",
)
"""Column names that point to a person; such a column is refused (research data are pseudonymous)."""

LIVER_SCORES = Table(
    "liver_scores",
    "Derived, never read: liver function on each day with a bilirubin.",
    (
        Column("patient_id", "id", "pseudonym of the patient", required=True),
        Column("date", "date", "day of the bilirubin", required=True),
        Column("albi", "number", "albumin-bilirubin score"),
        Column("albi_grade", "integer", "ALBI grade", low=1, high=3),
        Column("malbi_grade", "code", "modified ALBI grade", codes=("1", "2a", "2b", "3")),
        Column("child_pugh_score", "integer", "Child-Pugh points", low=5, high=15),
        Column("child_pugh_class", "code", "Child-Pugh class", codes=("A", "B", "C")),
        Column("meld", "number", "MELD"),
        Column("meld_na", "integer", "MELD-Na", low=6, high=40),
        Column("meld_3", "number", "MELD 3.0"),
    ),
    ("patient_id", "date"),
)
DERIVED_TABLES: dict[str, Table] = {LIVER_SCORES.name: LIVER_SCORES}
"""Tables that are worked out from the others when a variable asks for them (``cantlie.cohort.liver_scores``)."""


def schema_markdown() -> str:
    """Return the documented schema as Markdown, one section for each table."""
    lines = ["# Tables of a cohort", ""]
    for table in (*TABLES.values(), *DERIVED_TABLES.values()):
        lines += [f"## {table.name}", "", table.description, f"Unique: {', '.join(table.key)}.", ""]
        lines += ["| column | kind | required | allowed | meaning |", "|---|---|---|---|---|"]
        for column in table.columns:
            if column.codes:
                allowed = ", ".join(column.codes)
            elif column.low is not None or column.high is not None:
                top = "" if column.high is None else f"{column.high:g}"
                allowed = f"{column.low or 0:g} to {top}".strip() if top else f"from {column.low or 0:g}"
            else:
                allowed = "ISO date" if column.kind == "date" else ""
            required = "yes" if column.required else ""
            lines.append(f"| {column.name} | {column.kind} | {required} | {allowed} | {column.description} |")
        lines.append("")
    return "\n".join(lines)
