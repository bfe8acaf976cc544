from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer.answer_metrics import answer_metrics, regurgitation, repeated_share  # noqa: E402
from trainer.chat import MaskPolicy, prompt_ids, tokenise  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.evaluate import (  # noqa: E402
    EvalItem,
    Generation,
    foreign_prompts,
    generate,
    prepare,
    reference_losses,
)
from trainer.instructions import parse  # noqa: E402


def item(i: int, cluster: str | None = None) -> EvalItem:
    messages = [
        {"role": "user", "content": f"question {i}"},
        {"role": "assistant", "content": f"answer {i}" * (i % 3 + 1)},
    ]
    return EvalItem(i, messages, None, cluster or str(i))


# An answer follows one of these where it has no comma, the other where two points stand in it.
NO_COMMA = tuple(parse(["punctuation:no_comma", "detectable_format:number_bullet_lists"], [{}, {"num_bullets": 2}]))
ITEMS = [item(i) for i in range(7)]


def test_response_nll_is_the_mean_loss_of_the_references_own_tokens(tiny):
    prepared = prepare(tiny, ITEMS, MaskPolicy())
    found = {m.item: m for m in reference_losses(tiny, tiny.model, prepared, 64) if m.metric == "response_nll"}
    for one in ITEMS:
        example = tokenise(tiny.tokenizer, one.messages, None, MaskPolicy()).examples[0]
        ids = torch.tensor([example.input_ids])
        with torch.inference_mode():
            log_p = tiny.model(input_ids=ids).logits[0].log_softmax(-1)
        losses = [-float(log_p[t - 1, example.input_ids[t]]) for t in range(1, len(ids[0])) if example.trained[t]]
        assert found[one.item].value == pytest.approx(sum(losses) / len(losses), abs=1e-4)
        assert found[one.item].weight == len(losses)


def test_prompt_gain_is_the_loss_under_another_items_prompt_minus_that_under_its_own(tiny):
    prepared = prepare(tiny, ITEMS, MaskPolicy())
    told: list[tuple[int, int]] = []
    losses = reference_losses(tiny, tiny.model, prepared, 64, lambda *how_far: told.append(how_far))
    metrics = {(m.item, m.metric): m.value for m in losses}
    assert told == sorted(told), "progress never goes back"
    assert told[-1][0] == told[0][1]
    partner = foreign_prompts(ITEMS)[3]
    mixed = EvalItem(0, [partner.messages[0], ITEMS[3].messages[1]], None, "x")
    other = prepare(tiny, [mixed], MaskPolicy())
    foreign = reference_losses(tiny, tiny.model, other, 64)[0].value
    assert metrics[3, "prompt_gain"] == pytest.approx(foreign - metrics[3, "response_nll"], abs=1e-5)


def test_system_gain_is_the_loss_without_the_system_turn_minus_that_with_it(tiny):
    led = replace(ITEMS[3], messages=[{"role": "system", "content": "Be brief."}, *ITEMS[3].messages])
    found = reference_losses(tiny, tiny.model, prepare(tiny, [led, *ITEMS[:3]], MaskPolicy()), 64)
    metrics = {(m.item, m.metric): m.value for m in found}
    plain = reference_losses(tiny, tiny.model, prepare(tiny, ITEMS[3:4], MaskPolicy()), 64)[0].value
    assert metrics[3, "system_gain"] == pytest.approx(plain - metrics[3, "response_nll"], abs=1e-5)
    assert metrics[3, "system_gain"] != metrics[3, "prompt_gain"]
    assert [item for item, metric in metrics if metric == "system_gain"] == [3], "the others have no such turn"


