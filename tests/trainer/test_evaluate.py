from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainer.chat import MaskPolicy, prompt_ids, tokenise  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.evaluate import (  # noqa: E402
    EvalItem,
    answer_metrics,
    foreign_prompts,
    generate,
    prepare,
    reference_losses,
    repeated_share,
)


def item(i: int, cluster: str | None = None) -> EvalItem:
    messages = [
        {"role": "user", "content": f"question {i}"},
        {"role": "assistant", "content": f"answer {i}" * (i % 3 + 1)},
    ]
    return EvalItem(i, messages, None, cluster or str(i))


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
    metrics = {(m.item, m.metric): m.value for m in reference_losses(tiny, tiny.model, prepared, 64)}
    partner = foreign_prompts(ITEMS)[3]
    mixed = EvalItem(0, [partner.messages[0], ITEMS[3].messages[1]], None, "x")
    other = prepare(tiny, [mixed], MaskPolicy())
    foreign = reference_losses(tiny, tiny.model, other, 64)[0].value
    assert metrics[3, "prompt_gain"] == pytest.approx(foreign - metrics[3, "response_nll"], abs=1e-5)


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
    answers = generate(tiny, tiny.model, prepare(tiny, ITEMS, MaskPolicy()), 3)
    metrics = {(m.item, m.metric): m.value for m in answer_metrics(tiny, answers)}
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
