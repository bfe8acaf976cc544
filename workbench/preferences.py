"""A judge's word on the answers of an experiment: which are judged beside which, and what is known of them.

Verdicts are kept as scores by what was judged and by whom, so none is asked for twice, whichever experiment needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.conversation import split_reference
from trainer.preference import EVEN, WIN_RATE, Preference, opponent
from trainer.variance import Floats
from workbench.arms import BASELINE, NOISE, pairs_of
from workbench.errors import Problem
from workbench.store import experiments as rows
from workbench.store.scores import StoredScores
from workbench.text import counted
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from filters.step import Row

_SHARES = {"first": 1.0, "second": 0.0, "tie": EVEN}


@dataclass(frozen=True)
class AskedJudge:
    """Who judges the answers of an experiment: parameters of the step `judge`.

    Name and fingerprint of its verdicts tell judges and rubrics apart.
    """

    params: dict[str, Any]
    scorer: str
    fingerprint: str


def judge_of(noted: Mapping[str, Any]) -> AskedJudge | None:
    """The judge of an experiment as it was noted, where it has one."""
    return AskedJudge(**noted["judge"]) if noted.get("judge") else None


@dataclass(frozen=True)
class MatchUp:
    """Two answers to an item: of run number `run` of `arm`, and of the run of `against` that it meets.

    `forward` is the comparison with the former first, `backward` with the latter; None where they are equal.
    """

    arm: str
    against: str
    run: int
    item: int
    forward: Row | None
    backward: Row | None


def match_ups(ws: Workspace, noted: Mapping[str, Any], runs: Mapping[str, Sequence[str]]) -> list[MatchUp]:
    """All that is to be judged; `runs` has the ids of each arm's runs, and of the one that measures the noise."""
    from filters.judge.question import comparison

    given: dict[str, dict[int, str]] = {}
    for answer in rows.answers(ws.store, [run for ids in runs.values() for run in ids]).to_pylist():
        given.setdefault(answer["run_id"], {})[answer["eval_item"]] = answer["text"]
    again = [(NOISE, BASELINE)] if NOISE in runs else []
    found = []
    for item in ws.eval_rows(noted["evalset"]).to_pylist():
        number, asked = item["item"], split_reference(json.loads(item["messages"]))[0]
        for arm, against in [*pairs_of(noted), *again]:
            if arm not in runs or against not in runs:
                continue
            for place, run in enumerate(runs[arm]):
                mine = given.get(run, {}).get(number)
                theirs = given.get(runs[against][opponent(place, number, len(runs[arm]))], {}).get(number)
                if mine is None or theirs is None:
                    continue
                two = [(mine, theirs), (theirs, mine)] if mine != theirs else []
                forward, backward = [comparison(asked, *answers) for answers in two] or (None, None)
                found.append(MatchUp(arm, against, place, number, forward, backward))
    return found


def to_ask(found: Sequence[MatchUp]) -> Iterator[list[Row]]:
    """The comparisons of match-ups, the two of one together."""
    for one in found:
        if one.forward and one.backward:
            yield [one.forward, one.backward]


@dataclass(frozen=True)
class JudgedState:
    """How far the judging of an experiment has come: pairs of answers by what became of them.

    `failed` have no usable answer in one order at least; `waiting` were not asked about. `why` says why it rests.
    """

    scorer: str
    pairs: int
    judged: int
    flips: int
    failed: int
    waiting: int
    why: str = ""

    @property
    def done(self) -> bool:
        """Whether every pair was asked about, and some were answered."""
        return self.waiting == 0 and self.judged > 0

    def as_json(self) -> dict[str, Any]:
        """The entry `judge` of the JSON of `compare`."""
        return {"state": "done" if self.done else "waiting", **asdict(self)}

    def sentences(self, id: str) -> list[str]:
        """What a reader of the verdict must know of it; `id` is the experiment's."""
        told = []
        pairs = counted(self.pairs, "pair")
        if not self.done:
            why = f" ({self.why})" if self.why else ""
            told.append(
                f"The judge has spoken on {self.judged:,} of {pairs} of answers{why}: this verdict does without it. "
                f"`workbench experiments resume {id}` goes on where it was."
            )
        elif self.failed:
            told.append(f"{counted(self.failed, 'pair')} of {self.pairs:,} have no usable verdict of the judge.")
        if self.judged:
            told.append(
                f"Where the order of showing decided, it is a tie: {self.flips:,} of {self.judged:,} judged pairs."
            )
        return told


