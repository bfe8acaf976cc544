from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.dedup import jaccard
from filters.dedup.jaccard import Pairs, Sets, shingles, similar_pairs
from filters.dedup.near import Near, NearParams
from filters.dedup.star import KEPT, stars, threshold_for, worth_keeping
from filters.pipeline import run
from filters.recipe import parse_recipe
from trainer.errors import UsageProblem

SHARED = Path(__file__).parents[3] / "../shared/data"
STEP = "steps: [{minhash: {threshold: 0.8, max_drop: 1}}]"
WORDS = [f"word{i}" for i in range(60)]


def sets_of(*members) -> Sets:
    return Sets.of([np.unique(np.array(list(one), dtype=np.uint64) * jaccard._MIX[0]) for one in members])


def share(one, other) -> float:
    return len(one & other) / len(one | other)


def found(sets: Sets, least: float) -> dict[tuple[int, int], float]:
    pairs = similar_pairs(sets, least)
    return dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.similarity, strict=True))


def drops(outcome):
    return {drop.id: drop.duplicate_of for drop in outcome.drops}


def text(*numbers) -> str:
    return " ".join(f"w{number}" for number in numbers)


# The join


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.frozensets(st.integers(0, 25), max_size=20), max_size=12, unique=True),
    st.sampled_from([0.3, 0.5, 0.7, 0.8, 0.9, 1.0]),
)
def test_the_join_finds_every_pair_that_brute_force_finds_and_no_other(members, least):
    wanted = {
        (i, j): share(members[i], members[j])
        for j in range(len(members))
        for i in range(j)
        if members[i] and members[j] and share(members[i], members[j]) >= least
    }
    assert found(sets_of(*members), least) == wanted


def test_equal_sets_are_paired_with_the_first_and_with_all_it_is_paired_with():
    near = set(range(9))
    sets = sets_of(range(10), range(10), near, range(10), near, [99])
    assert found(sets, 0.8) == {(0, 1): 1.0, (0, 3): 1.0, (2, 4): 1.0} | dict.fromkeys(
        [(0, 2), (1, 2), (2, 3), (0, 4)], 0.9
    )


def test_thresholds_hold_at_the_edge():
    # Products like 0.7 * 10 and 0.8 * 15 are a hair off in floating point: nothing may fall through there.
    for size in range(2, 22):
        for common in range(1, size):
            one, other = range(size), [*range(common), *range(100, 100 + size - common)]
            exact = common / (2 * size - common)
            assert found(sets_of(one, other), exact) == {(0, 1): exact}
            assert found(sets_of(one, other), np.nextafter(exact, 1)) == {}


def test_a_crowd_costs_no_square_and_still_falls_to_its_best_row(monkeypatch):
    monkeypatch.setattr(jaccard, "CROWD", 8)
    monkeypatch.setattr(jaccard, "_MEETINGS", 400 * 8)
    monkeypatch.setattr(jaccard, "_FEWEST", 8)
    monkeypatch.setattr(jaccard, "_CHUNK", 1000)
    members = [[*range(50), 100 + i] for i in range(400)]  # 50 of 52 the same: all alike
    sets = sets_of(*members)
    hashes, rows = jaccard.prefixes(sets, jaccard.counters(sets.hashes), 0.9)
    held = [len(first) for first, _ in jaccard.meetings(hashes, rows, len(sets))]
    assert sum(held) <= 400 * 8, "a pair is looked at once, however many words it shares"
    assert max(held) <= 1000
    pairs = similar_pairs(sets, 0.9)
    assert {first for first, _ in stars(pairs, 0.9).values()} == {0}
    assert len(stars(pairs, 0.9)) == 399


def test_a_crowd_of_a_few_hundred_rows_is_compared_whole():
    members = [[*range(40), 100 + i, 1000 + i % 7] for i in range(600)]
    pairs = similar_pairs(sets_of(*members), 0.9)
    assert len(pairs.first) == 600 * 599 // 2


