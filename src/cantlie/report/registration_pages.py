"""The chapter of a report on two registered images: figures of TG-132, the pair of images, the checkerboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cantlie.core.volume import Volume
from cantlie.report.case_report import StructureView
from cantlie.report.checkerboard_figure import checkerboard_figure, grey_scaled
from cantlie.report.document import Block, Column, Figure, KeyValue, Section, Table, text_of
from cantlie.report.image_pair_figure import Picture, image_pair_figure
from cantlie.report.view import view_of

CT_WINDOW = (50.0, 400.0)


def shift_text(shift_mm: Sequence[float]) -> str:
    """Write a displacement (x, y, z) in LPS mm with the directions of the patient."""
    sides = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))
    return ", ".join(
        f"{abs(v):.1f} mm {plus if v >= 0 else minus}" for v, (plus, minus) in zip(shift_mm, sides, strict=True)
    )


def registration_section(
    facts: Mapping[str, Any],
    reference: Volume,
    aligned: Volume,
    drawn: Sequence[StructureView],
    propagated: Sequence[StructureView],
    *,
    titles: tuple[str, str] = ("This CT", "Earlier CT, deformed to this one"),
    windows: tuple[tuple[float, float], tuple[float, float]] = (CT_WINDOW, CT_WINDOW),
    title: str = "Registration of the CTs",
) -> Section:
    """Return the chapter.

    Parameters
    ----------
    facts
        What results.json holds on the registration.
    reference, aligned
        The reference image and the moving one, deformed to it, on one grid.
    drawn, propagated
        Outlines drawn on the reference, and those of the moving image carried over.
    windows
        Centre and width of the grey scale of each image.
    """
    rows: list[tuple[str, object]] = [("Registered by", facts["origin"])]
    agreement = facts.get("correlation")
    if agreement:
        stages = ("before", "before"), ("after the rigid step", "rigid"), ("at the end", "after")
        rows.append(
            ("Correlation of grey values", ", ".join(f"{text_of(agreement[key], 2)} {when}" for when, key in stages))
        )
    if "rotation_deg" in facts:
        rows.append(("Rotation about x, y, z", ", ".join(f"{text_of(a, 1)}°" for a in facts["rotation_deg"])))
        rows.append(("The other image lies", shift_text(facts["translation_mm"])))
    if "target_registration_error_mm" in facts:
        found = facts["target_registration_error_mm"]
        errors = f"{found['mean']:.1f} mm mean, {found['percentile_95']:.1f} mm 95th percentile"
        rows.append((f"Target registration error ({found['landmarks']} landmarks)", errors))
    rows += [
        ("Largest displacement", f"{facts['largest_displacement_mm']:.1f} mm"),
        ("Voxels that fold", f"{text_of(100 * facts['jacobian']['folded_fraction'], 2)} %"),
        ("Jacobian, 1st to 99th percentile", "{percentile_1:.2f} to {percentile_99:.2f}".format(**facts["jacobian"])),
        ("Standard error taken for the dose", f"{facts['uncertainty_mm']:.1f} mm"),
    ]
    body = [view for view in drawn if view.role == "body"]
    shown = [view for view in drawn if view.role != "body"]
    view = view_of(reference, [*(shown or propagated), *body])
    first, second = (grey_scaled(image, window) for image, window in zip((reference, aligned), windows, strict=True))
    centre, width = windows[0]
    alike = Volume(second.grid, second.values * width + (centre - width / 2))
    pair = image_pair_figure(
        Picture(titles[0], reference, [*shown, *propagated]), Picture(titles[1], alike, [*shown, *propagated]), view,
        window=windows[0],
    )  # fmt: skip
    blocks: list[Block] = [KeyValue(rows)]
    if facts["dice"]:
        distances = facts["mean_surface_distance_mm"]
        blocks.append(
            Table(
                [Column("Structure"), Column("Dice", digits=3), Column("Mean surface distance", unit="mm", digits=1)],
                [[name, value, distances.get(name)] for name, value in facts["dice"].items()],
                caption="Contours of the other image, carried over, against those drawn on this one",
                note=f"Expected: Dice of 0.8 to 0.9 at least, surfaces within 2 to 3 mm ({facts['source']}). What grew "
                "or shrank need not agree.",
            )
        )
    blocks += [
        Figure(pair, caption="The same slices of both images after registration, the same outlines on both",
               alt="Two registered images side by side with outlines", name="registration-pair"),
        Figure(checkerboard_figure(first, second, view, shown),
               caption="Checkerboard of both images: squares of 30 mm; edges that run on show a good match",
               alt="Checkerboard of two registered images", name="registration-checkerboard"),
    ]  # fmt: skip
    return Section(title, blocks)
