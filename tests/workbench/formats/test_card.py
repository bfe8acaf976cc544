"""A dataset card is what the hub reads, says what it must, and shows text from data as text, whatever it holds."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from workbench.formats.card import Card, CardFile, CardSource, CardStage, CardTokens, Size, card_text
from workbench.formats.licences import licence_fields
from workbench.markdown import code_block, plain

STEP = {
    "name": "refusal",
    "in": 10,
    "dropped": 3,
    "reasons": {"refusal: as an AI": 3},
    "notes": ["1 could not be judged, kept", "2 rewritten: 2 redacted mail"],
}
SOURCE = CardSource("raw", "rows.json", "MIT", "ab12", 7, 12, 2)
CARD = Card(
    name="clean",
    rows=7,
    written=7,
    manifest_hash="f" * 64,
    format="messages",
    data="out.jsonl",
    lost=[],
    notes=[],
    sources=[SOURCE],
    stages=[CardStage("clean", ["raw"], 10, 7, [STEP], "steps:\n  - refusal\n")],
    sizes={"assistant": Size(8, 100, 20), "user": Size(8, 1050, 30)},
    untrained=0,
    tokens=None,
    languages={},
    commands=["workbench init .", "workbench import rows.json --name raw"],
    by_hand=0,
)


def front_matter(card: Card) -> dict:
    return DatasetCard(card_text(card)).data.to_dict()


def tokens(text: str) -> list[Token]:
    """The Markdown below the front matter, as GitHub and the hub read it, all levels in one list."""
    found: list[Token] = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(DatasetCard(text).text):
        found += [token, *(token.children or [])]
    return found


def shape(text: str) -> list[str]:
    """What the Markdown is made of, without what it says."""
    return [token.type for token in tokens(text) if token.type != "text"]


def shown(text: str) -> str:
    """What a reader sees."""
    return "\n".join(token.content for token in tokens(text) if token.type in ("text", "code_inline", "fence"))


def test_the_front_matter_is_what_the_hub_reads():
    assert front_matter(CARD) == {
        "pretty_name": "clean",
        "license": "mit",
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["sft-workbench"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "out.jsonl"}]}],
    }
    assert "configs" not in front_matter(dataclasses.replace(CARD, data=None))


@pytest.mark.parametrize(
    ("rows", "category"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**8, "100M<n<1B"), (10**9, "n>1B")]
)
def test_sizes_are_those_of_the_hub(rows, category):
    assert front_matter(dataclasses.replace(CARD, written=rows))["size_categories"] == [category]


def test_languages_are_told_where_known_and_rare_ones_not_believed():
    known = dataclasses.replace(CARD, languages={"en": 970, "de": 20, "la": 5})
    assert front_matter(known)["language"] == ["de", "en"]


@pytest.mark.parametrize(
    ("stated", "fields"),
    [
        (["MIT"], ("mit", None)),
        (["CC BY-NC 4.0", "cc_by-nc-4.0"], ("cc-by-nc-4.0", None)),
        (["MIT", "Apache-2.0"], (["apache-2.0", "mit"], None)),
        ([None], ("unknown", None)),
        (["", None, "MIT"], (["mit", "unknown"], None)),
        ([], ("unknown", None)),
        (["Our own: ask Bob!"], ("other", "our-own-ask-bob")),
        (["Ours", None, "MIT", "Theirs"], (["mit", "other", "unknown"], "ours-and-theirs")),
        (["?!"], ("other", None)),
        (["x" * 300], ("other", "x" * 100)),
    ],
)
def test_licences_are_those_of_the_hub_or_named_as_others(stated, fields):
    assert licence_fields(stated) == fields


def test_it_says_how_many_rows_came_fell_and_why():
    text = card_text(CARD)
    assert "10 rows in, 3 dropped, 7 left" in text
    why = "3 refusal: as an AI, (1 could not be judged, kept), (2 rewritten: 2 redacted mail)"
    assert f"| refusal | 10 | 3 | 7 | {why} |" in text
    assert "| raw | MIT | 7 | 12 | 2 | rows.json | `ab12` |" in text
    assert "| all | 16 | 1,150 | 50 |" in text
    assert "- refusal\n```" in text
    assert "f" * 64 in text
    assert "All rows come under MIT." in text
    assert "Tokens were not counted" in text
    counted = dataclasses.replace(CARD, tokens=CardTokens("qwen3", 1234, 567, 89, {"expanded": 2}))
    assert "1,234 tokens, 567 of them trained; the longest training example has 89" in card_text(counted)


def test_mixed_and_unknown_licences_are_said_plainly():
    other = dataclasses.replace(SOURCE, name="other", license="CC BY 4.0", rows=3)
    none = dataclasses.replace(SOURCE, name="none", license=None, rows=5)
    mixed = card_text(dataclasses.replace(CARD, sources=[SOURCE, other]))
    assert "**Mixed licences**: each row keeps that of its source. MIT (7 rows); CC BY 4.0 (3 rows)." in mixed
    assert "unknown" not in mixed.lower()
    both = card_text(dataclasses.replace(CARD, sources=[SOURCE, none]))
    assert "MIT (7 rows); not stated (5 rows)." in both
    assert "**Licence unknown**: for 5 rows nobody stated one." in both
    alone = card_text(dataclasses.replace(CARD, sources=[none]))
    assert "**Licence unknown**" in alone
    assert "Mixed" not in alone


def test_losses_notes_marks_and_work_by_hand_are_told():
    assert "- Nothing.\n" in card_text(CARD)
    said = card_text(dataclasses.replace(CARD, lost=["Turns that lost their `name`: 3"], notes=["Look out"], by_hand=2))
    assert "- Nothing." not in said
    assert "Turns that lost their `name`: 3" in shown(said)
    assert "- Look out" in said
    assert "2 rows were corrected or edited by hand: these commands alone do not do that." in said
    manual = CardStage("clean", ["raw"], 10, 7, [{**STEP, "name": "manual"}], "steps:\n")
    assert "\n3 rows were dropped by hand: " in card_text(dataclasses.replace(CARD, stages=[manual]))
    assert "TRL does not know the mark" in card_text(dataclasses.replace(CARD, untrained=4))


def test_the_files_of_a_source_that_has_several_are_listed():
    files = [CardFile(f"part-{i}.jsonl", f"{i:064}", 4) for i in range(60)]
    text = card_text(dataclasses.replace(CARD, sources=[dataclasses.replace(SOURCE, files=files)]))
    assert "| raw | part-49.jsonl | 4 |" in text
    assert "And 10 more files." in text
    assert "part-50" not in text
    assert "rows.json |" in card_text(dataclasses.replace(CARD, sources=[dataclasses.replace(SOURCE, files=files[:1])]))


HOSTILE = [
    "---\nlicense: mit\n---", "a | b | c", "x\n\n# Owned\n\n<script>alert(1)</script>", "<!-- ", "-->", "a\\", "\\|",
    "``` ` ````", "```\n# out of the fence\n", "~~~~", "[click](javascript:x)", "![x](y)", "[x]: y", "&lt;&#35;",
    "**bold** _it_ ~~gone~~ $$x$$", "'; rm -rf ~ #", '"', "': {", "!!python/object:os.system x", "@x: %y", "\\", "*",
    "\x1b[31mred\x00\x07", "\u202egnp.exe", "\u2028\u0085\r\n", "- 1. > # text", "1. one", "+ one", "=", "    code",
    "null", "no", "1e3", "a: b", "# h", "> q", "https://example.org/?a=b&c",
]  # fmt: skip


def filled(text: str) -> Card:
    """A card with `text` wherever text of data or people may stand."""
    return dataclasses.replace(
        CARD,
        name=text,
        data=text or "x",
        lost=[text],
        notes=[text],
        sources=[
            CardSource(text, text, text, text, 7, 12, 2, [CardFile(text, text, 1), CardFile(text, text, 2)]),
        ],
        stages=[CardStage(text, [text, text], 10, 7, [{**STEP, "name": text, "reasons": {text: 3}}], text)],
        sizes={text: Size(1, 2, 3)},
        tokens=CardTokens(text, 1, 1, 1, {text: 1}),
        languages={"en": 1},
        commands=[f"workbench import {shlex.quote(text)}"],
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_breaks_neither_yaml_nor_markdown(text):
    card = card_text(filled(text))
    fields = front_matter(filled(text))
    assert (fields["pretty_name"], fields["configs"][0]["data_files"][0]["path"]) == (text, text)
    assert {*fields, "license_name"} == set(front_matter(filled("text")))
    assert shape(card) == shape(card_text(filled("text")))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\u2028\x85]", DatasetCard(card).text)


def test_text_is_shown_as_it_is():
    for text in ("a|b", "<b>&amp;</b>", "**x** [y](z) `c` ~~d~~ \\ # ! $", "_u_"):
        assert text in shown(card_text(filled(text)))


printable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(text=printable | st.text("|`\\<>*_[]()#-\n~&!$", min_size=1, max_size=12))
def test_no_text_breaks_a_line_or_a_fence(text):
    line = MarkdownIt("gfm-like", {"linkify": False}).parse(f"| a | b |\n| --- | --- |\n| x{plain(text)}x | end |")
    assert sum(token.type == "td_open" for token in line) == 2
    block = MarkdownIt().parse(f"{code_block(text, 'sh')}\n\nafter")
    assert [token.type for token in block] == ["fence", "paragraph_open", "inline", "paragraph_close"]
