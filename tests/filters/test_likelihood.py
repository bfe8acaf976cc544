from __future__ import annotations

import math

import pytest

from filters.errors import RecipeProblem
from filters.likelihood import Likelihood, LikelihoodParams
from filters.pipeline import MemoryScores, run
from filters.recipe import parse_recipe
from filters.step import JobScorer, Score
from trainer.errors import ModelUnavailable


@pytest.fixture
def rows(batches, talk):
    return batches([talk(f"Question {i}?", "a" * (i + 1)) for i in range(4)])


def losses(asked=None):
    """A model that finds every answer of n letters as likely as n nats a token, and twice that alone."""

    def compute(scorer, rows):
        for batch in rows:
            if asked is not None:
                asked.append(scorer.name)
            factor = 2 if scorer.plan.alone else 1
            yield {row.content_hash: Score(factor * float(len(row.text("response")))) for row in batch}

    return compute


def step(text, model):
    return parse_recipe(f"steps:\n  - likelihood: {{{text}, model: {str(model)!r}}}\n")


def test_each_metric_is_what_its_formula_says_and_lies_under_its_own_name(rows, tiny_model):
    scores, asked = MemoryScores(), []
    for metric in ("perplexity", "ifd_loss", "ifd_ppl"):
        list(run(step(f"metric: {metric}", tiny_model), rows, scores=scores, compute=losses(asked)))
    assert asked == ["response_nll", "response_nll_alone"]  # each loss was asked for once
    known = scores.scorers()
    hashes = [h for batch in rows() for h in batch.column("content_hash").to_pylist()]
    for name, expected in {
        "perplexity": lambda n: math.exp(n),
        "ifd_loss": lambda n: 0.5,
        "ifd_ppl": lambda n: math.exp(-n),
    }.items():
        for fingerprint in known[name]:
            found = scores.get(hashes, name, fingerprint)
            assert [found[h].value for h in hashes] == pytest.approx([expected(n) for n in (1, 2, 3, 4)])


def test_the_perplexity_of_either_metric_is_one_score():
    given, alone = (JobScorer(name, 1, {}, LikelihoodParams()) for name in ("response_nll", "response_nll_alone"))

    class Perplexity(Likelihood):
        scorers = (given,)

    class Ifd(Likelihood):
        scorers = (given, alone)

    one, both = (
        {derived.name: derived.fingerprint(step.scorers) for derived in step.derived}
        for step in (Perplexity(LikelihoodParams()), Ifd(LikelihoodParams(metric="ifd_ppl")))
    )
    assert one == {"perplexity": both["perplexity"]}
    assert set(both) == {"perplexity", "ifd_ppl", "ifd_loss"}


def test_rows_outside_of_the_limits_leave_with_the_value(rows, tiny_model):
    (outcome,) = run(step("metric: perplexity, min: 3, max: 30", tiny_model), rows, compute=losses())
    assert [(d.id, d.reason) for d in outcome.drops] == [(0, "low perplexity"), (3, "high perplexity")]
    assert outcome.drops[1].score == pytest.approx(math.exp(4))
    assert outcome.drops[1].detail == "54.6, above 30"


def test_a_limit_is_in_no_fingerprint_and_what_changes_a_score_is(tiny_model):
    def prints(**params):
        return [s.fingerprint for s in Likelihood(LikelihoodParams(model=str(tiny_model), **params)).scorers]

    assert prints() == prints(max=3.0) == prints(micro_tokens=99)
    assert prints(metric="ifd_ppl")[:1] == prints()
    assert len({prints()[0], prints(dtype="bfloat16")[0], prints(max_length=99)[0], prints(quantize="nf4")[0]}) == 4


def test_limits_that_no_row_meets_and_models_that_are_not_there_are_told(tiny_model):
    with pytest.raises(RecipeProblem, match="min 3 is above max 2"):
        step("min: 3, max: 2", tiny_model)
    with pytest.raises(ModelUnavailable):
        list(run(step("max: 2", "./no/such/model"), lambda: iter(()), compute=losses()))
