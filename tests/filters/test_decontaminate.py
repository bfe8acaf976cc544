from __future__ import annotations

import json
import random

import numpy as np
import pytest

from filters.pipeline import run
from filters.recipe import parse_recipe
from trainer.errors import UsageProblem

PROMPT = (
    "A farmer has seventeen sheep and sells all but nine of them at the spring market in the next town. "
    "How many sheep does the farmer have left when he comes home?"
)
OTHER = "Explain to a child of eight why the moon sometimes looks like a thin bow and sometimes like a full plate."


@pytest.fixture
def dropped(batches, talk):
    """{id: drop} of the rows (prompt, answer) against eval prompts, by the step with these parameters."""

    def go(rows, prompts, params="", **options):
        items = batches([prompt if isinstance(prompt, list) else talk(prompt, "The reference.") for prompt in prompts])
        recipe = parse_recipe(f"steps:\n  - decontaminate: {{against: [gold], max_drop: 1{params}}}\n")
        made = batches([row if isinstance(row, list) else talk(*row) for row in rows])
        (outcome,) = run(recipe, made, items={"gold": items}.__getitem__, **options)
        return {drop.id: drop for drop in outcome.drops}

    return go


def test_a_prompt_falls_verbatim_in_other_case_and_inside_more_text(dropped):
    rows = [
        (PROMPT, "Nine."),
        (PROMPT.upper().replace(" ", "\n"), "Nine."),
        (f"Solve this riddle and show each step. {PROMPT} Give a number.", "Nine."),
        ("Tell me a riddle.", f"Here is one: {PROMPT}"),
        ("How many sheep are there in Wales, and how many of them are sold at a market in spring?", "Many."),
    ]
    found = dropped(rows, [OTHER, PROMPT])
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0].reason == "eval prompt"
    assert found[0].score == 1.0
    assert found[0].detail.startswith("100% of item 1 of gold: “a farmer has seventeen sheep")


def test_one_side_alone_can_be_searched(dropped):
    rows = [(PROMPT, "Nine."), ("Tell me a riddle.", f"Here is one: {PROMPT}")]
    assert sorted(dropped(rows, [PROMPT], ", on: prompt")) == [0]
    assert sorted(dropped(rows, [PROMPT], ", on: response")) == [1]


def test_more_than_the_share_of_the_words_must_be_there(dropped):
    words = [f"w{i}" for i in range(40)]
    prompt = " ".join(words)

    def holding(n):
        return (" ".join([f"a{n}b{i}" for i in range(9)] + words[:n] + [f"c{n}d{i}" for i in range(9)]), "Yes.")

    # One row at a time: words that several rows share count less.
    assert not dropped([holding(20)], [prompt])
    assert dropped([holding(21)], [prompt])[0].score == pytest.approx(21 / 40, abs=0.06)
    assert not dropped([holding(7)], [prompt], ", share: 0")  # no run of eight
    assert dropped([holding(8)], [prompt], ", share: 0")
    assert not dropped([holding(12)], [prompt], ", ngram: 13, share: 0")
    assert dropped([holding(13)], [prompt], ", ngram: 13, share: 0")


def test_runs_are_counted_once_and_pieces_add_up(dropped):
    words = [f"w{i}" for i in range(30)]
    pieces = " x1 ".join([" ".join(words[:10]), " ".join(words[5:15]), " ".join(words[20:30])])
    (found,) = dropped([(pieces, "Yes.")], [" ".join(words)]).values()
    assert found.score == pytest.approx(25 / 30, abs=0.05)


def test_words_in_another_order_are_another_text(dropped):
    words = PROMPT.split()
    shuffled = words[:]
    random.Random(0).shuffle(shuffled)
    assert not dropped([(" ".join(shuffled), "Nine.")], [PROMPT], ", share: 0")


def test_boilerplate_counts_little_and_a_prompt_in_many_rows_still_falls(dropped):
    frame = "Write a short function in the Python language that takes a list of whole numbers and"
    asked = f"{frame} returns its middle value"
    rows = [(f"{frame} does task number {i} on the list", "def f(x): ...") for i in range(300)]
    assert len(dropped(rows[:1], [asked])) == 1  # alone, most of the prompt is there
    assert not dropped(rows, [asked])  # three hundred rows say that this is only how such prompts begin
    leaked = rows + [(asked, "def f(x): ...")] * 40
    found = dropped(leaked, [asked])
    assert sorted(found) == list(range(300, 340))
    assert {drop.score for drop in found.values()} == {1.0}


