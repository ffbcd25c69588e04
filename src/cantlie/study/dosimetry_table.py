"""The dosimetry table of a cohort: mean and SD of each arm, the difference with its interval, and the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import CohortError, StatisticsError
from cantlie.core.notes import Note
from cantlie.statistics import comparison, paired
from cantlie.statistics.comparison import MeanTest
from cantlie.statistics.hypothesis import HypothesisTest
from cantlie.study.dosimetry_runs import DosimetryRun, Key

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One metric in one arm; SD is None for a single patient."""

    arm: str
    n: int
    mean: float
    sd: float | None
    median: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class DosimetryRow:
    """One metric in all arms.

    Attributes
    ----------
    difference, interval
        Mean of the first arm less that of the second, with its 95 % interval; where there are two arms.
    as_published
        The test that the papers use: Student's t-test, or an analysis of variance of three or more arms.
    recommended
        The paired t-test where each patient stands in both arms, else Welch's; of three or more arms Friedman's where
        each patient stands in all of them, else Kruskal and Wallis's.
    ranks
        The rank test beside it: Wilcoxon's signed-rank test of pairs, else Mann and Whitney's; of two arms.
    reason
        Why there is no test.
    """

    structure: str
    metric: str
    unit: str
    arms: tuple[ArmSummary, ...]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    as_published: HypothesisTest | None = None
    recommended: HypothesisTest | None = None
    ranks: HypothesisTest | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CohortDosimetry:
    """The table, the runs behind it, and whether the arms hold the same patients."""

    runs: tuple[DosimetryRun, ...]
    arms: tuple[str, ...]
    is_paired: bool
    rows: tuple[DosimetryRow, ...]
    notes: tuple[Note, ...] = field(default=())

    @property
    def tests(self) -> int:
        """Number of metrics that were tested."""
        return sum(row.recommended is not None for row in self.rows)


def cohort_dosimetry(runs: Sequence[DosimetryRun], arms: Sequence[str] = ()) -> CohortDosimetry:
    """Return the dosimetry table of a cohort.

    Parameters
    ----------
    runs
        One for each patient and arm.
    arms
        Order of the arms; by default that of the runs.

    Raises
    ------
    CohortError
        If there is no run, a patient stands twice in an arm, or an arm that is asked for has no run.
    """
    if not runs:
        raise CohortError("there is no run to tabulate", where="runs", remedy="name at least one run folder")
    found = list(dict.fromkeys(run.arm for run in runs))
    unknown = [arm for arm in arms if arm not in found]
    if unknown:
        raise CohortError(
            f"no run belongs to the arm {unknown[0]}", where="arms", remedy=f"arms are {', '.join(found)}"
        )
    order = (*arms, *(arm for arm in found if arm not in arms))
    of_arm: dict[str, dict[str, DosimetryRun]] = {arm: {} for arm in order}
    for run in runs:
        if run.patient_id in of_arm[run.arm]:
            raise CohortError(
                f"the patient {run.patient_id} stands twice in the arm {run.arm}",
                where=run.run,
                remedy="name one run of each patient in each arm, or give patient_id in the arms file",
            )
        of_arm[run.arm][run.patient_id] = run
    is_paired = len(order) > 1 and all(set(of_arm[arm]) == set(of_arm[order[0]]) for arm in order)
    keys = dict.fromkeys(key for run in runs for key in run.values)
    rows = tuple(_row(key, order, of_arm, is_paired) for key in keys)
    return CohortDosimetry(tuple(runs), order, is_paired, rows, _notes(runs, order, of_arm, is_paired, rows))


def _row(key: Key, order: Sequence[str], of_arm: dict[str, dict[str, DosimetryRun]], is_paired: bool) -> DosimetryRow:
    samples = [{patient: run.values[key] for patient, run in of_arm[arm].items() if key in run.values} for arm in order]
    summaries = tuple(_summary(arm, np.array(list(s.values()))) for arm, s in zip(order, samples, strict=True) if s)
    row = DosimetryRow(*key, summaries)
    if len(order) < 2 or len(summaries) < len(order):
        return row if len(order) < 2 else replace(row, reason="not known in every arm")
    if min(len(sample) for sample in samples) < 2:
        return replace(row, reason="fewer than two patients in an arm")
    values = [np.array(list(sample.values())) for sample in samples]
    if all(np.ptp(v) == 0 for v in values) and len({float(v[0]) for v in values}) == 1:
        return replace(row, reason="the same in all patients")
    try:
        if len(order) > 2:
            of_all = [p for p in samples[0] if all(p in sample for sample in samples)]
            again = [np.array([sample[p] for p in of_all]) for sample in samples]
            ranked = paired.friedman(*again) if is_paired else comparison.kruskal_wallis(*values)
            return replace(row, as_published=_or_none(comparison.one_way_anova, *values), recommended=ranked)
        published = _or_none(comparison.t_test, *values)
        if is_paired:
            patients = [p for p in samples[0] if p in samples[1]]
            first, second = (np.array([sample[p] for p in patients]) for sample in samples)
            test: MeanTest = paired.paired_t_test(first, second)
            ranks: HypothesisTest = paired.wilcoxon_signed_rank(first, second)
        else:
            test, ranks = comparison.welch(*values), comparison.mann_whitney(*values)
    except StatisticsError as error:
        return replace(row, reason=error.what)
    return replace(
        row,
        difference=test.difference,
        interval=test.difference_ci,
        as_published=published,
        recommended=test,
        ranks=ranks,
    )


def _or_none(test: Callable[..., HypothesisTest], *values: Values) -> HypothesisTest | None:
    try:
        return test(*values)
    except StatisticsError:
        return None


def _summary(arm: str, values: Values) -> ArmSummary:
    return ArmSummary(
        arm,
        len(values),
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else None,
        float(np.median(values)),
        float(values.min()),
        float(values.max()),
    )


def _notes(
    runs: Sequence[DosimetryRun],
    order: Sequence[str],
    of_arm: dict[str, dict[str, DosimetryRun]],
    is_paired: bool,
    rows: Sequence[DosimetryRow],
) -> tuple[Note, ...]:
    notes = []
    versions = sorted({run.version for run in runs})
    if len(versions) > 1:
        notes.append(Note(f"the runs are of different versions of Cantlie: {', '.join(versions)}", "runs"))
    for arm in order:
        protocols = sorted({run.protocol for run in of_arm[arm].values()})
        if len(protocols) > 1:
            notes.append(Note(f"holds runs of several protocols: {', '.join(protocols)}", f"arm {arm}"))
    if len(order) > 1 and not is_paired:
        standing = Counter(patient for arm in order for patient in of_arm[arm])
        if several := sum(count > 1 for count in standing.values()):
            where = "both arms, others in one" if len(order) == 2 else "several arms, but not all in all"
            message = f"{several} patients stand in {where}; the tests take all as different patients"
            notes.append(Note(message, "arms"))
    if is_paired:
        every = "both arms" if len(order) == 2 else "every arm"
        message = f"each patient stands in {every}: the recommended tests are paired, the published ones are not"
        notes.append(Note(message, "arms", "info"))
    tested = sum(row.recommended is not None for row in rows)
    if tested > 1:
        message = (
            f"{tested} metrics are tested and p-values are not corrected: of that many without any difference, "
            f"{0.05 * tested:.1f} would come out below 0.05 on average"
        )
        notes.append(Note(message, "tests", "info"))
    return tuple(notes)
