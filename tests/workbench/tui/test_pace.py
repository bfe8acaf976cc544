"""How far, how fast, how long still."""

from __future__ import annotations

from workbench.tui.pace import Pace


def test_rows_are_told_with_rate_and_time_left_once_it_is_known():
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.told(0, 10_000, "length") == "length · 0 of 10,000"
    now[0] = 2.0
    assert pace.told(4_000, 10_000, "length") == "length · 4,000 of 10,000 · 2,000/s · 3 s left"
    assert pace.told(0, 500, "language") == "language · 0 of 500", "another step has another pace"
    now[0] = 4.0
    assert pace.told(100, None, "language") == "language · 100 · 50/s"


def test_bytes_are_told_as_a_share_and_an_old_rate_is_forgotten():
    now = [0.0]
    pace = Pace(in_bytes=True, clock=lambda: now[0])
    for second in range(31):
        now[0] = float(second)
        done = 1_000_000 * second if second < 16 else 15_000_000 + 10_000_000 * (second - 15)
        told = pace.told(done, 200_000_000, f"reading, {second} rows")
    assert told == "reading, 30 rows · 82% · 10.0 MB/s · 4 s left"