def test_a_short_prompt_is_found_as_a_whole_turn_only(dropped):
    rows = [("Name three birds!", "Heron, stork, owl."), ("Name three birds and three trees that you like.", "No.")]
    found = dropped([*rows, ("name  three birds", "Owl.")], ["Name three birds."])
    assert sorted(found) == [0, 2]


def test_the_prompt_of_which_a_row_holds_most_is_named(dropped):
    half = " ".join(PROMPT.split()[:22])
    found = dropped([(f"{PROMPT} And why?", "Nine.")], [f"{half} and nothing else at all, I say", PROMPT])
    assert "item 1 of gold" in found[0].detail


def test_what_embeddings_find_besides_is_told_apart(dropped):
    def embed(texts, model):
        near = np.array([[1.0, 0.0] if "sheep" in text else [0.0, 1.0] for text in texts], dtype=np.float32)
        near[[i for i, text in enumerate(texts) if text == "?"]] = np.nan
        return near

    rows = [("Seventeen sheep, all but nine sold: what remains?", "Nine."), ("A bow?", "Yes."), ("?", "No.")]
    assert not dropped(rows, [PROMPT], embed=embed)
    (found,) = dropped(rows, [PROMPT], ", semantic: 0.9", embed=embed).values()
    assert (found.id, found.reason, found.detail) == (0, "like an eval prompt", "cosine to item 0 of gold")


def test_without_eval_sets_to_read_the_error_says_so(batches, talk):
    recipe = parse_recipe("steps:\n  - decontaminate: {against: [gold]}\n")
    with pytest.raises(UsageProblem, match="Pass items="):
        list(run(recipe, batches([talk("a", "b")])))


def test_it_finds_what_a_plain_search_finds_in_real_prompts(dropped, shared_rows):
    """Against sets of word tuples, on 1,000 instructions of which 40 are the eval prompts, some of them cut."""
    from filters.text import normalise, words_and_signs

    rows = shared_rows("alpaca/alpaca_en.json")
    prompts = [row.text("prompt") for row in rows[::25]]
    cut = [" ".join(text.split()[: max(1, int(len(text.split()) * 0.7))]) for text in prompts]
    made = [row.messages for row in rows] + [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}] for text in cut
    ]

    def grams(text):
        words = words_and_signs(normalise(text, ignore_case=True))
        return {i: tuple(words[i : i + 8]) for i in range(len(words) - 7)}, words

    expected = set()
    for i, messages in enumerate(made):
        held = set(grams("\n".join(m["content"] for m in messages))[0].values())
        for prompt in prompts:
            mine, words = grams(prompt)
            covered = {j for i_, gram in mine.items() if gram in held for j in range(i_, i_ + 8)}
            if mine and len(covered) == len(words):
                expected.add(i)
    found = dropped(made, prompts)
    assert expected
    assert expected <= set(found)
    assert json.dumps(sorted(found))  # ids are plain numbers


def test_a_prompt_of_several_turns_is_found_with_answers_between_them(dropped, talk):
    """Turn by turn each is too short to be told from anything: together they are the prompt."""
    asked = ["Plan three days in Lisbon for us.", "We have a small child along.", "Swap the museum for a beach."]
    items = [[{"role": "user", "content": turn} for turn in asked]]
    answers = ["Day one: the old town.", "Then fewer hills.", "Gladly."]
    row = [{"role": "system", "content": "Be brief."}] + [
        message
        for turn, answer in zip(asked, answers, strict=True)
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": answer})
    ]
    near = [message | {"content": message["content"].replace("beach", "park")} for message in row]
    other = [row[1], row[2], {"role": "user", "content": "And what will it cost?"}]
    one_turn = talk("\n".join(asked), "Gladly.")
    for on, expected in (("both", [0, 1, 3]), ("prompt", [0, 1, 3]), ("response", [])):
        assert sorted(dropped([row, near, other, one_turn], items, f", on: {on}")) == expected, on
    found = dropped([row, near, other], items)
    assert found[0].score == 1.0
    assert 0.5 < found[1].score < 1
    assert sorted(dropped([row, near, other], items, ", ngram: 13, share: 0")) == [0, 1]


def test_a_short_prompt_of_several_turns_is_found_as_all_user_turns(dropped):
    short = [[{"role": "user", "content": "Name three birds."}, {"role": "user", "content": "And trees?"}]]
    row = [short[0][0], {"role": "assistant", "content": "Heron, stork, owl."}, short[0][1]]
    more = [*row, {"role": "assistant", "content": "Oak."}, {"role": "user", "content": "And fish?"}]
    assert sorted(dropped([row, more], short)) == [0]
    assert sorted(dropped([row, more], short, ", on: prompt")) == [0]
