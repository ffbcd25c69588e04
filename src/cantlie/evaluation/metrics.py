"""The value of a dose metric, read from a DVH."""

from __future__ import annotations

from cantlie.core.errors import StructureError
from cantlie.evaluation.dvh import Dvh
from cantlie.protocol.metric import Metric


def metric_value(metric: Metric, dvh: Dvh, prescription_gy: float | None = None) -> float:
    """Return a metric in its own unit.

    Parameters
    ----------
    metric
        What to compute, such as ``Metric.parse("V20Gy[%]")``. A volume at a dose counts voxels with at least that dose;
        a volume below a dose counts the rest.
    dvh
        The structure's DVH.
    prescription_gy
        The dose that is 100 %, in Gy; needed by metrics relative to the prescription.

    Raises
    ------
    StructureError
        If the metric needs a prescription and there is none, or a volume larger than the structure.
    """
    if metric.needs_prescription and not prescription_gy:
        raise StructureError(f"{metric} is relative to a prescribed dose, but none is given", where=dvh.name)
    reference = float(prescription_gy or 0.0)
    if metric.is_dose:
        dose = _dose_gy(metric, dvh)
        return 100.0 * dose / reference if metric.unit == "%" else dose
    dose = metric.argument * reference / 100.0 if metric.argument_unit == "%" else metric.argument
    volume = float(dvh.volume_at_dose_cc(dose))
    if metric.kind == "volume_below_dose":
        volume = dvh.volume_cc - volume
    return 100.0 * volume / dvh.volume_cc if metric.unit == "%" else volume


def _dose_gy(metric: Metric, dvh: Dvh) -> float:
    match metric.kind:
        case "max":
            return dvh.max_gy
        case "min":
            return dvh.min_gy
        case "mean":
            return dvh.mean_gy
    if metric.argument_unit == "%":
        return float(dvh.dose_at_percent_gy(metric.argument))
    return float(dvh.dose_at_volume_gy(metric.argument))
