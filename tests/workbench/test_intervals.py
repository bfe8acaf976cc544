from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.report.intervals import interval_bar

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: abs(x) > 1e-9)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.booleans(), st.one_of(st.none(), st.floats(1e-3, 1e6)))
def test_which_side_of_no_change_an_interval_lies_on_is_seen(numbers, higher_is_better, margin):
    low, change, high = sorted(numbers)
    bar = interval_bar(low, change, high, higher_is_better=higher_is_better, margin=margin, width=25)
    assert len(bar) == 25
    drawn = [at for at, char in enumerate(bar) if char in "├─┼┤●"]
    if low < 0 < high:
        assert drawn[0] < 12 < drawn[-1]
    elif (low > 0) == higher_is_better:
        assert drawn[0] > 12, "better is on the right"
        assert bar[12] == "│"
    else:
        assert drawn[-1] < 12
    assert bar.count("●") == 1


@pytest.mark.parametrize(
    ("numbers", "options", "expected"),
    [
        ((-0.4, -0.2, 0.2), {"higher_is_better": False}, "     ├────┼────●────┤"),
        ((-0.4, -0.2, 0.2), {"higher_is_better": True, "margin": 0.4}, "├────●────┼────┤     "),
        ((0.0, 0.0, 0.0), {"higher_is_better": True}, "          ●          "),
    ],
)
def test_bars_are_to_their_own_scale(numbers, options, expected):
    assert interval_bar(*numbers, **options, width=21) == expected