def test_a_long_passage_that_rows_share_is_one_word_to_the_join():
    members = [frozenset([*range(600), *range(1000 + 20 * i, 1008 + 20 * i + i % 3)]) for i in range(60)]
    sets = sets_of(*members)
    hashes, rows = jaccard.prefixes(sets, jaccard.counters(sets.hashes), 0.7)
    assert len(rows) > 60 * 150
    assert len(jaccard._without_twins(hashes, rows)[1]) < 60 * 8, "else each two rows meet once for each shared word"
    columns, weights = jaccard._columns(sets)
    assert (len(weights), weights.sum()) == (1, 600)
    assert np.count_nonzero(columns >= 0) == 60
    assert found(sets, 0.7) == {(i, j): share(members[i], members[j]) for j in range(60) for i in range(j)}


def test_rows_with_many_long_passages_are_compared_whole_for_what_ten_words_would_cost(monkeypatch):
    monkeypatch.setattr(jaccard, "CROWD", 1)
    monkeypatch.setattr(jaccard, "_FEWEST", 1)
    monkeypatch.setattr(jaccard, "_MEETINGS", 6000)  # the pairs are 1,900
    members = [[*range(i % 10 * 1000, i % 10 * 1000 + 300), 100_000 + i] for i in range(200)]
    assert len(found(sets_of(*members), 0.7)) == 10 * 20 * 19 // 2


def test_near_copies_of_one_text_meet_once_however_many_words_they_share():
    chance = random.Random(5)
    members = [frozenset(range(80)) - {*chance.sample(range(80), 6)} | {100 + i} for i in range(120)]
    sets = sets_of(*members)
    hashes, rows = jaccard.prefixes(sets, jaccard.counters(sets.hashes), 0.7)
    met = [pair for first, second in jaccard.meetings(hashes, rows, 120) for pair in zip(first, second, strict=True)]
    assert len(met) == len(set(met)) == 120 * 119 // 2
    begins = np.flatnonzero(np.diff(np.sort(hashes), prepend=0))
    assert len(hashes) ** 2 / len(begins) / 2 > 5 * len(met), "else nothing is saved here"
    near = {(i, j): share(members[i], members[j]) for j in range(120) for i in range(j)}
    assert found(sets, 0.7) == {pair: how for pair, how in near.items() if how >= 0.7}


def test_crowds_are_cut_only_where_all_candidates_would_be_too_many(monkeypatch):
    before, rows = np.arange(100), np.arange(100)
    assert jaccard._crowd(before, rows, 100) == 99
    monkeypatch.setattr(jaccard, "CROWD", 30)
    monkeypatch.setattr(jaccard, "_MEETINGS", 10)
    crowd = jaccard._crowd(before, rows, 100)
    assert 30 <= crowd < 40
    assert jaccard._costs(np.minimum(before, crowd), rows, 100).sum() <= 3000


@pytest.mark.parametrize("block", [0, 2**24])
def test_pairs_are_counted_alike_one_by_one_and_by_blocks(monkeypatch, block):
    chance = random.Random(9)
    members = [frozenset(chance.sample(range(40), chance.randrange(1, 30))) for _ in range(50)]
    monkeypatch.setattr(jaccard, "_BLOCK", block)
    monkeypatch.setattr(jaccard, "_PRODUCTS", 10**6)
    monkeypatch.setattr(jaccard, "_SLAB", 7)
    sets = sets_of(*dict.fromkeys(members))
    members = list(dict.fromkeys(members))
    near = {(i, j): share(members[i], members[j]) for j in range(len(members)) for i in range(j)}
    assert found(sets, 0.4) == {pair: how for pair, how in near.items() if how >= 0.4}


def test_chunks_of_any_size_give_the_same_pairs(monkeypatch):
    chance = random.Random(3)
    members = [frozenset(chance.sample(range(40), chance.randrange(1, 25))) for _ in range(60)]
    sets = sets_of(*dict.fromkeys(members))
    whole = found(sets, 0.4)
    monkeypatch.setattr(jaccard, "_CHUNK", 1)
    assert found(sets, 0.4) == whole
    assert len(whole) > 20


