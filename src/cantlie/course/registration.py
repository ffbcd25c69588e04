"""Rigid and deformable registration of two images of one patient, the same result every time.

Rigid: Mattes mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072), six degrees of freedom. Deformable:
``demons`` (Vercauteren et al. 2009, doi:10.1016/j.neuroimage.2008.10.040) for CT and CT, ``b-spline`` with mutual
information (Rueckert et al. 1999, doi:10.1109/42.796284) for images whose grey values differ (contrast, MRI, PET).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cantlie.core.errors import GeometryError, InputError
from cantlie.core.grid import Grid
from cantlie.core.notes import Note
from cantlie.core.progress import Progress, part, silent
from cantlie.core.volume import Volume
from cantlie.course.registration_field import DisplacementField, RigidTransform

Method = Literal["rigid", "demons", "b-spline"]
CT_WINDOW_HU = (-150.0, 300.0)
"""Grey values of CT outside it are clipped: air and dense bone would outweigh soft tissue."""
_SEED = 20211
_SAMPLES = 25_000
_LEVELS = (4, 2, 1)
_DEMONS_STEPS = (100, 80, 40)
_SMOOTHING_VOXELS = 2.0
_KNOT_MM = 40.0


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """How images are registered.

    Parameters
    ----------
    method
        ``rigid`` stops after the rigid step.
    spacing_mm
        Both images are registered on voxels of this size; finer images are smoothed first.
    window
        Values outside are clipped; None takes the 0.5th and 99.5th percentile of each image (MRI, PET).
    """

    method: Method = "demons"
    spacing_mm: float = 3.0
    window: tuple[float, float] | None = CT_WINDOW_HU

    def __post_init__(self) -> None:
        if self.method not in ("rigid", "demons", "b-spline"):
            raise InputError(f"no registration is called {self.method!r}", remedy="take rigid, demons or b-spline")
        if not 1.0 <= self.spacing_mm <= 10.0:
            raise InputError(f"registration at {self.spacing_mm} mm is not possible", remedy="take 1 to 10 mm")
        if self.method == "demons" and self.window is None:
            raise InputError("demons need the same grey values in both images", remedy="take b-spline, or a window")


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """Where each point of the reference lies in the moving image.

    Parameters
    ----------
    rigid
        The rigid step, moving_from_reference.
    field
        The whole transform, moving_from_reference, on the registration grid.
    correlation
        Correlation of the grey values inside the mask: before, after the rigid step, at the end.
    """

    settings: RegistrationSettings
    rigid: RigidTransform
    field: DisplacementField
    correlation: tuple[float, float, float]
    seconds: float
    notes: tuple[Note, ...] = ()


def register(
    reference: Volume,
    moving: Volume,
    settings: RegistrationSettings | None = None,
    *,
    reference_mask: Volume | None = None,
    progress: Progress = silent,
) -> Registration:
    """Register a moving image to a reference image.

    Parameters
    ----------
    reference, moving
        CT in HU, or other images (then with ``window=None`` and ``b-spline`` or ``rigid``), in LPS mm.
    reference_mask
        Where the reference counts (shares, any grid): the body, or an organ with its surroundings. Without it the
        whole reference counts.

    Returns
    -------
    Registration
        The same for the same input: fixed samples, one thread.

    Raises
    ------
    GeometryError
        If an image is too small to be registered, has no contrast, or the two cannot be brought to overlap.
    """
    settings = settings or RegistrationSettings()
    start = time.perf_counter()
    fixed = _prepared(reference, settings, "reference image")
    other = _prepared(moving, settings, "moving image")
    mask = None
    if reference_mask is not None:
        mask = reference_mask.resample(fixed.grid).values >= 0.5
        if np.count_nonzero(mask) < 500:
            raise GeometryError("the mask of the reference image is almost empty", where="registration")
    with _one_thread() as sitk:
        fixed_image, moving_image = _image(sitk, fixed), _image(sitk, other)
        mask_image = _mask_image(sitk, fixed.grid, mask)
        progress(0.05, "rigid registration")
        rigid = _rigid(sitk, fixed_image, moving_image, mask_image)
        rigid_field = DisplacementField.of_rigid(rigid, fixed.grid)
        field = rigid_field
        step = part(progress, 0.2, 1.0)
        if settings.method == "demons":
            field = _demons(sitk, fixed, other, rigid_field, step)
        elif settings.method == "b-spline":
            field = _b_spline(sitk, fixed_image, moving_image, mask_image, rigid, fixed.grid, step)
    floor = float(other.values.min())
    before = _correlation(fixed, other.resample(fixed.grid, outside=floor), mask)
    after_rigid = _correlation(fixed, rigid_field.pull(other, outside=floor), mask)
    after = after_rigid if field is rigid_field else _correlation(fixed, field.pull(other, outside=floor), mask)
    notes = list(_notes(settings, rigid, field, mask, (before, after_rigid, after)))
    return Registration(settings, rigid, field, (before, after_rigid, after), time.perf_counter() - start, tuple(notes))


def _notes(
    settings: RegistrationSettings,
    rigid: RigidTransform,
    field: DisplacementField,
    mask: NDArray[np.bool_] | None,
    correlation: tuple[float, float, float],
) -> Iterator[Note]:
    before, after_rigid, after = correlation
    same_kind = settings.window is not None
    if same_kind and max(after_rigid, after) < before - 0.01:
        yield Note("the images agree less after registration than before it; do not use it", "registration")
    if same_kind and after < 0.7:
        yield Note(
            f"the images agree poorly after registration (correlation {after:.2f}); look at them", "registration"
        )
    if max(abs(angle) for angle in rigid.angles_deg) > 10 or np.linalg.norm(rigid.translation_mm) > 200:
        yield Note("the rigid step turns or shifts far; check that both images are of one patient", "registration")
    jacobian = field.jacobian()
    folded = float(((jacobian[mask] if mask is not None else jacobian) <= 0).mean())
    if folded > 0:
        yield Note(f"the field folds in {100 * folded:.2f} % of the voxels", "registration")


def _prepared(volume: Volume, settings: RegistrationSettings, where: str) -> Volume:
    """Clip, smooth to the resolution of the registration, and resample to its grid."""
    from scipy import ndimage

    values = np.asarray(volume.values, dtype=np.float32)
    if not np.isfinite(values).all():
        raise GeometryError("an image has values that are not finite", where=where)
    low, high = settings.window or tuple(np.percentile(values, (0.5, 99.5)).tolist())
    values = np.clip(values, low, high)
    if float(values.std()) < 1e-6 * max(high - low, 1e-9) or high <= low:
        raise GeometryError("an image has no contrast", where=where, remedy="check the image and the window")
    step = settings.spacing_mm
    sigma = [0.4 * np.sqrt(max((step / s) ** 2 - 1.0, 0.0)) for s in volume.grid.spacing_mm[::-1]]
    smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if max(sigma) > 0 else values
    grid = volume.grid.resampled((step, step, step))
    if min(grid.shape) < 8:
        raise GeometryError(
            f"an image of {grid.shape[2]} x {grid.shape[1]} x {grid.shape[0]} voxels of {step:g} mm is too small",
            where=where,
            remedy="give an image of at least 8 voxels along each axis",
        )
    resampled = Volume(volume.grid, smooth).resample(grid, outside=float(low))
    scaled = (np.asarray(resampled.values) - low) * np.float32(100.0 / (high - low))
    return Volume(grid, scaled.astype(np.float32))


@contextmanager
def _one_thread() -> Iterator[Any]:
    """Give SimpleITK on one thread: sums over several threads differ in their last digits from run to run."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield sitk
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise GeometryError(
            f"the images could not be registered: {reason}",
            where="registration",
            remedy="check that both images show the same part of one patient",
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _image(sitk: Any, volume: Volume) -> Any:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.values, dtype=np.float32))
    return _placed(image, volume.grid)


