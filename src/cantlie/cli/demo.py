"""``cantlie demo``: the main job on the bundled real patient."""

from __future__ import annotations

from cantlie.cli.options import DeviceOption, JsonOption, OutOption, default_out

CRLM_ATTRIBUTION = (
    "CT: CRLM-CT-1006 of the TCIA collection Colorectal-Liver-Metastases (Simpson et al. 2023, doi:10.7937/QXK2-QG03; "
    "Sci Data 2024 11:172), CC BY 4.0; new UIDs, patient position relabelled HFS, padding clipped, tags reduced. "
    "Contours: made for Cantlie by a program, not by a clinician; no lesion is an expert GTV."
)


def demo(out: OutOption = None, device: DeviceOption = "auto", as_json: JsonOption = False) -> None:
    """Plan the bundled patient with liver metastases by the semi-hepatic alternating protocol (Zhang 2021)."""
    from cantlie.cli.planning import run_and_show
    from cantlie.dicom.bundled import bundled_case_path
    from cantlie.workflow.planned_case import PlanCase

    request = PlanCase(
        case=bundled_case_path("crlm_ct_1006"),
        protocol="zhang2021-alternating",
        out=out or default_out("demo"),
        label="CRLM-CT-1006",
        attributions=(CRLM_ATTRIBUTION,),
        device=device,
    )
    run_and_show(request, as_json=as_json)
