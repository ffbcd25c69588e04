"""The pair of images before and after: the same slices, window and letters on both sides."""

import numpy as np

from cantlie.core.grid import Grid
from cantlie.core.volume import Volume
from cantlie.report.case_report import StructureView
from cantlie.report.image_pair_figure import Picture, image_pair_figure
from cantlie.report.style import svg_of_figure
from cantlie.report.view import view_of

GRID = Grid((20, 24, 30), (4.0, 4.0, 4.0), (-60.0, -48.0, 0.0))


def pair():
    distance = np.linalg.norm(GRID.points_mm() - GRID.points_mm().mean(axis=(0, 1, 2)), axis=-1)
    image = Volume(GRID, np.where(distance < 38, 50.0, -1000.0))
    darker = Volume(GRID, image.values - 60.0)
    lesion = StructureView("GTV_1", Volume(GRID, (distance < 12).astype(np.float32)), "target", "#4aa8ff")
    dose = Volume(GRID, (50 * np.exp(-distance / 30)).astype(np.float32))
    view = view_of(image, [lesion])
    return image, image_pair_figure(
        Picture("Before", image, [lesion], [(dose, 25.0, "50 % of 50 Gy")]),
        Picture("After", darker, [lesion]),
        view,
        window=(50.0, 400.0),
    )


def test_both_sides_show_the_same_slices_in_the_same_window():
    _, figure = pair()
    before_axial, before_coronal, after_axial, after_coronal, _ = figure.axes
    for left, right in ((before_axial, after_axial), (before_coronal, after_coronal)):
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()
        assert np.isclose(left.get_position().width, right.get_position().width)
        letters = [{text.get_text() for text in axes.texts} for axes in (left, right)]
        assert letters[0] == letters[1]
    assert {"R", "L", "A", "P", "5 cm"} <= {text.get_text() for text in before_axial.texts}
    # 60 HU less on the right is 0.15 of a window of 400 HU: the grey scale is shared.
    grey = [axes.images[0].get_array().max() for axes in (before_axial, after_axial)]
    assert np.isclose(grey[0] - grey[1], 0.15, atol=1e-6)


def test_the_scale_is_true_and_the_outlines_are_drawn():
    _, figure = pair()
    before, *_ = figure.axes
    box = before.get_position()
    wide_in, tall_in = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
    low_h, high_h = before.get_xlim()
    low_v, high_v = before.get_ylim()
    assert np.isclose(wide_in / abs(high_h - low_h), tall_in / abs(high_v - low_v), rtol=1e-6)
    assert len(before.collections) == 2  # the lesion and one isodose
    assert len(svg_of_figure(figure)) > 5000