def test_a_foreign_prompt_never_comes_from_the_same_cluster_and_does_not_depend_on_order():
    items = [item(i, cluster=str(i // 2)) for i in range(8)]
    partners = foreign_prompts(items)
    assert all(partners[i.item].cluster != i.cluster for i in items)
    assert {k: v.item for k, v in foreign_prompts(items[::-1]).items()} == {k: v.item for k, v in partners.items()}


def test_a_single_cluster_has_no_prompt_gain_rather_than_a_wrong_one(tiny):
    items = [item(i, cluster="same") for i in range(3)]
    metrics = reference_losses(tiny, tiny.model, prepare(tiny, items, MaskPolicy()), 64)
    assert {m.metric for m in metrics} == {"response_nll"}


def test_generation_asks_with_the_prompt_that_training_knows(tiny):
    prepared = prepare(tiny, ITEMS[:1], MaskPolicy())[0]
    trained = tokenise(tiny.tokenizer, ITEMS[0].messages, None, MaskPolicy()).examples[0]
    assert prepared.prompt == prompt_ids(tiny.tokenizer, ITEMS[0].messages[:1], None, MaskPolicy())
    assert trained.input_ids[: len(prepared.prompt)] == prepared.prompt


def test_answers_do_not_depend_on_who_else_is_in_the_batch(tiny):
    prepared = prepare(tiny, ITEMS, MaskPolicy())
    together = generate(tiny, tiny.model, prepared, 6, batch_size=7)
    alone = generate(tiny, tiny.model, prepared, 6, batch_size=1)
    assert [(a.item, a.text, a.finish) for a in together] == [(a.item, a.text, a.finish) for a in alone]


def test_an_answer_that_runs_into_the_limit_did_not_stop(tiny):
    prepared = prepare(tiny, ITEMS, MaskPolicy())
    answers = generate(tiny, tiny.model, prepared, 3)
    metrics = {(m.item, m.metric): m.value for m in answer_metrics(tiny, prepared, answers)}
    for answer in answers:
        assert answer.tokens <= 3
        assert metrics[answer.item, "stop_rate"] == (answer.finish == "stop")


def test_a_reference_without_tokens_to_score_is_named(tiny):
    empty = EvalItem(
        4, [{"role": "user", "content": "?"}, {"role": "assistant", "content": "x", "train": False}], None, "4"
    )
    with pytest.raises(BadInput, match="eval item 4"):
        prepare(tiny, [empty], MaskPolicy())


def test_repeated_share():
    assert repeated_share([1, 2, 3, 4, 5, 6]) == 0
    assert repeated_share([7] * 13) == pytest.approx(0.9)
    assert repeated_share([1, 2, 3, 4]) == 0
    assert repeated_share([]) == 0


def test_an_item_without_reference_is_answered_and_checked_but_has_no_likelihood(tiny):
    asked = EvalItem(9, [{"role": "user", "content": "question 9"}], None, "9", NO_COMMA)
    prepared = prepare(tiny, [*ITEMS, asked], MaskPolicy())
    assert prepared[9 - 2].prompt == prompt_ids(tiny.tokenizer, asked.messages, None, MaskPolicy())
    assert 9 not in {m.item for m in reference_losses(tiny, tiny.model, prepared, 64)}
    assert reference_losses(tiny, tiny.model, prepared[-1:], 64) == []
    answers = [Generation(item.item, "a, b\n* c\n* d", "stop", 3) for item in prepared]
    found = {(m.item, m.metric): (m.value, m.weight) for m in answer_metrics(tiny, prepared, answers)}
    assert found[9, "instructions_strict"] == (0.5, 2)
    assert found[9, "instructions_loose"] == (1.0, 2)  # without its first line
    assert (found[9, "all_instructions_strict"], found[9, "all_instructions_loose"]) == ((0.0, 1.0), (1.0, 1.0))
    assert (0, "instructions_strict") not in found


def test_length_and_shape_of_answers_are_told(tiny):
    prepared = prepare(tiny, ITEMS[:4], MaskPolicy())
    texts = ["1. wash\n\n2) dry", "```py\nx\n```", "## So\n- one", "a - b and #3"]
    answers = [Generation(i, text, "stop", 10 + i) for i, text in enumerate(texts)]
    found = {(m.item, m.metric): m.value for m in answer_metrics(tiny, prepared, answers)}
    assert [found[i, "answer_tokens"] for i in range(4)] == [10, 11, 12, 13]
    shapes = [[name for name in ("has_list", "has_code", "has_heading") if found[i, name]] for i in range(4)]
    assert shapes == [["has_list"], ["has_code"], ["has_heading"], []]


def test_regurgitation_is_the_share_of_word_runs_that_stand_in_the_training_answers(tiny, tmp_path):
    rows = [
        {"messages": json.dumps([{"role": role, "content": text}])}
        for role, text in [
            ("assistant", "x One two, three four five six seven EIGHT nine."),
            ("user", "a b c d e f g h"),
        ]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    asked = [{"role": "user", "content": "say: two three four five six seven eight nine"}]
    items = prepare(tiny, [*ITEMS[:4], EvalItem(4, asked, None, "4", NO_COMMA)], MaskPolicy())
    recited = "one two three four five six seven eight nine ten"  # of three runs, two stand there
    texts = [recited, "a b c d e f g h i", "too short to tell", "one two", recited]
    answers = [Generation(i, text, "stop", 9) for i, text in enumerate(texts)]
    measured = regurgitation([tmp_path / "rows.parquet"], items, answers, [(0, "nothing"), (1, recited), (77, recited)])
    found = {(m.metric, m.item): m.value for m in measured}
    assert [found["regurgitation", i] for i in range(5)] == pytest.approx([2 / 3, 0, 0, 0, 1 / 2])  # 4: one was asked
    assert (found["regurgitation_control", 0], found["regurgitation_control", 1]) == pytest.approx((0, 2 / 3))
    assert len(found) == 7