def test_the_same_words_have_the_same_numbers_in_every_process():
    code = "from filters.dedup.jaccard import shingles; print(shingles('one two three four five six').tolist())"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_text_is_its_runs_of_five_words_and_a_short_one_itself():
    assert len(shingles("one two three four five six")) == 2
    assert np.array_equal(shingles("One,  two three\nFOUR five!"), shingles("one two three four five"))
    answers = ["yes", "no", "C++", "C#", "C", "42", "4.2", "-42", "ja", "是"]
    assert len({int(shingles(answer)[0]) for answer in answers}) == 10
    assert len(shingles("")) == len(shingles(" \n")) == 0
    assert np.array_equal(shingles("What is AI?"), shingles("what is AI")), "marks do not count in short texts either"
    assert len({int(shingles(marks)[0]) for marks in ("!!!", "???", "a b", "ab")}) == 4


def test_chinese_is_compared_by_characters_and_code_with_its_signs():
    chinese = "人工智能正在改变我们的生活方式和工作方式"
    assert len(shingles(chinese)) == len(chinese) - 4
    plus, minus = "def f(a, b, c): return a + b + c", "def f(a, b, c): return a - b - c"
    assert not np.array_equal(shingles(plus), shingles(minus))


def test_texts_of_the_same_words_in_another_order_are_not_taken_for_equal():
    """The sums of these runs' hashes are equal before they are mixed, and so are many exclusive ors."""
    marks = [jaccard._mixed(np.array(numbers, dtype=np.uint64)) for numbers in ([1, 6], [2, 5], [3, 4], [0, 7])]
    assert len({int(np.bitwise_xor.reduce(one)) for one in marks}) == len({int(one.sum()) for one in marks}) == 4
    assert found(sets_of([1, 6], [2, 5], [3, 4], [0, 7]), 0.5) == {}


# Stars


def test_no_chains_a_row_falls_only_for_a_kept_row(outcomes, batches, talk):
    # A and B share most, B and C too, A and C less than the threshold.
    a, b, c = range(0, 50), range(3, 53), range(6, 56)
    prompts = [text(*a), text(*b), text(*c)]
    rows = batches([talk(prompt, "x " * (9 - i)) for i, prompt in enumerate(prompts)])
    (outcome,) = outcomes(STEP, rows)
    assert drops(outcome) == {1: 0}
    assert {(p.id, p.duplicate_of) for p in outcome.pairs} == {(1, 0), (2, 1), (2, 0)}
    assert all(0.7 <= pair.similarity <= 1 for pair in outcome.pairs)
    assert outcome.drops[0].detail == f"Jaccard {outcome.drops[0].score:.3f}", "whoever reads the ledger sees how alike"


def test_a_row_at_the_threshold_falls_and_one_a_hair_below_it_stays(outcomes, batches, talk):
    rows = batches([talk(text(*range(13)), "longer answer"), talk(text(*range(11)), "short")])  # 7 of 9 runs
    for threshold, left in ((7 / 9, 1), (float(np.nextafter(7 / 9, 1)), 2)):
        (outcome,) = outcomes(f"steps: [{{minhash: {{threshold: {threshold!r}, max_drop: 1}}}}]", rows)
        assert outcome.rows_out == left


def test_prompts_under_other_system_turns_tools_or_images_are_other_tasks(outcomes, batches, talk):
    asked = "what is the capital of France today"
    rows = [talk(asked, "Oui, Paris.", system="Answer in  French."), talk(asked, "Arr, Paris!", system="A pirate.")]
    rows += [talk(asked, "Paris it is."), talk(asked, "Paris."), talk(asked, "Paris", system="Answer in French.")]
    with_image = [{"type": "image", "url": "a.png"}, {"type": "text", "text": asked}]
    rows += [[{"role": "user", "content": with_image}, {"role": "assistant", "content": "Paris."}]]
    tools = [None, None, None, [{"name": "f"}], None, None]
    (outcome,) = outcomes(STEP, batches(rows, tools=tools))
    assert drops(outcome) == {4: 0}


