"""Whatever text lies in the data: never a crash, never obeyed, and every line exactly as wide as the screen."""

from __future__ import annotations

import asyncio
import itertools
import json
import unicodedata

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App

from workbench.curation import RunReport
from workbench.preview import preview
from workbench.store.previews import RowPreview
from workbench.store.recipe_runs import StepRow
from workbench.tui.recipe_flow import run_told, step_lines
from workbench.tui.sample_lines import sample_lines
from workbench.tui.theme import DARK
from workbench.tui.widgets.dialogs import ask_text, choose, confirm
from workbench.tui.widgets.edit_dialog import EditDialog
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.widgets.row_cells import Columns, row_cells
from workbench.tui.widgets.row_list import RowList
from workbench.workspace import Workspace

PIECES = [
    "[/INST]", "[INST]", "[A=\"]", "[Foo bar=']", "[bold]", "[/]", "[@click=app.quit]x[/]", "[link=file:///x]", "\\[",
    "\x1b[2J", "\x1b]52;c;Zm9v\x07", "\x1b[?1049l", "\x9b31m",
    "\x00", "\x08\x08", "\r\n", "\n", "\t", "\x7f", "\u202e", "\u2066", "\u200f", "\u061c",
    "\u2028", "\u200b", "\u200d", "\ufeff", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7",
    "\U0001f44d\U0001f3fd", "漢字かな", "한국어", "e\u0301\u0302\u0303", "\u0e33", "ﷺ", "❤\ufe0f", "${x}", "%s",
    "\U000e0041", "\U000f0000", "\ud800", "x" * 90,
]  # fmt: skip
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), min_size=1, max_size=8).map("".join)

_OBEYED = set("\u061c\u200b\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\ufeff") | {
    chr(code) for code in range(0x2066, 0x206A)
}
_numbers = itertools.count()


def assert_harmless(text: str) -> None:
    obeyed = {hex(ord(c)) for c in text if c in _OBEYED or unicodedata.category(c) in ("Cc", "Cs")}
    assert not obeyed, f"{obeyed} in {text!r}"


def assert_painted(app) -> None:
    """Every line of the screen has its width, and nothing on it that a terminal would obey."""
    strips = app.screen._compositor.render_strips(app.size)
    assert len(strips) == app.size.height
    for strip in strips:
        assert sum(cell_len(segment.text) for segment in strip) == app.size.width
        assert_harmless("".join(segment.text for segment in strip))


def assert_lines(lines, width: int) -> None:
    for line in lines:
        text = "".join(piece for piece, _ in line)
        assert_harmless(text)
        assert cell_len(text) <= width, text


@given(st.lists(HOSTILE, min_size=5, max_size=5), st.integers(60, 200), st.integers(0, 10**7))
@settings(deadline=None, max_examples=150)
def test_a_row_of_the_list_has_its_width(texts, width, rows):
    prompt, response, label, step, reason = texts
    row = RowPreview(rows, 1, prompt, response, 3, 12_345, "dropped", label, step, reason)
    for known in (row, None):
        cells = row_cells(rows, known, Columns.of(width, rows + 1), prompt[:3].casefold(), Style(), lambda _: Style())
        text = "".join(segment.text for segment in cells)
        assert_harmless(text)
        assert cell_len(text) <= width


@given(st.lists(HOSTILE, min_size=4, max_size=4), st.integers(40, 160))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_an_import_or_recipe_would_do_is_told_in_harmless_lines(tmp_path, texts, width):
    name, prompt, answer, reason = texts
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": prompt, "completion": answer, name: reason}, {"prompt": prompt, name: 3}, {"completion": answer}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = preview(str(path), format=None, mapping=None, trees="best", shown=3)
    assert_lines(sample_lines(seen, width), width)
    step = StepRow(name, 1_000_000, 999_999, {reason: 7, prompt: 2}, 0.1, notes=(reason, name))
    assert_lines(step_lines([step, step], max(width, 80)), 10**6)
    assert run_told(RunReport("v", 10, 5, "", [step], new=True)).startswith("v: 5 of 10 rows")


