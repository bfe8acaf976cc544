"""Tokens as lines: every token has its place, every line fits, and long rows cost no more a token than short ones."""

from __future__ import annotations

from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult

from trainer.chat import MaskPolicy, tokenise
from trainer.models import load_tokenizer
from workbench.report.tokens import Border
from workbench.token_facts import Page, Stretch
from workbench.tui.theme import DARK
from workbench.tui.widgets import token_layout
from workbench.tui.widgets.token_layout import SAME, lay_out
from workbench.tui.widgets.token_view import TokenView

TOKENIZERS = Path(__file__).parents[3] / "../shared/tokenizers"
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "\x1b\x07\x00\r\n\t\u202e\u2066\u2028\u200b\u200d\ufe0f\u0301\u00a0\u3000[]漢\U0001f468\U0001f3fd"
        ),
    ),
    max_size=60,
).filter(lambda text: text.encode("utf-8", "ignore").decode() == text)


@pytest.fixture(scope="module")
def smollm():
    if not TOKENIZERS.exists():
        pytest.skip("the folder of real tokenizers is not here")
    return load_tokenizer(str(TOKENIZERS / "smollm2"))


def example_of(tokenizer, answer: str, prompt: str = "Why?"):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return tokenise(tokenizer, messages, None, MaskPolicy()).examples[0]


def page_of(example) -> Page:
    whole = (Stretch(0, len(example.input_ids), "user", (0,)),)
    return Page(example, 1, 1, None, (0, len(example.input_ids)), whole, frozenset())


def text_of(layout) -> str:
    return "\n".join("".join(text for text, _, _ in line.pieces) for line in layout.lines)


def test_every_token_stands_once_in_order_and_knows_its_line(smollm):
    example = example_of(smollm, "A river, 漢字 and 👨‍👩‍👧!\n\n    code\tx " + "long " * 60)
    layout = lay_out(example, 40)
    shown = [token for line in layout.lines for _, _, token in line.pieces]
    assert list(dict.fromkeys(shown)) == list(range(len(example.input_ids)))
    firsts: dict[int, int] = {}
    for number, line in enumerate(layout.lines):
        assert sum(cells for _, cells, _ in line.pieces) <= 40
        for _, _, token in line.pieces:
            assert layout.line_of[token] == firsts.setdefault(token, number)
        assert len({example.roles[token] for _, _, token in line.pieces}) == 1


def test_the_bytes_of_one_character_have_a_place_each(smollm):
    example = example_of(smollm, "漢")
    place = example.text.index("漢")
    tokens = [i for i, span in enumerate(example.offsets) if span == (place, place + 1)]
    assert len(tokens) > 1
    pieces = {token: text for line in lay_out(example, 60).lines for text, _, token in line.pieces}
    assert [pieces[token] for token in tokens] == ["漢", *[SAME] * (len(tokens) - 1)]


def test_spaces_become_glyphs_when_asked_for(smollm):
    example = example_of(smollm, "a  b\u00a0c\td")
    assert "a  b" in text_of(lay_out(example, 60))
    assert "a··b⍽c⇥d" in text_of(lay_out(example, 60, whitespace=True))


def test_words_are_kept_together_and_what_is_wider_than_a_line_is_divided(smollm):
    words = lay_out(example_of(smollm, "antidisestablishmentarianism " * 6), 40)
    for line in words.lines[-6:-1]:
        assert "".join(text for text, _, _ in line.pieces).strip().endswith("ism"), text_of(words)
    narrow = lay_out(example_of(smollm, "<|im_end|>"), 4)
    assert "<|im\n_end\n|>" in text_of(narrow)


def test_the_cut_is_a_rule_between_two_tokens(smollm):
    example = example_of(smollm, "one two three four five six")
    at = len(example.input_ids) - 5
    lines = lay_out(example, 60, border=Border(at, "the limit")).lines
    rule = next(number for number, line in enumerate(lines) if line.rule)
    assert lines[rule].rule == "the limit"
    assert {token for line in lines[:rule] for _, _, token in line.pieces} == set(range(at))
    assert lines[rule + 1].pieces[0][2] == at


@pytest.mark.parametrize("text", ["word and more ", "x", "漢", "\u200d", "a\n"])
def test_twice_as_long_a_row_is_at_most_twice_the_work(smollm, monkeypatch, text):
    """Work is counted: characters looked at for glyphs and cells, and pieces put on lines and moved."""
    work = 0

    def counting(function, size):
        def counted(*args):
            nonlocal work
            work += size(*args)
            return function(*args)

        return counted

    monkeypatch.setattr(token_layout, "_glyphs", counting(token_layout._glyphs, lambda text, _: len(text) + 1))
    monkeypatch.setattr(token_layout, "cell_len", counting(cell_len, len))

    def moved(lines, glyphs, *_):
        return 1 + len(lines._pieces) * (lines._used + cell_len(glyphs) > lines.width)

    monkeypatch.setattr(token_layout._Lines, "add", counting(token_layout._Lines.add, moved))
    spent = []
    for length in (2_000, 4_000, 8_000):
        example = example_of(smollm, text * (length // len(text)))
        work = 0
        lay_out(example, 70)
        spent.append(work)
    # The head of every row is the same: beyond it, twice the text is twice the work, and no more.
    assert spent[2] - spent[1] <= 2.1 * (spent[1] - spent[0])
    assert spent[2] < 20 * 8_000


@given(HOSTILE, HOSTILE, st.integers(2, 60), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_laid_out_in_lines_that_fit_and_shows_every_token(smollm, prompt, answer, width, whitespace):
    example = example_of(smollm, answer, prompt)
    layout = lay_out(example, width, whitespace=whitespace)
    seen = [token for line in layout.lines for _, _, token in line.pieces if token is not None]
    assert sorted(set(seen)) == list(range(len(example.input_ids)))
    assert seen == sorted(seen)
    for line in layout.lines:
        for text, cells, token in line.pieces:
            assert cells == cell_len(text)
            assert cells or token is None
            assert not {category(char) for char in text} & {"Cc", "Cs", "Zl", "Zp"}
            assert not set("\u202e\u2066\u200b\u200d\ufe0f") & set(text)
        assert sum(cells for _, cells, _ in line.pieces) <= max(width, 2)


class _Alone(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def compose(self) -> ComposeResult:
        yield TokenView()


@pytest.mark.parametrize("no_color", [False, True])
async def test_every_strip_of_hostile_text_has_exactly_the_width(smollm, tui, monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    texts = [
        tui.hostile[:-1] * 3,
        "漢" * 90,
        "\u0301" * 50,
        "👨‍👩‍👧" * 20,
        "",
        "\n\n\n",
        "x" * 300,
        "\u3000\u00a0" * 40,
    ]
    app = _Alone()
    async with app.run_test(size=(60, 20)) as pilot:
        view = app.query_one(TokenView)
        for text in texts:
            page = page_of(example_of(smollm, text, text))
            for losses in (None, [None, *[i % 9 * 0.9 for i in range(len(page.example.input_ids) - 1)]]):
                view.set_page(page, lay_out(page.example, view.room))
                view.set_losses(losses)
                for token in (0, len(page.example.input_ids) // 2, len(page.example.input_ids) - 1):
                    view.move_to(token)
                    await pilot.pause(0)
                    for y in range(view.size.height):
                        strip = view.render_line(y)
                        assert strip.cell_length == view.scrollable_content_region.width
                        assert sum(cell_len(segment.text) for segment in strip) == strip.cell_length
                        assert all(segment.style is not None for segment in strip)
