"""What most likely lies behind a failure: what the training rows, the mask audit and the settings show of it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from trainer.chat import PLAIN_FORMATS
from trainer.plan import SHORT
from workbench.errors import Problem
from workbench.failures import symptoms
from workbench.failures.case import Case, Tick, TrainingRow, training_rows
from workbench.failures.phrases import Phrase
from workbench.failures.signs import Quotes, Signs
from workbench.report.failures import Cause
from workbench.text import counted
from workbench.tokens import AuditReport
from workbench.trained_masks import trained_masks
from workbench.workspace import Workspace

ROWS = 10
"""Rows named behind a cause."""

_LEAST = 0.02  # share of the rows that must show what answers show, or train no end, to be what lies behind
_TEMPLATE_KINDS = ("prefix-broken", "tags-disagree", "special-in-content", "template-error", "double-bos", "straddle")


class Causes:
    """Finds the causes of a case. Rows are read, and masks audited, only where a finding asks for them."""

    def __init__(self, ws: Workspace, case: Case, quotes: Quotes, quoting: Signs, progress: Tick | None) -> None:
        self._ws, self._case, self._progress = ws, case, progress
        self._quotes, self._quoting = quotes, quoting
        self._audits: dict[str, AuditReport | str] = {}

    def of(self, failure: str, arm: str, kind: str) -> Cause:
        """The cause of a failure of an arm."""
        made = {
            "continues": self._continues,
            "runs-on": self._runs_on,
            "loops": self._loops,
            "garbled": self._garbled,
            "quotes": self._quotes_rows,
            "same-start": self._same_start,
            "knowledge": self._knowledge,
            "prompt": self._prompt,
            "system": self._system,
        }
        return made[failure](arm, kind)

    def of_phrase(self, arm: str, phrase: Phrase) -> Cause:
        """Where a phrase comes from."""
        version = self._case.versions[arm]
        rows = self._rows(arm, lambda _, answer: phrase.is_in(answer))
        if not rows.first:
            why = f"no row of {version} says it: it comes from the model, or from rows that say nearly the same"
            return Cause(why, [self._answers()])
        why = f"{rows.told} of {version} say it ({rows.share:.1%})"
        return Cause(why, [self._search(version, phrase.text, rows)], version, rows.count, rows.ids)

    # Each failure

    def _continues(self, arm: str, kind: str) -> Cause:
        if behind := self._behind(arm, symptoms.continues, "rows do so themselves"):
            return behind
        if kind == "kept":
            return Cause(
                "the base does so too, and training was too little to teach it otherwise: see trained tokens, learning "
                "rate and the loss curve",
                [self._show()],
            )
        why = (
            "hardly a row does so, which points to the template: what stands before an answer in training is not what "
        )
        why += f"inference gives{self._of_template(arm)}"
        return Cause(why, [self._tokens(arm, "--row 0"), self._tokens(arm, "--audit")])

    def _runs_on(self, arm: str, kind: str) -> Cause:
        version, audited = self._case.versions[arm], self._audit(arm)
        look = [self._tokens(arm, "--audit")]
        if isinstance(audited, str):
            return Cause(f"the masks could not be audited ({audited}): is the stop token trained?", look)
        told, ids = _endless(audited)
        if len(ids) > _LEAST * audited.audit.rows:
            why = f"rows that train no end of an answer: the mask audit of {version} counts {told}"
            why += f" of {counted(audited.audit.rows, 'row')}"
            return Cause(why, look, version, len(ids), ids[:ROWS])
        lengths = [len(symptoms.plain_words(answer)) for row in self._read(arm) for _, answer in row.answers]
        short = [len(symptoms.plain_words(text)) for text in self._case.references if text]
        row, reference = float(np.median(lengths)), float(np.median(short))
        clean = "the mask audit is clean (every trained turn ends with a stop token)"
        if ids:
            clean = f"few rows train no end of an answer ({told})"
        if row > 2 * reference:
            why = f"{clean}, but the answers of {version} are long: {row:.0f} words at the median, "
            why += f"the references {reference:.0f}"
            return Cause(why, [f"workbench versions show {shlex.quote(version)}", *look])
        if kind == "kept":
            why = f"{clean}: the base does not stop either, and training was too little to teach it"
        else:
            why = f"{clean}: too much or too hard training (learning rate, epochs) can take the end away"
        return Cause(why, [self._show()])

    def _loops(self, arm: str, kind: str) -> Cause:
        if behind := self._behind(arm, lambda _, answer: symptoms.loops(answer), "rows loop themselves"):
            return behind
        if kind == "kept":
            why = "the base does so too: small models loop where the likeliest token is always taken"
            return Cause(why, [self._answers()])
        version, audited = self._case.versions[arm], self._audit(arm)
        told, ids = ("", []) if isinstance(audited, str) else _endless(audited)
        if not isinstance(audited, str) and len(ids) > _LEAST * audited.audit.rows:
            return Cause(
                f"a model that never learns to stop goes on with what it has: the mask audit of {version} counts "
                f"{told} of {counted(audited.audit.rows, 'row')}, which train no end of an answer",
                [self._tokens(arm, "--audit")],
                version,
                len(ids),
                ids[:ROWS],
            )
        return Cause(
            "hardly a row does so, which points to the training: learning rate or passes too high for so few rows",
            [self._show()],
        )

    def _garbled(self, arm: str, kind: str) -> Cause:
        if behind := self._behind(arm, symptoms.garbled, "rows hold the same", 0.005):
            return behind
        look = [self._tokens(arm, "--row 0"), self._tokens(arm, "--audit")]
        if kind == "kept":
            return Cause("the base does so too: is the chat template the one that it was made with?", look)
        why = "no row holds the like, which points to a template that differs between training and inference"
        return Cause(why + self._of_template(arm), look)

    def _quotes_rows(self, arm: str, kind: str) -> Cause:
        version = self._case.versions[arm]
        rows = self._quotes.quoted_rows(arm, self._quoting)
        ids = [id for id, _ in rows.most_common()]
        most = max(rows.values(), default=0)
        why = (
            f"the training answers are learnt by heart: {counted(len(ids), 'row')} of {version} are quoted, one in "
            f"{counted(most, 'answer')}; too many passes, copies of rows, or too few rows"
        )
        look = [f"workbench dupes {shlex.quote(version)} --method minhash --on response", self._show()]
        return Cause(why, look, version, len(ids), ids[:ROWS])

    def _same_start(self, arm: str, kind: str) -> Cause:
        version = self._case.versions[arm]
        starts = {symptoms.start(g.text) for runs in self._case.given[arm] for g in runs} - {None}

        def begins(row: TrainingRow) -> set[tuple[str, ...] | None]:
            return {symptoms.start(answer) for _, answer in row.answers} & starts

        counts = Counter(start for row in self._read(arm) for start in begins(row))
        most, count = max(counts.items(), key=lambda pair: pair[1], default=(None, 0))
        if most and count > 1:
            rows = self._rows(arm, lambda _, answer: symptoms.start(answer) == most)
            why = f'{rows.told} of {version} begin with "{" ".join(most)}"'
            return Cause(why, [self._search(version, " ".join(most), rows)], version, rows.count, rows.ids)
        return Cause("the rows do not begin alike, which points to too much training on too few rows", [self._show()])

    def _knowledge(self, arm: str, kind: str) -> Cause:
        steps = self._case.steps.get(arm)
        told = f", {steps:,} steps" if steps is not None else ""
        why = (
            f"training went further than the data carries: learning rate {self._case.training(arm).learning_rate:g}"
            f"{told}; or the rows say otherwise than the eval set"
        )
        return Cause(why, [self._show(), *self._difference(arm)])

    def _prompt(self, arm: str, kind: str) -> Cause:
        why = "whose prompt an answer stands under says less than before: answers that do not belong to their prompts "
        why += "(shuffled, or wrong), or prompts that were cut away"
        return Cause(why, [self._tokens(arm, "--audit"), *self._difference(arm)])

    def _system(self, arm: str, kind: str) -> Cause:
        version = self._case.versions[arm]
        having = [row.id if row.has_system else None for row in self._read(arm)]
        ids = [id for id in having if id is not None]
        asked = int(self._case.systems.sum())
        why = f"{_of(len(ids), len(having))} of {version} have a system turn, {asked} eval items have one"
        if ids:
            why += ": do their answers do what it says?"
        return Cause(why, [self._tokens(arm, "--row 0")], version, len(ids), ids[:ROWS])

    # What they look into

    def _behind(
        self, arm: str, sign: Callable[[str, str], str | None], what: str, least: float = _LEAST
    ) -> Cause | None:
        """The rows that show what the answers show, where they are more than a share `least` of all."""
        version = self._case.versions[arm]
        rows = self._rows(arm, sign)
        if rows.count <= least * rows.total:
            return None
        why = f"{rows.told} of {version} ({rows.share:.1%}): {what}"
        return Cause(why, [_ids(version, rows), *self._difference(arm)], version, rows.count, rows.ids)

    def _rows(self, arm: str, sign: Callable[[str, str], object]) -> _Rows:
        """The rows with a `sign(question, answer)` in one of their answers."""
        found = _Rows()
        for row in self._read(arm):
            found.total += 1
            if any(sign(question, answer) for question, answer in row.answers):
                found.count += 1
                if found.count <= ROWS:
                    found.first.append(row)
        return found

    def _read(self, arm: str) -> Iterator[TrainingRow]:
        return training_rows(self._ws, self._case, arm, self._progress)

    def _audit(self, arm: str) -> AuditReport | str:
        """The mask audit of an arm's rows, or why it cannot be made."""
        version = self._case.versions[arm]
        if version not in self._audits:
            try:
                self._audits[version] = trained_masks(
                    self._ws, version, self._case.plan, self._case.settings, self._progress
                )
            except Problem as problem:
                self._audits[version] = str(problem)
        return self._audits[version]

    def _of_template(self, arm: str) -> str:
        """What speaks for a template that does not fit, with a colon before it; empty where nothing does."""
        own, found = self._case.plan.policy.template, []
        if own:
            called = f"the template {own!r}" if own in PLAIN_FORMATS else "a template"
            found.append(f"it was trained with {called} in place of the model's own")
        audited = self._audit(arm)
        counts = {} if isinstance(audited, str) else audited.audit.counts
        if told := ", ".join(f"{counts[issue]:,} {issue}" for issue in _TEMPLATE_KINDS if issue in counts):
            found.append(f"the mask audit counts {told}")
        return f": {'; '.join(found)}" if found else ""

    def _difference(self, arm: str) -> list[str]:
        baseline = next(iter(self._case.versions))
        one, other = (shlex.quote(self._case.versions[name]) for name in (baseline, arm))
        return [f"workbench versions diff {one} {other}"] if one != other else []

    def _show(self) -> str:
        return f"workbench experiments show {self._case.id}"

    def _answers(self) -> str:
        return f"workbench experiments show {self._case.id} --answers 20"

    def _tokens(self, arm: str, options: str) -> str:
        """The command that shows tokens as this arm was trained on them."""
        policy, training = self._case.plan.policy, self._case.training(arm)
        said = ["workbench tokens", shlex.quote(self._case.versions[arm]), "--model"]
        said.append(shlex.quote(self._case.plan.model.name))
        if policy.template:
            said += ["--template", shlex.quote(policy.template) if "\n" not in policy.template else "FILE"]
        if policy.turns != "all":
            said += ["--policy", policy.turns]
        if training.max_length != SHORT.max_length or training.truncate != SHORT.truncate:
            said += ["--max-length", str(training.max_length), "--truncate", training.truncate]
        return " ".join([*said, options])

    def _search(self, version: str, text: str, rows: _Rows) -> str:
        """The command that shows the rows that say `text`, whose words may stand apart there."""
        if all(any(text in answer.casefold() for _, answer in row.answers) for row in rows.first):
            return f"workbench examples {shlex.quote(version)} --search {shlex.quote(text)}"
        return _ids(version, rows)