def _placed(image: Any, grid: Grid) -> Any:
    image.SetSpacing([float(s) for s in grid.spacing_mm])
    image.SetOrigin([float(o) for o in grid.origin_mm])
    return image


def _mask_image(sitk: Any, grid: Grid, mask: NDArray[np.bool_] | None) -> Any:
    return None if mask is None else _placed(sitk.GetImageFromArray(mask.astype(np.uint8)), grid)


def _mutual_information(sitk: Any, fixed: Any, mask: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / fixed.GetNumberOfPixels()), _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    if mask is not None:
        method.SetMetricFixedMask(mask)
    return method


def _rigid(sitk: Any, fixed: Any, moving: Any, mask: Any) -> RigidTransform:
    method = _mutual_information(sitk, fixed, mask)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    # Images of one planning system often share their frame: where that is the better start, it is taken.
    same_frame = sitk.Euler3DTransform(start)
    same_frame.SetTranslation((0.0, 0.0, 0.0))
    best = None
    for candidate in (same_frame, sitk.Euler3DTransform(start)):
        method.SetInitialTransform(candidate, inPlace=False)
        try:
            value = method.MetricEvaluate(fixed, moving)
        except RuntimeError:
            continue
        if best is None or value < best[0]:
            best = (value, candidate)
    if best is None:
        raise GeometryError(
            "the two images do not overlap", where="registration", remedy="check that both show one patient"
        )
    method.SetInitialTransform(best[1], inPlace=False)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=120, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(_LEVELS))
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    found = sitk.Euler3DTransform(sitk.CompositeTransform(method.Execute(fixed, moving)).GetBackTransform())
    x, y, z = (float(np.degrees(a)) for a in (found.GetAngleX(), found.GetAngleY(), found.GetAngleZ()))
    rotation = np.asarray(found.GetMatrix(), dtype=np.float64).reshape(3, 3)
    return RigidTransform(rotation, tuple(found.GetTranslation()), tuple(found.GetCenter()), (x, y, z))


