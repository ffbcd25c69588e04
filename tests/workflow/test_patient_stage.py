"""The first stage tells what would make the density of a patient wrong."""

from __future__ import annotations

import numpy as np
from tests.workflow.dicom_cases import GRID, ellipsoid, image_of, organs, write_case

from cantlie.workflow.patient_stage import CaseRequest, prepare_patient


def warnings_of(folder) -> list[str]:
    return [note.sentence() for note in prepare_patient(CaseRequest(folder)).notes if note.level == "warning"]


def test_a_whole_patient_needs_no_remark(tmp_path):
    masks = organs()
    write_case(tmp_path, image_of(masks), masks)
    assert warnings_of(tmp_path) == []


def test_a_structure_that_reaches_out_of_the_patient_is_told(tmp_path):
    masks = organs()
    hu = image_of(masks)
    masks["Liver"] = ellipsoid((-62, -6, 8), (42, 36, 34))
    write_case(tmp_path, hu, masks)
    outside = 100 * (1 - np.minimum(masks["Liver"], masks["BODY"]).sum() / masks["Liver"].sum())
    told = warnings_of(tmp_path)
    assert len(told) == 1 and told[0].startswith("Liver: ") and "outside the outline of the patient" in told[0]
    assert abs(float(told[0].split()[1]) - outside) < 3


def test_wrong_rescale_values_are_told(tmp_path):
    masks = organs()
    write_case(tmp_path, image_of(masks), masks, tags={"PatientComments": "as stored"})
    assert warnings_of(tmp_path) == []
    write_case(tmp_path, image_of(masks) + 1024, masks)  # rescale intercept lost
    assert any("half of the patient of the CT lies beyond" in note and "check the rescale" in note
               for note in warnings_of(tmp_path))  # fmt: skip
    hu = image_of(masks)
    hu[10:12] += 1024
    write_case(tmp_path, hu, masks)
    assert any(f"2 of {GRID.shape[0]} CT images" in note for note in warnings_of(tmp_path))