def test_chinese_and_code_rows_fall_only_for_rows_that_are_near(outcomes, batches, talk):
    chinese = "请用简单的语言解释人工智能是怎样改变我们的工作方式和生活方式的"
    code = "def area(width, height):\n    total = width {} height\n    return total if total > 0 else None"
    asked = [chinese, chinese + "？", chinese.replace("人工智能", "地球引力"), code.format("*"), code.format("+")]
    (outcome,) = outcomes(STEP, batches([talk(one, "x " * (9 - i)) for i, one in enumerate(asked)]))
    assert drops(outcome) == {1: 0}


def test_ten_one_word_answers_are_ten_answers(outcomes, batches, talk):
    answers = ["yes", "no", "maybe", "red", "blue", "Paris", "42", "43", "C", "C++"]
    rows = batches([talk(f"question number {i} of ten asks for one word", answer) for i, answer in enumerate(answers)])
    (outcome,) = outcomes("steps: [{minhash: {on: response, max_drop: 1}}]", rows)
    assert outcome.drops == []


def test_one_constant_answer_is_found_by_the_response_and_not_by_the_prompt(outcomes, batches, talk):
    rows = batches([talk(text(*range(i * 20, i * 20 + 20)), "As I said before, it depends.") for i in range(800)])
    (by_response,) = outcomes("steps: [{minhash: {on: response, max_drop: 1}}]", rows)
    (by_prompt,) = outcomes(STEP, rows)
    assert len(by_response.drops) == 799
    assert len({drop.duplicate_of for drop in by_response.drops}) == 1
    assert by_prompt.drops == []


def test_the_order_of_input_decides_nothing(outcomes, batches, talk):
    chance = random.Random(7)
    talks = []
    for i in range(40):
        words = chance.sample(range(200), 30)
        talks += [talk(text(*words[: 30 - cut]), f"answer {i} " + "x " * chance.randrange(5)) for cut in range(4)]
    results = []
    for seed in range(4):
        shuffled = list(enumerate(talks))
        random.Random(seed).shuffle(shuffled)
        (outcome,) = outcomes(STEP, batches(shuffled))
        results.append((drops(outcome), {(p.id, p.duplicate_of, p.similarity) for p in outcome.pairs}))
    assert all(result == results[0] for result in results)
    assert results[0][0]


def test_every_row_that_falls_points_at_a_kept_one_at_or_above_the_threshold(outcomes, batches, talk):
    data = [row for row in _real() if row][:600]
    (outcome,) = outcomes(STEP, batches([talk(*row) for row in data]))
    gone = drops(outcome)
    assert len(gone) > 5
    grams = [set(shingles(prompt).tolist()) for prompt, _ in data]
    for drop in outcome.drops:
        assert drop.duplicate_of not in gone
        assert share(grams[drop.id], grams[drop.duplicate_of]) == drop.score >= 0.8
    kept = [i for i in range(len(data)) if i not in gone and grams[i]]
    assert not [(i, j) for i in kept for j in kept if i < j and share(grams[i], grams[j]) >= 0.8]


def _real():
    path = SHARED / "near_duplicates/toolformer_exact_deduped.json"
    if not path.exists():
        pytest.skip("../shared/data is not there")
    for record in json.loads(path.read_text(encoding="utf-8")):
        values = [str(value) for value in record.values() if isinstance(value, str)]
        yield (values[0], values[-1])


def test_answers_that_only_call_tools_are_told_apart(outcomes, batches):
    def call(city):
        arguments = {"city": city, "unit": "degrees celsius", "days": 3, "hours": 12}
        calls = [{"type": "function", "function": {"name": "weather", "arguments": arguments}}]
        return [
            {"role": "user", "content": f"weather in {city}"},
            {"role": "assistant", "content": "", "tool_calls": calls},
        ]

    (outcome,) = outcomes(
        "steps: [{minhash: {on: response, threshold: 0.95, max_drop: 1}}]",
        batches([call("Oslo"), call("Rome"), call("Oslo")]),
    )
    assert list(drops(outcome)) in ([2], [0])


# Against what is there, and to a size


def others(rows):
    return {"others": lambda name: {"known": rows}[name]}


