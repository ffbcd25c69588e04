"""De-identification of a cohort for sharing: keyed pseudonyms, dates shifted for each patient, no free text."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cantlie.cohort.exporting import write_cohort
from cantlie.cohort.importing import read_cohort
from cantlie.cohort.schema import TABLES
from cantlie.cohort.tables import Cohort
from cantlie.core.errors import CohortError, InputError, OutputError
from cantlie.core.notes import Note

_FREE_TEXT = {"patients": ("not_completed_reason", "death_cause", "ethics_id", "centre"), "events": ("detail",)}


def deidentify(cohort: Cohort, secret: bytes, *, largest_shift_days: int = 180) -> Cohort:
    """Return the cohort with new pseudonyms, dates shifted by a secret number of days, and without free text.

    All dates of a patient move by the same number of days, so that every interval stays. Ages above 89 become 90.
    Columns of the user's own stay where they are numbers or a few classes, and go where they hold dates or free text.

    Parameters
    ----------
    secret
        Key of at least 16 bytes; who has it can find the pseudonyms again, so keep it apart from the data.
    largest_shift_days
        Dates move by up to so many days back.

    Raises
    ------
    CohortError
        If the secret is too short.
    """
    if len(secret) < 16:
        raise CohortError("the secret is too short", where="de-identification", remedy="give at least 16 bytes")

    def digest(patient: str) -> bytes:
        return hmac.new(secret, str(patient).encode(), hashlib.sha256).digest()

    ids = sorted(cohort.patients["patient_id"])
    order = sorted(ids, key=digest)
    pseudonym = {patient: f"P{number:04d}" for number, patient in enumerate(order, start=1)}
    shift = {patient: pd.Timedelta(days=-days_back(digest(patient), largest_shift_days)) for patient in ids}
    tables, removed = {}, []
    for name, frame in cohort.tables.items():
        new = frame.copy()
        days = pd.to_timedelta(frame["patient_id"].map(shift))
        for column in TABLES[name].columns:
            if column.kind == "date":
                new[column.name] = (frame[column.name] + days).astype("datetime64[ns]")
        for column_name in _FREE_TEXT.get(name, ()):
            new[column_name] = pd.Series([None] * len(new), dtype=object, index=new.index)
        known = {column.name for column in TABLES[name].columns}
        own = [column for column in new if column not in known]
        kept = [column for column in own if _may_stay(new[column])]
        removed += [f"{name}.{column}" for column in own if column not in kept]
        new = new.drop(columns=[column for column in own if column not in kept])
        new["patient_id"] = frame["patient_id"].map(pseudonym)
        if name == "patients":
            new["age_years"] = new["age_years"].where(~(new["age_years"] > 89), 90.0)
        tables[name] = new.sort_values("patient_id", kind="stable").reset_index(drop=True)
    notes = [Note(f"own columns with dates or free text removed: {', '.join(removed)}", "cohort")] if removed else []
    note = Note("pseudonyms replaced, dates shifted, free text removed; intervals are unchanged", "cohort", "info")
    return Cohort(tables, cohort.label, cohort.synthetic, {}, (*cohort.notes, note, *notes))


_MOST_CLASSES = 12
_LONGEST_CLASS = 40
_LIKE_A_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


def _may_stay(values: pd.Series) -> bool:
    known = values.dropna()
    if values.dtype.kind in "fib":
        return True
    texts = known.astype(str)
    few = texts.nunique() <= min(_MOST_CLASSES, max(2, len(texts) // 3))
    return few and not texts.map(lambda t: len(t) > _LONGEST_CLASS or bool(_LIKE_A_DATE.search(t))).any()


@dataclass(frozen=True, slots=True)
class Deidentified:
    """What was written: the tables, the file of the key (None if the key was thrown away), and what to know."""

    files: tuple[Path, ...]
    key_file: Path | None
    patients: int
    notes: tuple[Note, ...]


def deidentify_folder(
    data: Path, out: Path, *, key_file: Path | None = None, extra_columns: frozenset[str] = frozenset()
) -> Deidentified:
    """Read a cohort and write it again as CSV files for sharing: ``cantlie study deidentify DATA --out DIR``.

    Parameters
    ----------
    data
        Folder of CSV files or Excel workbook.
    out
        New or empty folder.
    key_file
        File of the key (hexadecimal); made, readable by its owner only, if it does not exist. With the same key the
        same patients get the same pseudonyms and shifts. Without a file the key is random and thrown away, so that
        nobody can find the patients again.
    extra_columns
        Columns of patients outside the schema that a study reads.

    Raises
    ------
    CohortError, InputError
        If the data are wrong, the output would mix with other files, or the key lies beside the data to share.
    """
    data, out = Path(data), Path(out)
    check_folders(data, out, key_file)
    cohort = read_cohort(data, label=out.name, extra_columns={"patients": extra_columns} if extra_columns else None)
    secret = secret_of(key_file)
    shared = deidentify(cohort, secret)
    files = write_cohort(shared, out)
    notes = list(shared.notes)
    lost = {"no"} & set(cohort.patients["consent"].dropna())
    if lost:
        count = int((cohort.patients["consent"] == "no").sum())
        notes.append(Note(f"{count} patients are recorded as without consent; may their data be shared?", "consent"))
    notes.append(
        Note("read the text columns that stay (sites, terms, drugs) and rare combinations before sharing", "cohort")
    )
    return Deidentified(files, None if key_file is None else Path(key_file), len(shared), tuple(notes))


def check_folders(data: Path, out: Path, key_file: Path | None) -> None:
    """Refuse an output that would mix with other files or hold the key.

    Raises
    ------
    InputError
        If the output is not empty, lies within the data, or holds the key.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output folder is not empty", where=str(out), remedy="name a new folder")
    folder = data.resolve() if data.is_dir() else data.resolve().parent
    if out.resolve() == folder or folder in out.resolve().parents:
        raise InputError("the output lies within the data", where=str(out), remedy="name a folder elsewhere")
    if key_file is not None and out.resolve() in Path(key_file).resolve().parents:
        raise InputError("the key would be shared with the data", where=str(key_file), remedy="keep it elsewhere")


def secret_of(key_file: Path | None) -> bytes:
    """Return the key of a file, which is made if it does not exist; without a file a random one.

    Raises
    ------
    InputError, OutputError
        If the file is not a key or cannot be written.
    """
    return secrets.token_bytes(32) if key_file is None else _key(Path(key_file))


def days_back(digest: bytes, largest_shift_days: int = 180) -> int:
    """Return by how many days the dates of a patient move back, from the keyed digest of the patient."""
    return 1 + int.from_bytes(digest[:4], "big") % largest_shift_days


def _key(path: Path) -> bytes:
    if not path.exists():
        made = secrets.token_hex(32)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(made + "\n")
        except OSError as error:
            raise OutputError("the key cannot be written", where=str(path), remedy="name another file") from error
        return bytes.fromhex(made)
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError("the file is not a key", where=str(path), remedy="give a file made by this command") from error
