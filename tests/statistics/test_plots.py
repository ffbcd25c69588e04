"""Figures: what is drawn is what was computed, and numbers at risk stand under their ticks."""

import numpy as np
import pandas as pd
import pytest

from cantlie.statistics.balance import balance
from cantlie.statistics.competing import cumulative_incidence
from cantlie.statistics.cox import cox
from cantlie.statistics.logrank import log_rank
from cantlie.statistics.plots import plot_balance, plot_cox, plot_incidence, plot_subgroups, plot_survival
from cantlie.statistics.subgroup import subgroup_forest
from cantlie.statistics.survival import kaplan_meier

GENERATOR = np.random.default_rng(1)
TIME, EVENT, GROUP = np.ceil(GENERATOR.exponential(30, 90)), GENERATOR.integers(0, 2, 90), np.arange(90) % 2


def test_numbers_at_risk_are_aligned_with_their_ticks() -> None:
    curves = kaplan_meier(TIME, EVENT, group=GROUP)
    test = log_rank(TIME, EVENT, GROUP)
    figure = plot_survival(curves, ticks=[0, 12, 24, 36], test=test, mark="SYNTHETIC")
    main, table = figure.axes
    figure.canvas.draw()
    assert main.get_xlim() == table.get_xlim()
    left = [axes.get_window_extent().x0 for axes in figure.axes]
    assert left[0] == pytest.approx(left[1], abs=0.5)
    shown = {(text.get_position()[0], round(text.get_position()[1])): text.get_text() for text in table.texts}
    for row, curve in enumerate(curves.curves):
        for tick in (0, 12, 24, 36):
            assert shown[(tick, row)] == f"{(TIME[curve.label == GROUP] >= tick).sum()}"
    assert any("SYNTHETIC" in text.get_text() for text in main.texts)
    assert any("log-rank" in text.get_text() for text in main.texts)


def test_the_curve_drawn_is_the_curve_estimated() -> None:
    curve = kaplan_meier(TIME, EVENT).curves[0]
    line = plot_survival(kaplan_meier(TIME, EVENT)).axes[0].lines[0]
    assert np.asarray(line.get_ydata())[1:] == pytest.approx(curve.survival)


def test_the_other_figures_show_every_line() -> None:
    code = EVENT * (1 + np.arange(90) % 3 // 2)
    incidence = plot_incidence(cumulative_incidence(TIME, code, group=GROUP), naive=True)
    assert len(incidence.axes[0].lines) == 8
    x = pd.DataFrame({"age": GENERATOR.normal(size=90), "arm": GROUP})
    assert [t.get_text() for t in plot_cox(cox(TIME, EVENT, x)).axes[0].get_yticklabels()] == ["age", "arm"]
    forest = subgroup_forest(TIME, EVENT, GROUP, pd.DataFrame({"sex": np.arange(90) // 45}))
    assert any("interaction p" in text.get_text() for text in plot_subgroups(forest).axes[0].texts)
    assert len(plot_balance(balance(GROUP, x[["age"]].assign(more=x.age**2))).axes[0].get_yticklabels()) == 2
