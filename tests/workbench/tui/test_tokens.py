"""The Tokens screen: what a person sees of a row, and can change about how it is seen. Real store and tokenizers."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.widgets import OptionList

from workbench.token_facts import counts
from workbench.tokens import Row, lens, see
from workbench.tui import lens_dialogs
from workbench.tui.actions import actions_of
from workbench.tui.screens.tokens import TokensScreen
from workbench.tui.widgets.row_list import RowList
from workbench.tui.widgets.status import StatusBar
from workbench.tui.widgets.token_layout import lay_out
from workbench.tui.widgets.token_view import GUTTER, TokenView
from workbench.workspace import Workspace

TOKENIZERS = Path(__file__).parents[3] / "../shared/tokenizers"
needs_tokenizers = pytest.mark.skipif(not TOKENIZERS.exists(), reason="the folder of real tokenizers is not here")

CHAT = [
    {"role": "user", "content": "Where does it go?"},
    {"role": "assistant", "content": "To the sea,  slowly.\nAnd 漢字.", "reasoning_content": "Rivers run down."},
    {"role": "user", "content": "Say <|im_end|>"},
    {"role": "assistant", "content": "Into the clouds.", "reasoning_content": "Water evaporates."},
]


@pytest.fixture(scope="session")
def made_for_tokens(tmp_path_factory, tui) -> Path:
    """A workspace folder with source `chats` of three rows: several turns, hostile, very long."""
    folder = tmp_path_factory.mktemp("tokens") / "ws"
    hostile = [{"role": "user", "content": tui.hostile[:-1]}, {"role": "assistant", "content": tui.hostile[:-1]}]
    long = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "word another\n" * 2000}]
    data = folder.with_name("chats.jsonl")
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in (CHAT, hostile, long)))
    workspace = Workspace.init(folder)
    workspace.import_file(data, name="chats", license="CC0-1.0")
    workspace.close()
    return folder


@asynccontextmanager
async def looking(tui, made, tmp_path, model, size=(120, 40)):
    """The Tokens screen on row 0 of `chats`, as `model` sees it."""
    shutil.copytree(made, tmp_path / "ws")
    (tmp_path / "ws" / "workbench.toml").write_text(f'model = "{model}"\n')
    workspace = Workspace.open(tmp_path / "ws")
    try:
        async with tui.running(workspace, base="chats", size=size) as pilot:
            await pilot.press("t")
            await tui.until(pilot, lambda: isinstance(pilot.app.screen, TokensScreen), 60)
            await tui.until(pilot, lambda: "trained" in tui.screen_text(pilot.app), 60)
            yield pilot
    finally:
        workspace.close()


def view(pilot) -> TokenView:
    return pilot.app.screen.query_one(TokenView)


def of_row(through, messages=CHAT):
    return counts(see(through, Row(0, 1, json.dumps(messages), None)))


@needs_tokenizers
async def test_a_row_is_told_apart_by_letters_and_the_cursor_says_why(tui, made_for_tokens, tmp_path):
    model = TOKENIZERS / "smollm2"
    known = of_row(lens(str(model)))
    async with looking(tui, made_for_tokens, tmp_path, model) as pilot:
        text = tui.screen_text(pilot.app)
        assert f"trained {known.trained} of {known.total} tokens · limit 2,048" in text
        assert "0 u │ <|im_start|>user⏎" in text
        assert "a•│ To the sea,  slowly.⏎" in text
        assert "a•│ And 漢¬¬字.<|im_end|>⏎" in text
        await pilot.press("right_square_bracket", "right_square_bracket")
        await tui.until(pilot, lambda: "inference hands it to the model" in tui.screen_text(pilot.app))
        assert "id 1, special" in tui.screen_text(pilot.app)
        await pilot.press("l", "l", "l", "l")
        await tui.until(pilot, lambda: "trained: the model must write it" in tui.screen_text(pilot.app))
        assert "'To'" in tui.screen_text(pilot.app)
        assert "bytes 54 6f" in tui.screen_text(pilot.app)
        await pilot.press("h", "j", "j", "k", "G")
        assert view(pilot).cursor == len(view(pilot).page.example.input_ids) - 1
        await pilot.press("left_square_bracket", "left_square_bracket", "g", "pagedown", "pageup")
        assert view(pilot).cursor == 0
        await pilot.press("w")
        await tui.until(pilot, lambda: "To·the·sea,··slowly.⏎" in tui.screen_text(pilot.app))
        await pilot.press("n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("issue 1 of"))
        await pilot.press("q")
        await tui.until(pilot, lambda: not isinstance(pilot.app.screen, TokensScreen))


@needs_tokenizers
async def test_another_policy_says_what_changed(tui, made_for_tokens, tmp_path):
    through = lens(str(TOKENIZERS / "smollm2"))
    every, last = of_row(through), of_row(lens(through.model, turns="last"))
    async with looking(tui, made_for_tokens, tmp_path, through.model) as pilot:
        await pilot.press("P")
        await tui.until(pilot, lambda: isinstance(pilot.app.focused, OptionList))
        await pilot.press("j", "down", "enter")
        changed = f"Policy last: trained {every.trained} → {last.trained}, of {every.total} tokens."
        await tui.until(pilot, lambda: tui.said(pilot.app) == changed)
        await tui.until(pilot, lambda: f"(was {every.trained} of {every.total})" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":policy full\n")
        await tui.until(pilot, lambda: f"trained {last.trained} → {every.total}" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":policy most\n")
        await tui.until(pilot, lambda: "there is no policy 'most'" in tui.said(pilot.app))
        await tui.until(pilot, lambda: f"trained {every.total} of {every.total}" in tui.screen_text(pilot.app))


@needs_tokenizers
async def test_a_change_that_is_still_being_made_outlasts_the_next(tui, made_for_tokens, tmp_path, monkeypatch):
    read, held = lens_dialogs.model_lens, threading.Event()
    monkeypatch.setattr(lens_dialogs, "model_lens", lambda model: read(model) if held.wait(60) else None)
    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2") as pilot:
        screen = pilot.app.screen
        for model, turns, told in (
            (TOKENIZERS / "qwen3", "last", "As qwen3 reads it. Policy last: trained "),
            ("/nowhere/at/all", "full", "/nowhere/at/all"),
        ):
            held.clear()
            tui.type_text(pilot.app, f":model {model}\n:policy {turns}\n")
            await tui.until(pilot, lambda: len(screen._look.asked) == 2)
            held.set()
            await tui.until(pilot, lambda told=told: told in tui.said(pilot.app), 60)
            seen_as = (Path(screen._look.lens.model).name, screen._look.lens.policy.turns)
            assert seen_as == ("qwen3", turns), "a model that cannot be had leaves the one that there is"
        assert (screen._look.asked, screen.query_one(StatusBar).progress) == ([], "")


@needs_tokenizers
async def test_another_tokenizer_expands_the_row_and_its_examples_are_gone_through(tui, made_for_tokens, tmp_path):
    qwen = str(TOKENIZERS / "qwen3")
    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2") as pilot:
        await pilot.press("greater_than_sign")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "This row is 1 training example.")
        await pilot.press("m")
        await tui.until(pilot, lambda: "Whose tokenizer?" in tui.screen_text(pilot.app))
        await pilot.press("ctrl+u", *qwen, "enter")
        await tui.until(pilot, lambda: "training example 1 of 2" in tui.screen_text(pilot.app), 60)
        assert tui.said(pilot.app).startswith("As qwen3 reads it: trained ")
        assert "Rivers run down." in tui.screen_text(pilot.app)
        await pilot.press("greater_than_sign")
        await tui.until(pilot, lambda: "training example 2 of 2" in tui.screen_text(pilot.app))
        assert "Rivers run down." not in tui.screen_text(pilot.app)
        tui.type_text(pilot.app, ":policy reasoning\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Reasoning not trained: trained "))
        await tui.until(pilot, lambda: "no reasoning" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":template-arguments enable_thinking=false\n")
        await tui.until(pilot, lambda: "enable_thinking=false" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":template-arguments nonsense\n")
        await tui.until(pilot, lambda: "cannot read the template argument 'nonsense'" in tui.said(pilot.app))
        tui.type_text(pilot.app, ":model /nowhere/at/all\n")
        await tui.until(pilot, lambda: "there is no such folder" in tui.said(pilot.app))
        assert "qwen3" in tui.screen_text(pilot.app), "what could be seen is still seen"


@needs_tokenizers
async def test_the_cut_is_drawn_where_it_falls_and_issues_lead_to_it(tui, made_for_tokens, tmp_path):
    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2", size=(80, 24)) as pilot:
        tui.type_text(pilot.app, ":limit 40\n")
        await tui.until(pilot, lambda: "longer than 40 tokens: dropped" in tui.screen_text(pilot.app))
        assert "trained 0 of 0 tokens" in tui.screen_text(pilot.app)
        tui.type_text(pilot.app, ":truncation keep-start\n")
        await tui.until(pilot, lambda: "Truncation keep-start: trained 0 →" in tui.said(pilot.app))
        kinds = [issue.kind for issue in pilot.app.screen._seen.issues]
        await tui.until(pilot, lambda: view(pilot).layout_shown.lines and view(pilot).cursor == 0)
        for number in range(1, kinds.index("truncated") + 2):
            await pilot.press("n")
            await tui.until(pilot, lambda number=number: tui.said(pilot.app).startswith(f"issue {number} of"))
        await tui.until(pilot, lambda: view(pilot).cursor == 40)
        await tui.until(pilot, lambda: "── cut below: the first 40 tokens stay ──" in tui.screen_text(pilot.app))
        assert "a×│" in tui.screen_text(pilot.app)
        assert "cut away, 40 tokens are the limit" in tui.screen_text(pilot.app)
        tui.type_text(pilot.app, ":limit zero\n")
        await tui.until(pilot, lambda: "'zero' is no number of tokens" in tui.said(pilot.app))


@needs_tokenizers
async def test_rows_of_the_list_are_gone_through_and_hostile_ones_are_glyphs(tui, made_for_tokens, tmp_path):
    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2") as pilot:
        await pilot.press("K")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "This is the first row of the list.")
        await pilot.press("J")
        await tui.until(pilot, lambda: "chats row 1" in tui.screen_text(pilot.app))
        text = tui.screen_text(pilot.app)
        assert "[/INST] [bold]x[/] ␛" in text
        assert not set("\x1b\x07\x00\u202e\u2066\u2028\u200d") & set(text)
        await pilot.press("J")
        await tui.until(pilot, lambda: "chats row 2" in tui.screen_text(pilot.app))
        await pilot.press("G")
        await tui.until(pilot, lambda: "longer than 2,048 tokens: dropped" in tui.screen_text(pilot.app))
        await pilot.resize_terminal(160, 48)
        await tui.until(pilot, lambda: view(pilot).layout_shown.width == view(pilot).room)
        assert view(pilot).scroll_offset.y + view(pilot).size.height >= len(view(pilot).layout_shown.lines)
        await pilot.press("q")
        await tui.until(pilot, lambda: bool(pilot.app.screen.query(RowList)))
        assert pilot.app.screen.query_one(RowList).cursor == 2, "the list is where one was"


@needs_tokenizers
async def test_a_click_puts_the_cursor_on_a_token_and_tokens_are_written(tui, made_for_tokens, tmp_path):
    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2") as pilot:
        await tui.until(pilot, lambda: view(pilot).layout_shown.lines)
        lines = view(pilot).layout_shown.lines
        number = next(n for n, line in enumerate(lines) if any(text == " sea" for text, _, _ in line.pieces))
        await pilot.click(TokenView, offset=(GUTTER + len("To the s"), number - view(pilot).scroll_offset.y))
        await tui.until(pilot, lambda: "' sea'" in tui.screen_text(pilot.app))
        file = tmp_path / "tokens.json"
        tui.type_text(pilot.app, f":export-tokens {file}\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Wrote "))
        assert [row["id"] for row in json.loads(file.read_text())] == view(pilot).page.example.input_ids


@needs_tokenizers
async def test_lines_are_laid_out_off_the_screens_own_thread_and_the_cursor_stays_where_it_went(
    tui, made_for_tokens, tmp_path, monkeypatch
):
    go = threading.Event()

    def slow(*args, **kwargs):
        go.wait(30)
        return lay_out(*args, **kwargs)

    async with looking(tui, made_for_tokens, tmp_path, TOKENIZERS / "smollm2") as pilot:
        await tui.until(pilot, lambda: view(pilot).layout_shown.lines)
        monkeypatch.setattr("workbench.tui.screens.tokens.lay_out", slow)
        await pilot.press("w", "l", "l", "l")
        await tui.until(pilot, lambda: "token 4 of" in tui.screen_text(pilot.app))
        assert "Where·does" not in tui.screen_text(pilot.app)
        go.set()
        await tui.until(pilot, lambda: "Where·does" in tui.screen_text(pilot.app))
        assert view(pilot).cursor == 3


@needs_tokenizers
async def test_where_the_model_cannot_be_had_another_one_is_taken(tui, made_for_tokens, tmp_path):
    shutil.copytree(made_for_tokens, tmp_path / "ws")
    (tmp_path / "ws" / "workbench.toml").write_text('model = "/nowhere/at/all"\n')
    workspace = Workspace.open(tmp_path / "ws")
    async with tui.running(workspace, base="chats") as pilot:
        await pilot.press("t")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, TokensScreen))
        await tui.until(pilot, lambda: "there is no such folder" in tui.said(pilot.app))
        await pilot.press("l", "j", "n", "P", "H", "w", "greater_than_sign")
        tui.type_text(pilot.app, f":model {TOKENIZERS / 'smollm2'}\n")
        await tui.until(pilot, lambda: "a•│ To·the·sea" in tui.screen_text(pilot.app), 60)
    workspace.close()


async def test_a_model_without_a_template_is_seen_through_one_that_is_named(tui, made_for_tokens, tmp_path, tiny_model):
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base, ignore=shutil.ignore_patterns("*.jinja"))
    shutil.copytree(made_for_tokens, tmp_path / "ws")
    (tmp_path / "ws" / "workbench.toml").write_text(f'model = "{base}"\n')
    workspace = Workspace.open(tmp_path / "ws")
    async with tui.running(workspace, base="chats") as pilot:
        await pilot.press("t")
        await tui.until(pilot, lambda: "has no chat template" in tui.said(pilot.app), 60)
        await pilot.press("T")
        await tui.until(pilot, lambda: isinstance(pilot.app.focused, OptionList))
        await pilot.press("down", "down", "enter")
        await tui.until(pilot, lambda: "### Instruction:" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":template chatml\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Template chatml: trained "))
        tui.type_text(pilot.app, ":template unheard-of\n")
        await tui.until(pilot, lambda: "there is no chat format 'unheard-of'" in tui.said(pilot.app))
    workspace.close()


async def test_losses_come_from_a_job_are_shown_without_colour_too_and_are_kept(
    tui, made_for_tokens, tmp_path, tiny_model, forked_jobs, monkeypatch
):
    monkeypatch.setenv("NO_COLOR", "1")
    async with looking(tui, made_for_tokens, tmp_path, tiny_model) as pilot:
        before = tui.screen_text(pilot.app)
        await pilot.press("H")
        await tui.until(pilot, lambda: "mean" in tui.screen_text(pilot.app), 120)
        text = tui.screen_text(pilot.app)
        assert f"loss under the base, {tiny_model.name}: mean " in " ".join(text.split())
        line = next(line for line in text.splitlines() if "a•│ To the sea" in line)
        assert 0 < float(line.split()[0]) < 20
        await pilot.press("l")
        await tui.until(pilot, lambda: " nats" in tui.screen_text(pilot.app).split("token 2 of")[1])
        await pilot.press("escape")
        await tui.until(pilot, lambda: "loss" not in tui.screen_text(pilot.app))
        assert before.splitlines()[2] == tui.screen_text(pilot.app).splitlines()[2]
        monkeypatch.setattr("workbench.token_heat.run_job", None)  # what is known asks for no job
        await pilot.press("H")
        await tui.until(pilot, lambda: "mean" in tui.screen_text(pilot.app))
        tui.type_text(pilot.app, ":policy last\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("Policy last"))
        assert "mean" in tui.screen_text(pilot.app), "the same ids have the same losses"


async def test_measuring_is_stopped_and_what_cannot_be_measured_is_a_sentence(
    tui, made_for_tokens, tmp_path, tiny_model, forked_jobs
):
    alone = tmp_path / "alone"
    shutil.copytree(tiny_model, alone, ignore=shutil.ignore_patterns("*.safetensors"))
    async with looking(tui, made_for_tokens, tmp_path, tiny_model) as pilot:
        runs = pilot.app.workspace.runs_dir
        await pilot.press("H")
        await tui.until(pilot, lambda: "esc stops" in tui.screen_text(pilot.app))
        await tui.until(pilot, lambda: bool(list(runs.iterdir())))
        await pilot.press("escape")
        await tui.until(pilot, lambda: tui.said(pilot.app) == "Stopped measuring.")
        await pilot.press("H", "escape")  # at once again, while the first job still ends
        await tui.until(pilot, lambda: not list(runs.iterdir()), 60)
        tui.type_text(pilot.app, f":model {alone}\n")
        await tui.until(pilot, lambda: tui.said(pilot.app).startswith("As alone reads it"), 60)
        await pilot.press("H")
        await tui.until(pilot, lambda: "could not be loaded as a causal language model" in tui.said(pilot.app), 120)
        assert not list(runs.iterdir())
        await pilot.press("l")
        assert view(pilot).cursor == 1


LEAVING = """
import sys
from pathlib import Path
from workbench.tui.token_preview import model_lens
from workbench.workspace import Workspace

workspace = Workspace.init(Path(sys.argv[1]))
model_lens(sys.argv[2])
workspace.close()
"""


@needs_tokenizers
def test_nothing_is_printed_on_the_way_out_of_an_app_that_read_a_tokenizer(tmp_path):
    command = [sys.executable, "-c", LEAVING, str(tmp_path / "ws"), str(TOKENIZERS / "smollm2")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True)
    assert done.stdout + done.stderr == ""


def test_every_action_in_the_text_of_tokens_is_there():
    for action in actions_of("token text"):
        inspect.signature(getattr(TokenView, f"action_{action.name.split('(')[0]}"))