def known_preferences(
    ws: Workspace,
    judge: AskedJudge,
    found: Sequence[MatchUp],
    tables: Mapping[str, Mapping[str, Floats]],
    clusters: Sequence[str],
    stopped: Problem | None = None,
) -> tuple[dict[tuple[str, str], Preference], JudgedState]:
    """What the judge said, for each two arms that were compared, and how far it came; nothing is asked.

    `tables` are those of every arm's metrics (`workbench.measurements`); `stopped` is what ended the judging.
    """
    shares, flips, failed, waiting = _shares(ws, judge, found)
    judged = [share for share in shares if share is not None]
    state = JudgedState(
        judge.scorer, len(found), len(judged), flips, failed, waiting, stopped.what.rstrip(".") if stopped else ""
    )
    if not state.done:
        return {}, state
    by_pair: dict[tuple[str, str], Floats] = {}
    for one, share in zip(found, shares, strict=True):
        size = (1 if one.arm == NOISE else len(tables[one.arm]["answer_tokens"]), len(clusters))
        table = by_pair.setdefault((one.arm, one.against), np.full(size, np.nan))
        if share is not None:
            table[one.run, one.item] = share
    again = by_pair.pop((NOISE, BASELINE), None)
    preferences = {}
    for (arm, against), table in by_pair.items():
        if not np.isnan(table).any(0).all():
            longer = _longer(tables[arm]["answer_tokens"], tables[against]["answer_tokens"])
            preferences[arm, against] = Preference(table, longer, list(clusters), again)
    return preferences, state


def note_win_rates(
    ws: Workspace,
    preferences: Mapping[tuple[str, str], Preference],
    runs: Mapping[str, Sequence[str]],
    tables: Mapping[str, dict[str, Floats]],
) -> None:
    """Put the win rates against the baseline among what was measured of each item, there and in `tables`.

    The baseline has that of a version against itself.
    """
    against = {arm: found.shares for (arm, other), found in preferences.items() if other == BASELINE}
    if not against:
        return
    against[BASELINE] = np.full_like(tables[BASELINE]["answer_tokens"], EVEN)
    for arm, table in against.items():
        tables[arm][WIN_RATE] = table
    values = {run: table[place] for arm, table in against.items() for place, run in enumerate(runs[arm])}
    rows.save_metric(ws.store, WIN_RATE, values)


def _shares(ws: Workspace, judge: AskedJudge, found: Sequence[MatchUp]) -> tuple[list[float | None], int, int, int]:
    """What the first answer of each match-up got, None without a verdict; how many flipped, failed and wait."""
    from filters.judge.pairs import verdict

    hashes = [row.content_hash for batch in to_ask(found) for row in batch]
    with closing(StoredScores(ws.store)) as kept:
        known = kept.get(hashes, judge.scorer, judge.fingerprint)
    shares: list[float | None] = []
    flips = failed = waiting = 0
    for one in found:
        if one.forward is None or one.backward is None:
            shares.append(EVEN)
            continue
        there, back = (known.get(row.content_hash) for row in (one.forward, one.backward))
        share = None
        if there is None or back is None:
            waiting += 1
        elif there.value is None or back.value is None:
            failed += 1
        else:
            said = verdict(there.value, 1 - back.value)
            flips += bool(said.flipped)
            share = _SHARES[said.winner or "tie"]
        shares.append(share)
    return shares, flips, failed, waiting


def _longer(mine: Floats, theirs: Floats) -> Floats:
    """How many tokens longer each answer is than the one that it met."""
    runs, items = mine.shape
    met = [[theirs[opponent(run, item, runs), item] for item in range(items)] for run in range(runs)]
    return mine - np.array(met)
