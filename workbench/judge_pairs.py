"""Having a judge say which of two answers to a prompt is better, in both orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.consent import Tally
from workbench.errors import Stopped, UsageProblem
from workbench.judging import Asking, members_of
from workbench.store.scores import StoredScores
from workbench.text import counted

if TYPE_CHECKING:
    from filters.judge.agreement import Estimate
    from filters.judge.step import Judge
    from filters.step import JobScorer, Row, Score
    from trainer.conversation import Message
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class AnswerPair:
    """A prompt with two answers, as a comparison in each order (`filters.judge.question.comparison`)."""

    forward: Row
    backward: Row


@dataclass(frozen=True)
class Pairs:
    """The prompts that have two answers to compare. `first` and `second` name where these come from."""

    first: str
    second: str
    pairs: list[AnswerPair]

    def batches(self) -> Iterator[list[Row]]:
        """The comparisons, the two of a pair together."""
        for pair in self.pairs:
            yield [pair.forward, pair.backward]


@dataclass
class PairVerdicts:
    """What a judge said of pairs. A pair whose verdict changed with the order is a tie, and counted in `flips`.

    `errors` are pairs without a verdict in both orders, by why; `missing` ones were not asked about.
    """

    first: int = 0
    second: int = 0
    ties: int = 0
    flips: int = 0
    missing: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    shares: list[float] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """Pairs with a verdict in both orders."""
        return len(self.shares)

    def share(self) -> Estimate | None:
        """The mean share of the first answers, with its interval."""
        from filters.judge.agreement import mean_share

        return mean_share(self.shares) if self.shares else None

    def flip_share(self) -> Estimate | None:
        """The share of pairs whose verdict changed with the order, with its interval."""
        from filters.judge.agreement import flip_share

        return flip_share(self.flips, self.judged) if self.shares else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        counts = {"judged": self.judged, "first": self.first, "second": self.second, "ties": self.ties}
        share, flips = self.share(), self.flip_share()
        return counts | {
            "flips": self.flips,
            "errors": dict(self.errors.most_common()),
            "share_of_first": share and asdict(share),
            "position_flips": flips and asdict(flips),
        }


def pairs_of(workspace: Workspace, name: str, other: str | None = None, limit: int | None = None) -> Pairs:
    """The prompts of `name` that `other` answers differently; without `other`, those that `name` answers twice.

    Of a prompt that stands there more often, the first answers are taken. With `limit`, so many of the pairs, drawn by
    their content. Rows that do not end in an answer with text are left out.
    """
    from filters.judge.question import comparison

    mine = _answers(workspace, name)
    theirs = mine if other is None else _answers(workspace, other)
    found = []
    for key, (prompt, answers) in mine.items():
        given = answers if other is None else [answers[0], *theirs.get(key, (prompt, []))[1]]
        if two := list(dict.fromkeys(given))[:2]:
            first, *rest = two
            found += [AnswerPair(comparison(prompt, first, b), comparison(prompt, b, first)) for b in rest]
    if limit is not None and len(found) > limit:
        found = sorted(found, key=lambda pair: pair.forward.content_hash)[:limit]
    return Pairs(name, other or name, found)


def judge_pairs(workspace: Workspace, pairs: Pairs, step: Judge, asking: Asking) -> tuple[PairVerdicts, dict[str, Any]]:
    """Have what is missing of `pairs` judged, and say what came of all of them and what this run spent.

    Raises as `Asking.compute`, and UsageProblem where there are no pairs.
    """
    if not pairs.pairs:
        both = f"{pairs.first} and {pairs.second}" if pairs.first != pairs.second else pairs.first
        raise UsageProblem(
            f"no prompt has two different answers in {both}",
            do="Name two sources or versions that answer the same prompts.",
        )
    scorer = step.comparer()
    try:
        spent = asking.compute(workspace, step, scorer, pairs.batches())
    except Stopped as stopped:
        there = known_verdicts(workspace, pairs, scorer)
        told = f"{stopped.what.rstrip('.')}: {there.judged:,} of {counted(len(pairs.pairs), 'pair')} judged so far"
        raise Stopped(told, do=stopped.do) from None
    return known_verdicts(workspace, pairs, scorer), spent or {}


def known_verdicts(workspace: Workspace, pairs: Pairs, scorer: JobScorer) -> PairVerdicts:
    """What is known of `pairs`; nothing is asked."""
    from filters.judge.pairs import verdict

    found, known = PairVerdicts(), _known(workspace, pairs, scorer)
    for pair in pairs.pairs:
        there, back = (known.get(row.content_hash) for row in (pair.forward, pair.backward))
        if there is None or back is None:
            found.missing += 1
        elif there.value is None or back.value is None:
            found.errors[next(s.label or s.state for s in (there, back) if s.value is None)] += 1
        else:
            said = verdict(there.value, 1 - back.value)
            found.first += said.winner == "first"
            found.second += said.winner == "second"
            found.ties += said.winner == "tie"
            found.flips += bool(said.flipped)
            found.shares.append((there.value + 1 - back.value) / 2)
    return found


def pairs_tally(workspace: Workspace, pairs: Pairs, scorer: JobScorer) -> Tally:
    """What it would take to have what is missing of `pairs` judged."""
    from filters.judge.plan import JudgePlan

    tally, known = Tally(JudgePlan.model_validate(scorer.plan)), _known(workspace, pairs, scorer)
    for batch in pairs.batches():
        for row in batch:
            if row.content_hash not in known or known[row.content_hash].state == "error":
                tally.add(row)
    return tally


def _known(workspace: Workspace, pairs: Pairs, scorer: JobScorer) -> dict[str, Score]:
    hashes = [row.content_hash for batch in pairs.batches() for row in batch]
    with closing(StoredScores(workspace.store)) as kept:
        return dict(kept.get(hashes, scorer.name, scorer.fingerprint))


def _answers(workspace: Workspace, name: str) -> dict[str, tuple[list[Message], list[str]]]:
    """The answers of rows by their prompts (all messages before the last), in order."""
    from filters.remaining import parsed
    from trainer.conversation import canonical_json, content_text

    found: dict[str, tuple[list[Message], list[str]]] = {}
    with closing(members_of(workspace, name)) as members:
        for batch in parsed(members.batches):
            for row in batch:
                *prompt, last = row.messages
                text = content_text(last.get("content"))
                if last["role"] == "assistant" and prompt and text.strip():
                    asked = [{key: m[key] for key in ("role", "content", "tool_calls") if key in m} for m in prompt]
                    found.setdefault(canonical_json([asked, row.tools_json]), (prompt, []))[1].append(text)
    return found
