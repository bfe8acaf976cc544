"""The command that asks an experiment's question: what a person types to have it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

from trainer.chat.plain_formats import PLAIN_FORMATS
from trainer.plan import SHORT, STANDARD, STANDARD_FROM, TrainingSetting
from workbench.experiments import Question, asked
from workbench.preferences import AskedJudge
from workbench.store.experiments import find_experiment
from workbench.sweep import Sweep
from workbench.workspace import Workspace

_TOLD = {"preset", "early_stop", "max_length", "truncate"}
"""What of a training setting the options of `compare` can say."""


def command_line(question: Question) -> tuple[str, list[str]]:
    """The shell line for a question, and a sentence for each thing that no option says."""
    command = "sweep" if question.sweep else "train" if question.candidate is None else "compare"
    notes: list[str] = []
    words = ["workbench", command, question.baseline, *question.candidates]
    if question.sweep:
        words += _sweep(question.sweep, notes)
    if question.controls:
        words += ["--control", ",".join(question.controls)]
    words += [word for merge in question.merges for word in ("--merge", merge)]
    if question.model:
        words += ["--model", question.model]
    if question.evalset:
        words += ["--evalset", question.evalset]
    words += ["--seeds", str(question.seeds)]
    if question.trained_tokens:
        words += ["--trained-tokens", str(question.trained_tokens)]
    elif question.minutes:
        words += ["--minutes", f"{question.minutes:g}"]
    elif question.epochs:
        words += ["--match", "epochs", "--epochs", str(question.epochs)]
    if not question.sweep:
        words += ["--quantize", question.quantize]
    words += ["--device", question.device]
    words += ["--max-new-tokens", str(question.max_new_tokens)]
    if question.judge:
        words += _judge(question.judge.params, notes)
    if question.training:
        words += _training(question, question.training, notes)
    words += _policy(question, notes)
    return shlex.join(words), notes


def judging_command(ws: Workspace, name: str) -> str:
    """The shell line that has the answers of a finished experiment judged: its question, with a judge."""
    question = asked(find_experiment(ws.store, name))
    line, _ = command_line(replace(question, judge=AskedJudge({"rubric": "helpfulness"}, "", "")))
    return line


def _judge(params: dict[str, Any], notes: list[str]) -> list[str]:
    words = ["--judge", str(params.get("rubric", "helpfulness"))]
    for name, option in (
        ("model", "--judge-model"),
        ("base_url", "--judge-url"),
        ("budget_calls", "--judge-budget-calls"),
    ):
        if name in params:
            words += [option, str(params[name])]
    if "/" in words[1]:
        notes.append("The judge's rubric was a file of its own: name it with --judge.")
    return words


def _sweep(sweep: Sweep, notes: list[str]) -> list[str]:
    axes = {
        "--method": [method for method in sweep.methods if method not in sweep.peft],
        "--rank": sweep.ranks,
        "--alpha": sweep.alphas,
        "--learning-rate": [f"{rate:g}" for rate in sweep.learning_rates],
        "--epochs": sweep.epochs,
    }
    for name, config in sweep.peft.items():
        notes.append(f"The file {name}.json, for --peft-config, holds {json.dumps(config)}.")
    words = [word for option, values in axes.items() if values for word in (option, ",".join(map(str, values)))]
    return words + [word for name in sweep.peft for word in ("--peft-config", f"{name}.json")]


def _training(question: Question, training: TrainingSetting, notes: list[str]) -> list[str]:
    presets = {SHORT.preset: SHORT, STANDARD.preset: STANDARD}
    preset = presets.get(training.preset)
    if preset is None or training.model_dump(exclude=_TOLD) != preset.model_dump(exclude=_TOLD):
        notes.append("No option sets the learning rate and step sizes of this experiment: they stand in its settings.")
    words = ["--preset", training.preset] if preset else []
    by_budget = STANDARD if (question.trained_tokens or 0) >= STANDARD_FROM else SHORT
    usual = preset or by_budget
    if training.early_stop:
        words.append("--early-stop")
    if training.max_length != usual.max_length:
        words += ["--max-length", str(training.max_length)]
    if training.truncate != usual.truncate:
        words += ["--truncate", training.truncate]
    return words


def _policy(question: Question, notes: list[str]) -> list[str]:
    policy, words = question.policy, []
    if policy.turns != "all":
        words += ["--policy", policy.turns]
    if not policy.tool_calls:
        words.append("--no-tool-calls")
    if not policy.reasoning:
        words.append("--no-reasoning")
    if policy.special != "flag":
        words += ["--special", policy.special]
    if policy.date:
        words += ["--date", policy.date]
    for name, value in sorted(policy.template_args.items()):
        words += ["--template-arg", f"{name}={json.dumps(value)}"]
    if policy.template in PLAIN_FORMATS:
        words += ["--template", policy.template]
    elif policy.template:
        notes.append("The chat template was a file of its own: name it with --template.")
    return words