def _demons(
    sitk: Any, fixed: Volume, moving: Volume, rigid: DisplacementField, progress: Progress
) -> DisplacementField:
    """Refine the rigid field from coarse to fine by diffeomorphic demons."""
    displacement = None
    floor = float(moving.values.min())
    aligned = rigid.pull(moving, outside=floor)
    fixed_image, moving_image = _image(sitk, fixed), _image(sitk, aligned)
    for n, (shrink, steps) in enumerate(zip(_LEVELS, _DEMONS_STEPS, strict=True)):
        progress(n / 3, f"deformable registration, level {n + 1} of {len(_LEVELS)}")
        coarse_fixed, coarse_moving = (_coarser(sitk, image, shrink) for image in (fixed_image, moving_image))
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(steps)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(_SMOOTHING_VOXELS)
        demons.SetMaximumUpdateStepLength(1.0)
        demons.SetIntensityDifferenceThreshold(0.1)
        if displacement is None:
            found = demons.Execute(coarse_fixed, coarse_moving)
        else:
            begun = sitk.Resample(displacement, coarse_fixed, sitk.Transform(), sitk.sitkLinear, 0.0)
            found = demons.Execute(coarse_fixed, coarse_moving, sitk.Cast(begun, sitk.sitkVectorFloat64))
        displacement = found
    progress(1.0, "deformable registration")
    inner = np.asarray(sitk.GetArrayFromImage(displacement), dtype=np.float64)
    points = fixed.grid.points_mm()
    # The demons work on the rigidly aligned image, so its points still go through the rigid step.
    return DisplacementField(fixed.grid, (inner + rigid.at(points + inner)).astype(np.float32))


def _coarser(sitk: Any, image: Any, shrink: int) -> Any:
    if shrink == 1:
        return image
    factors = [min(shrink, max(1, size // 12)) for size in image.GetSize()]
    sigma = 0.4 * shrink * max(image.GetSpacing())
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigma), factors)


def _b_spline(
    sitk: Any, fixed: Any, moving: Any, mask: Any, rigid: RigidTransform, grid: Grid, progress: Progress
) -> DisplacementField:
    """Refine the rigid step by a B-spline, its knots halved at each level."""
    progress(0.0, "deformable registration")
    aligned_by = sitk.Euler3DTransform()
    aligned_by.SetCenter(rigid.centre_mm)
    aligned_by.SetMatrix(rigid.rotation.reshape(-1).tolist())
    aligned_by.SetTranslation(rigid.translation_mm)
    method = _mutual_information(sitk, fixed, mask)
    extent = grid.upper_mm - grid.lower_mm
    mesh = [max(2, round(float(length) / (2 * _KNOT_MM))) for length in extent]
    spline = sitk.BSplineTransformInitializer(fixed, mesh, order=3)
    method.SetMovingInitialTransform(aligned_by)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2, 4])
    method.SetOptimizerAsLBFGS2(numberOfIterations=40, solutionAccuracy=1e-4, deltaConvergenceTolerance=1e-4)
    method.SetShrinkFactorsPerLevel([3, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.Execute(fixed, moving)
    whole = sitk.CompositeTransform([aligned_by, spline])
    found = sitk.TransformToDisplacementField(
        whole, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    )
    progress(1.0, "deformable registration")
    return DisplacementField(grid, np.asarray(sitk.GetArrayFromImage(found), dtype=np.float32))


def _correlation(fixed: Volume, moving: Volume, mask: NDArray[np.bool_] | None) -> float:
    a = np.asarray(fixed.values, np.float64)
    b = np.asarray(moving.values, np.float64)
    a, b = (a.reshape(-1), b.reshape(-1)) if mask is None else (a[mask], b[mask])
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
