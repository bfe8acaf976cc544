"""Judges whose model runs in the job's own process: a causal model's expected rating, and a reward model's logit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from filters.judge.material import Request
from filters.judge.plan import LocalModel, RewardModel
from filters.judge.question import comparison, question
from filters.judge.rubric import Rubric
from filters.step import Row, Score
from trainer.chat import MaskPolicy, conversation_ids, prompt_ids
from trainer.conversation import Message
from trainer.errors import BadInput, ModelUnavailable, Problem, UsageProblem
from trainer.models import quiet_libraries, resolve_model

if TYPE_CHECKING:
    import torch

DAY = "2025-01-01"
"""The day that chat templates see, so that a score is the same on every day."""
# Chat markers in the material must stay text: taken for tokens they would end the turn.
_AS_TEXT = MaskPolicy(special="text", date=DAY)
LEAST_MASS = 0.1  # of the probability; a model that gives all ratings together less was not about to rate


class LocalJudge:
    """A causal model asked for a rating, of which it writes no word: its probabilities of the ratings are read.

    The score is the expectation over the ratings' probabilities, as of a judge who rates many times (Liu et al.,
    "G-Eval", 2023; Liu et al., DEITA, 2024). It is finer than the most likely rating, and never malformed.
    """

    def __init__(self, plan: LocalModel) -> None:
        """Load the model. Raises ModelUnavailable."""
        import torch

        from trainer.base import load_base
        from trainer.plan import ModelSetting

        # float32 on a CPU: bfloat16 moves expectations in the second digit, and not the same way on every machine.
        setting = ModelSetting(name=plan.model, dtype="auto" if torch.cuda.is_available() else "float32")
        self._plan = plan
        self._base = load_base(setting)
        config = self._base.model.config
        self._window = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)

    def score(self, rubric: Rubric, rows: Sequence[Row], *, compares: bool = False) -> Iterator[dict[str, Score]]:
        """Scores by content hash, in batches of like length. Raises UsageProblem for a scale it cannot read.

        With `compares` the rows are comparisons, and the score is how probable it is that the first answer is better.
        """
        # The rating is read at once: no reason comes first.
        asked = question(rubric.model_copy(update={"explain": False}), compares=compares)
        lead, choices = self._choices(list(asked.choices), asked.lead)
        prompts: dict[str, list[int]] = {}
        requests: dict[str, Request] = {}
        settled: dict[str, Score] = {}
        for row in rows:
            request = asked.request(row)
            found = request if isinstance(request, Score) else self._prompt(request.messages, lead)
            if isinstance(request, Request) and not isinstance(found, Score):
                prompts[row.content_hash], requests[row.content_hash] = found, request
            elif isinstance(found, Score):
                settled[row.content_hash] = found
        if settled:
            yield settled
        scale = list(asked.choices.values())
        for keys, shares in self._shares(prompts, choices):
            yield {key: requests[key].told(_expected(share, scale)) for key, share in zip(keys, shares, strict=True)}

    def prefer(
        self, rubric: Rubric, prompt: Sequence[Message], first: str, second: str
    ) -> tuple[float | None, str | None]:
        """How probable it is that the first of two answers is called better, or why that cannot be told."""
        ((score,),) = (part.values() for part in self.score(rubric, [comparison(prompt, first, second)], compares=True))
        return score.value, None if score.state == "ok" else score.detail

    def _prompt(self, request: list[Message], lead: list[int]) -> list[int] | Score:
        """The ids up to where the rating stands, or the score of a row that cannot be asked about."""
        try:
            ids = prompt_ids(self._base.tokenizer, request, None, _AS_TEXT)
        except Problem as problem:
            return Score(state="error", label="rejected", detail=problem.what)
        ids = [*ids, *lead]
        if len(ids) > self._window:
            return Score.unscored(f"{len(ids):,} tokens; the model sees {self._window:,}")
        self._base.check_ids(ids)
        return ids

    def _choices(self, choices: Sequence[str], lead: str) -> tuple[list[int], list[int]]:
        """The ids of `lead`, and the one token that each choice is behind it."""
        encoded = [self._base.tokenizer.encode(lead + choice, add_special_tokens=False) for choice in choices]
        before: list[int] = encoded[0][:-1]
        if any(ids[:-1] != before for ids in encoded):
            raise UsageProblem(
                f"{', '.join(choices)} are not single tokens of this model, so their probabilities cannot be read",
                where=f"model {self._plan.model}",
                do="Use a rubric with one-digit ratings, another model, or an endpoint.",
            )
        return before, [int(ids[-1]) for ids in encoded]

    def _shares(self, prompts: Mapping[str, list[int]], choices: list[int]) -> Iterator[tuple[list[str], Any]]:
        """(keys, probabilities of the choices: rows x choices) for batches of like length."""
        import torch

        from trainer.losses import padded, scored_positions
        from trainer.schedule import micro_batches

        keys = list(prompts)
        model = self._base.model
        shared, read = self._read_ahead(list(prompts.values()))
        for batch in micro_batches([len(prompts[key]) for key in keys], self._plan.micro_tokens):
            rows = [prompts[keys[i]][shared:] for i in batch]
            ids = padded([(row, [-100] * len(row)) for row in rows])["input_ids"].to(self._base.device)
            last = torch.zeros_like(ids, dtype=torch.bool)
            last[range(len(rows)), [len(row) - 1 for row in rows]] = True
            with torch.inference_mode(), self._base.autocast(), scored_positions(model) as select:
                select(last)
                if read is None:
                    logits = model(input_ids=ids, use_cache=False).logits
                else:
                    past = copy.deepcopy(read)
                    past.batch_repeat_interleave(len(rows))
                    logits = model(input_ids=ids, past_key_values=past, use_cache=True).logits
            yield [keys[i] for i in batch], logits.float().softmax(-1)[:, choices].tolist()

    def _read_ahead(self, prompts: Sequence[list[int]]) -> tuple[int, Any]:
        """How many ids all prompts begin with (the rubric, mostly), and what the model makes of them, once for all."""
        import torch

        if len(prompts) < 2:
            return 0, None
        first, last = min(prompts), max(prompts)  # what these two begin with, all in between begin with
        same = [a == b for a, b in zip(first[:-1], last[:-1], strict=False)]
        shared = same.index(False) if False in same else len(same)
        if not shared:
            return 0, None
        ids = torch.tensor([prompts[0][:shared]], device=self._base.device)
        with torch.inference_mode(), self._base.autocast():
            read = self._base.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        return (shared, read) if hasattr(read, "batch_repeat_interleave") else (0, None)


class RewardJudge:
    """A sequence classifier with one logit, which is the score: higher is better, on a scale of its own."""

    def __init__(self, plan: RewardModel) -> None:
        """Load the model. Raises ModelUnavailable where there is none, or one that has not one logit."""
        quiet_libraries()
        source = resolve_model(plan.model)
        import torch
        from transformers import AutoModelForSequenceClassification

        from trainer.models import load_tokenizer

        where = f"model {plan.model}"
        try:
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(source.path, **source.pin).eval()
        except (OSError, ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelUnavailable(
                f"it could not be loaded as a sequence classifier ({first})", where=where, do="Give a reward model."
            ) from error
        if self._model.config.num_labels != 1:
            raise ModelUnavailable(
                f"it has {self._model.config.num_labels} logits; a reward model has one",
                where=where,
                do="Give a reward model.",
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)
        self._tokenizer = load_tokenizer(plan.model)
        self._pad = self._model.config.pad_token_id
        self._window = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 30)
        self._micro_tokens = plan.micro_tokens

    def score(self, rows: Sequence[Row]) -> Iterator[dict[str, Score]]:
        """Scores by content hash, in batches of like length."""
        from trainer.schedule import micro_batches

        prompts: dict[str, list[int]] = {}
        settled: dict[str, Score] = {}
        for row in rows:
            found = self._ids(row)
            if isinstance(found, Score):
                settled[row.content_hash] = found
            else:
                prompts[row.content_hash] = found
        if settled:
            yield settled
        keys = list(prompts)
        for batch in micro_batches([len(prompts[key]) for key in keys], self._micro_tokens):
            # Without a padding token the model cannot tell where a row ends: then one row at a time.
            for group in [batch] if self._pad is not None else [[i] for i in batch]:
                logits = self._logits([prompts[keys[i]] for i in group])
                yield {keys[i]: Score.measured(value) for i, value in zip(group, logits, strict=True)}

    def _ids(self, row: Row) -> list[int] | Score:
        import json

        if not row.text("response").strip():
            return Score.unscored("nothing to judge")
        tools = json.loads(row.tools_json) if row.tools_json else None
        try:
            ids = conversation_ids(self._tokenizer, row.messages, tools, _AS_TEXT)
        except BadInput as problem:  # of this row: its template refuses it, or a marker cannot be written as text
            return Score(state="error", label="rejected", detail=problem.what)
        if len(ids) > self._window:
            return Score.unscored(f"{len(ids):,} tokens; the model sees {self._window:,}")
        return ids

    def _logits(self, rows: Sequence[list[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad or 0, dtype=torch.long)
        seen = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            seen[i, : len(row)] = 1
        with torch.inference_mode():
            logits: torch.Tensor = self._model(
                input_ids=ids.to(self._device), attention_mask=seen.to(self._device)
            ).logits
        return [float(value) for value in logits[:, 0]]


def _expected(share: Sequence[float], scale: Sequence[float]) -> Score:
    """The expectation over the ratings; an error where they hold hardly any of the probability."""
    mass = sum(share)
    if mass < LEAST_MASS:
        told = f"the ratings hold {mass:.1%} of the probability: the model was not about to rate"
        return Score(state="error", label="no rating", detail=told)
    value = sum(level * part for level, part in zip(scale, share, strict=True)) / mass
    return Score.measured(value, detail=f"the ratings hold {mass:.0%} of the probability")
