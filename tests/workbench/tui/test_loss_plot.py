from __future__ import annotations

import pytest

from workbench.tui.widgets.loss_plot import _span


def test_a_loss_that_hardly_moves_is_not_drawn_as_a_steep_fall():
    low, high = _span([5.5675, 5.5613])
    assert high - low == pytest.approx(0.2)
    assert (low + high) / 2 == pytest.approx((5.5675 + 5.5613) / 2)


def test_a_loss_that_moves_fills_the_plot_and_no_loss_leaves_it_alone():
    assert _span([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert _span([]) == (None, None)