@dataclass
class _Rows:
    """Rows of a version that show something: the `first` of them, how many there are, and of how many."""

    first: list[TrainingRow] = field(default_factory=list)
    count: int = 0
    total: int = 0

    @property
    def ids(self) -> list[int]:
        return [row.id for row in self.first]

    @property
    def told(self) -> str:
        return _of(self.count, self.total)

    @property
    def share(self) -> float:
        return self.count / self.total


def _ids(version: str, rows: _Rows) -> str:
    condition = f"id IN ({', '.join(map(str, rows.ids))})"
    return f'workbench examples {shlex.quote(version)} --sql "{condition}" --full'


def _endless(report: AuditReport) -> tuple[str, list[int]]:
    """The rows that train no end of an answer, as a mask audit counts them, and their ids."""
    # Rows that are cut in another way keep the end of their answers, or are not trained on.
    kinds = ("no-stop", "response-lost") if report.audit.how == "keep-start" else ("no-stop",)
    found = {kind: report.audit.issues[kind] for kind in kinds if kind in report.audit.issues}
    keys = sorted({key for of_kind in found.values() for key in of_kind})
    return ", ".join(f"{len(of_kind):,} {kind}" for kind, of_kind in found.items()), [report.ids(key) for key in keys]


def _of(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'row')}"