def test_every_part_of_the_screen_survives_it_at_any_size(tui, tmp_path):
    @settings(deadline=None, max_examples=2, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.lists(HOSTILE, min_size=8, max_size=8))
    def survives(texts):
        asyncio.run(_show(tui, tmp_path / f"{next(_numbers)}", [text.replace("\ud800", "") for text in texts]))

    survives()


async def _show(tui, folder, texts) -> None:
    workspace = Workspace.init(folder)
    a, b, c, d, *_ = texts
    rows = [{"messages": [{"role": "user", "content": x}, {"role": a, "content": y},
                          {"role": "assistant", "content": f"{y}!"}], b: x, "category": c}
            for x in texts for y in texts]  # fmt: skip
    good = [{"prompt": f"p{n} {x}", "completion": f"{y} c"} for n, (x, y) in enumerate(itertools.product(texts, texts))]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*good, *rows[:8])))
    workspace.import_file(path, name="rows", license=a)
    draft = workspace.draft("rows")
    ids = [row.id for row in workspace.examples("rows", limit=5).rows]
    draft.drop(ids[:2], d + "why")
    async with tui.running(workspace, size=(80, 24)) as pilot:
        app = pilot.app
        assert_painted(app)
        for key in ("j", "G", "right_square_bracket", "right_square_bracket", "g", "enter"):
            await pilot.press(key)
            await pilot.pause(0.05)
            assert_painted(app)
        await pilot.press("escape", "F")
        await pilot.pause(0.1)
        assert_painted(app)
        await pilot.press("escape")
        app.screen.query_one(RowList).highlight = a[:2].casefold()
        app.screen.refresh()
        for text in texts:
            app.say(text)
            await pilot.pause()
            assert_painted(app)
            app.screen.fail(text)
            await pilot.pause()
            assert_painted(app)
        for ask in (
            lambda: ask_text(app, a, detail=b),
            lambda: choose(app, c, [(x, x) for x in texts], detail=d),
            lambda: confirm(app, a, b),
            lambda: app.push_screen_wait(ReportDialog(c, lambda width: [], detail=d)),
        ):
            app.run_worker(ask())
            await tui.until(pilot, lambda: len(app.screen_stack) == 2 and tui.screen_text(app).strip())
            assert_painted(app)
            await pilot.press("escape")
            await tui.until(pilot, lambda: len(app.screen_stack) == 1)
        app.run_worker(app.tasks.run(f"importing {a}", lambda progress, cancelled: progress(3, 10, b)))
        for width, height in ((61, 20), (100, 30), (40, 10), (160, 48)):
            await pilot.resize_terminal(width, height)
            await pilot.pause(0.05)
            assert_painted(app)
    workspace.close()


class BareApp(App[None]):
    """Nothing but what dialogs need."""

    def on_mount(self) -> None:
        self.register_theme(DARK)
        self.theme = DARK.name

    def release_keys(self) -> None:
        """Nothing is typed ahead here."""


async def test_the_title_of_a_dialog_is_shown_as_it_is(tui):
    title = "/x/[INST] [A=\"] [Foo bar=']?"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    app = BareApp()
    async with app.run_test(size=(100, 24)) as pilot:
        for dialog in (ReportDialog(title, lambda width: []), EditDialog(title, turns)):
            app.push_screen(dialog)
            await tui.until(pilot, lambda: title in tui.screen_text(app))
            app.pop_screen()


async def test_a_line_of_a_megabyte_is_shown_and_passed_at_once(tui, workspace, tmp_path):
    path = tmp_path / "long.jsonl"
    long = "漢\u202e[/]" * 260_000
    rows = [{"prompt": "short", "completion": "short"}, {"prompt": long, "completion": long}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    workspace.import_file(path, name="long")
    async with tui.running(workspace, base="long") as pilot:
        await pilot.press("j")
        await tui.until(pilot, lambda: "1,300,000 characters" in tui.screen_text(pilot.app))
        assert_painted(pilot.app)
        await pilot.press("enter", "G", "escape", "j")
        await tui.until(pilot, lambda: pilot.app.screen.query_one(RowList).cursor == 2)
        await tui.until(pilot, lambda: "user  5 characters" in tui.screen_text(pilot.app))
