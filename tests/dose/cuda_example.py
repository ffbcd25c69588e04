"""Tiny fields that the CUDA simulator can compute: run as ``cuda_example.py FOLDER NAME...`` it saves their doses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.dose.collapsed_cone import collapsed_cone_dose
from cantlie.dose.field import Field
from cantlie.dose.influence import Beamlets, influence_matrix
from cantlie.machine.aperture import Aperture
from cantlie.machine.beam_model import BeamModel
from cantlie.machine.fluence import aperture_fluence, pixel_centres
from cantlie.machine.geometry import BeamGeometry

# Voxels along z, voxel size (mm; above 1.25 mm electrons are followed on finer voxels), beam model, gantry angles.
EXAMPLES = {
    "fine": (4, 1.25, "generic-6mv", (30.0,)),
    "refined": (3, 2.5, "reference-6mv-point", (300.0,)),
    "oblique": (6, 1.25, "generic-6mv", (137.0,)),
    "two fields": (4, 2.5, "generic-6mv", (0.0, 95.0)),
    "influence": (4, 2.5, "reference-6mv-point", (10.0,)),
}


def dose(name, device):
    """Return the dose of an example on a device."""
    size, spacing, model_name, angles = EXAMPLES[name]
    shape = (size, size + 1, size + 2)
    grid = Grid(shape, (spacing,) * 3, tuple(-0.5 * spacing * (n - 1) for n in shape[::-1]))
    density = np.ones(shape, dtype=np.float32)
    density[:, :, : size // 2] = 0.3
    density[0] = 1.8
    patient = Volume(grid, density)
    model = BeamModel.named(model_name)
    if name == "influence":
        x, y = (a.ravel() for a in np.meshgrid([-5.0, 0.0, 5.0], [-5.0, 0.0]))
        beams = [Beamlets(BeamGeometry((0.0, 0.0, 0.0), angle), x, y, 5.0) for angle in angles]
        return influence_matrix(patient, beams, model, grid, device=device).forward(np.arange(6.0))
    pixels = pixel_centres(-30.0, 30.0, 2.5)
    fields = [
        Field(
            BeamGeometry((0.0, 0.0, 0.0), angle, 20.0),
            aperture_fluence(Aperture((-4.0, 3.0), (-3.0, 4.0)), 100.0, None, model, pixels, pixels),
        )
        for angle in angles
    ]
    return collapsed_cone_dose(patient, fields, model, device=device).values


def main():
    """Save the doses of the examples that are named."""
    for name in sys.argv[2:]:
        np.save(Path(sys.argv[1]) / f"{name}.npy", dose(name, "cuda"))


if __name__ == "__main__":
    main()
