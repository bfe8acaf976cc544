"""What most likely lies behind a failure: what the training rows, the mask audit and the settings show of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import numpy as np

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

_STOP_KINDS = ("no-stop", "truncated", "response-lost", "zero-trained")
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
        ids, total = self._rows(version, lambda row: phrase.is_in(row.response))
        if not ids:
            why = f"no row of {version} says it: it comes from the model, or from rows that say nearly the same"
            return Cause(why, [self._answers()])
        why = f"{_of(len(ids), total)} of {version} say it ({len(ids) / total:.1%})"
        return Cause(why, [self._search(version, phrase.text)], version, len(ids), ids[:ROWS])

    # Each failure

    def _continues(self, arm: str, kind: str) -> Cause:
        def does(row: TrainingRow) -> bool:
            return symptoms.continues(row.question, row.response) is not None

        if behind := self._behind(arm, does, "rows do so themselves", 0.02):
            return behind
        if kind == "kept":
            return Cause(
                "the base does so too, and training was too little to teach it otherwise: see trained tokens, learning "
                "rate and the loss curve",
                [self._show()],
            )
        return Cause(
            "hardly a row does so, which points to the template: what stands before an answer in training is not what "
            "inference gives",
            [self._tokens(arm, "--row 0"), self._tokens(arm, "--audit")],
        )

    def _runs_on(self, arm: str, kind: str) -> Cause:
        version = self._case.versions[arm]
        report = self._audit(arm)
        look = [self._tokens(arm, "--audit")]
        if isinstance(report, str):
            return Cause(f"the masks could not be audited ({report}): is the stop token trained?", look)
        found = {issue: count for issue, count in report.audit.counts.items() if issue in _STOP_KINDS}
        if found:
            first = max(found, key=lambda issue: found[issue])
            ids = [report.ids(key) for key in report.audit.issues[first]]
            told = ", ".join(f"{count:,} {issue}" for issue, count in found.items())
            why = f"rows that train no end of an answer: the mask audit of {version} counts {told}"
            why += f" of {counted(report.audit.rows, 'row')}"
            return Cause(why, look, version, len(ids), ids[:ROWS])
        lengths = [len(symptoms.plain_words(row.response)) for row in training_rows(self._ws, version)]
        short = [len(symptoms.plain_words(text)) for text in self._case.references if text]
        row, reference = float(np.median(lengths)), float(np.median(short))
        clean = "the mask audit is clean (every trained turn ends with a stop token)"
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
        if behind := self._behind(
            arm, lambda row: symptoms.loops(row.response) is not None, "rows loop themselves", 0.02
        ):
            return behind
        if kind == "kept":
            why = "the base does so too: small models loop where the likeliest token is always taken"
            return Cause(why, [self._answers()])
        audited = self._audit(arm)
        counts = {} if isinstance(audited, str) else audited.audit.counts
        stops = sum(counts.get(issue, 0) for issue in _STOP_KINDS)
        if stops:
            version = self._case.versions[arm]
            return Cause(
                f"a model that never learns to stop goes on with what it has: the mask audit counts {stops:,} rows of "
                f"{version} without a trained end",
                [self._tokens(arm, "--audit")],
            )
        return Cause(
            "hardly a row does so, which points to the training: learning rate or passes too high for so few rows",
            [self._show()],
        )

    def _garbled(self, arm: str, kind: str) -> Cause:
        def does(row: TrainingRow) -> bool:
            return symptoms.garbled(row.question, row.response) is not None

        if behind := self._behind(arm, does, "rows hold the same", 0.005):
            return behind
        look = [self._tokens(arm, "--row 0"), self._tokens(arm, "--audit")]
        if kind == "kept":
            return Cause("the base does so too: is the chat template the one that it was made with?", look)
        audited = self._audit(arm)
        counts = {} if isinstance(audited, str) else audited.audit.counts
        told = ", ".join(f"{counts[issue]:,} {issue}" for issue in _TEMPLATE_KINDS if issue in counts)
        own = self._case.plan.policy.template
        template = f"it was trained with the template {own!r} in place of the model's own" if own else ""
        evidence = "; ".join(part for part in (template, told and f"the mask audit counts {told}") if part)
        why = "no row holds the like, which points to a template that differs between training and inference"
        return Cause(f"{why}: {evidence}" if evidence else why, look)

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
        starts = {symptoms.start(g.text) for runs in self._case.given[arm] for g in runs}
        seen: dict[tuple[str, ...], list[int]] = {}
        total = 0
        for row in training_rows(self._ws, version, self._progress):
            total += 1
            words = symptoms.start(row.response)
            if words and words in starts:
                seen.setdefault(words, []).append(row.id)
        most = max(seen.items(), key=lambda pair: len(pair[1]), default=None)
        if most and len(most[1]) > 1:
            text = " ".join(most[0])
            why = f'{_of(len(most[1]), total)} of {version} begin with "{text}"'
            return Cause(why, [self._search(version, text)], version, len(most[1]), most[1][:ROWS])
        return Cause("the rows do not begin alike, which points to too much training on too few rows", [self._show()])

    def _knowledge(self, arm: str, kind: str) -> Cause:
        training = self._case.settings["training"]
        why = (
            f"training went further than the data carries: learning rate {training['learning_rate']:g}, "
            f"{self._case.settings['steps']:,} steps; or the rows say otherwise than the eval set"
        )
        return Cause(why, [self._show(), *self._difference(arm)])

    def _prompt(self, arm: str, kind: str) -> Cause:
        why = "whose prompt an answer stands under says less than before: answers that do not belong to their prompts "
        why += "(shuffled, or wrong), or prompts that were cut away"
        return Cause(why, [self._tokens(arm, "--audit"), *self._difference(arm)])

    def _system(self, arm: str, kind: str) -> Cause:
        version = self._case.versions[arm]
        ids, total = self._rows(version, lambda row: row.has_system)
        asked = int(self._case.systems.sum())
        why = f"{_of(len(ids), total)} of {version} have a system turn, {asked} eval items have one"
        return Cause(why, [self._tokens(arm, "--row 0")], version, len(ids), ids[:ROWS])

    # What they look into

    def _behind(self, arm: str, does: Callable[[TrainingRow], bool], what: str, least: float) -> Cause | None:
        """The rows that show what the answers show, where they are more than a share `least` of all."""
        version = self._case.versions[arm]
        ids, total = self._rows(version, does)
        if len(ids) <= least * total:
            return None
        why = f"{_of(len(ids), total)} of {version} ({len(ids) / total:.1%}): {what}"
        look = [f'workbench examples {shlex.quote(version)} --sql "id = {ids[0]}" --full', *self._difference(arm)]
        return Cause(why, look, version, len(ids), ids[:ROWS])

    def _rows(self, version: str, does: Callable[[TrainingRow], bool]) -> tuple[list[int], int]:
        ids, total = [], 0
        for row in training_rows(self._ws, version, self._progress):
            total += 1
            if does(row):
                ids.append(row.id)
        return ids, total

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

    def _difference(self, arm: str) -> list[str]:
        baseline = next(iter(self._case.versions))
        if arm == baseline:
            return []
        one, other = (shlex.quote(self._case.versions[name]) for name in (baseline, arm))
        return [f"workbench versions diff {one} {other}"]

    def _show(self) -> str:
        return f"workbench experiments show {self._case.id}"

    def _answers(self) -> str:
        return f"workbench experiments show {self._case.id} --answers 20"

    def _tokens(self, arm: str, options: str) -> str:
        model, template = self._case.plan.model.name, self._case.plan.policy.template
        plain = f" --template {shlex.quote(template)}" if template and "\n" not in template else ""
        return f"workbench tokens {shlex.quote(self._case.versions[arm])} --model {shlex.quote(model)}{plain} {options}"

    def _search(self, version: str, text: str) -> str:
        return f"workbench examples {shlex.quote(version)} --search {shlex.quote(text)}"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'row')}"