def test_only_what_is_new_is_kept(outcomes, batches, talk):
    known = batches([(100, talk(text(*range(30)), "short")), (5, talk(text(*range(500, 530)), "the same row"))])
    rows = batches(
        [
            (0, talk(text(*range(1, 31)), "a much longer answer than the known one has")),
            (1, talk(text(*range(60, 90)), "new")),
            (5, talk(text(*range(500, 530)), "the same row")),
            (6, talk(text(*range(501, 531)), "near the row that is known")),
        ]
    )
    recipe = parse_recipe("steps: [{minhash: {against: [known], max_drop: 1}}]", name="r")
    (outcome,) = run(recipe, rows, **others(known))
    assert drops(outcome) == {0: 100, 5: 5, 6: 5}
    assert outcome.reasons == {"near duplicate": 2, "known row": 1}
    assert {(p.id, p.duplicate_of) for p in outcome.pairs} == {(0, 100), (6, 5)}, (
        "a known row is like nobody but itself"
    )
    with pytest.raises(UsageProblem, match="known"):
        list(run(recipe, rows))


def test_a_target_takes_the_highest_threshold_that_is_enough(outcomes, batches, talk):
    # Row i lacks i words of the 60 of row 0: the more it lacks, the less it is like it.
    rows = batches([talk(text(*range(60 - i)), "x " * (20 - i)) for i in range(10)])
    for target in (9, 5, 2):
        (outcome,) = outcomes(f"steps: [{{minhash: {{threshold: 1.0, target: {target}, max_drop: 1}}}}]", rows)
        assert outcome.rows_out == target
        assert sorted(drops(outcome)) != sorted(range(10 - target)), "the nearest pairs go first"
    (outcome,) = outcomes("steps: [{minhash: {target: 50, max_drop: 1}}]", rows)
    assert outcome.rows_out < 10, "a target that is met does not lift the threshold"
    far = batches([talk(text(*range(i * 9, i * 9 + 9)), "x") for i in range(5)])
    (outcome,) = outcomes("steps: [{minhash: {target: 1, max_drop: 1}}]", far)
    assert outcome.rows_out == 5, "rows that are not alike stay, whatever the target"


def test_the_threshold_for_a_number_of_rows():
    pairs = similar_pairs(sets_of(range(20), range(19), range(18), [50]), 0.5)
    assert threshold_for(pairs, 1) == 0.95
    assert threshold_for(pairs, 2) == 0.9
    assert threshold_for(pairs, 3) is None


def test_lower_is_not_always_more_and_the_higher_threshold_is_taken():
    """At 0.85 rows 2 to 5 fall for row 1; at 0.8 row 1 falls itself, and those are free."""
    near = [(0, 1, 0.8), *((1, row, 0.85) for row in range(2, 6))]
    pairs = Pairs(*(np.array(column) for column in zip(*near, strict=True)))
    assert (len(stars(pairs, 0.85)), len(stars(pairs, 0.8))) == (4, 1)
    assert threshold_for(pairs, 4) == 0.85


def test_the_ledger_has_the_threshold_that_met_the_target(outcomes, batches, talk):
    rows = batches([talk(text(*range(60 - i)), "x " * (20 - i)) for i in range(10)])
    (outcome,) = outcomes("steps: [{minhash: {threshold: 0.99, target: 5, max_drop: 1}}]", rows)
    assert 0.7 <= outcome.params["threshold"] < 0.99
    (again,) = outcomes(f"steps: [{{minhash: {{threshold: {outcome.params['threshold']}, max_drop: 1}}}}]", rows)
    assert drops(again) == drops(outcome)


def test_of_many_near_rows_the_preferred_and_the_nearest_are_kept():
    """100 near-copies of row 0 are nearer to each other: at a lower threshold they fall for row 0."""
    near = [(0, row, 0.75) for row in range(1, 101)] + [(a, b, 0.9) for b in range(2, 101) for a in range(1, b)]
    pairs = Pairs(*(np.array(column) for column in zip(*near, strict=True)))
    few = worth_keeping(pairs)
    assert len(few.first) <= 100 * KEPT
    assert stars(few, 0.7) == stars(pairs, 0.7)
    assert len(stars(few, 0.7)) == 100


def test_parameters_are_checked(batches):
    assert NearParams().threshold == 0.8
    assert isinstance(Near(NearParams()).settings()["against"], list)
