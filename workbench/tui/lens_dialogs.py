"""Questions about how rows are seen as tokens: which model, what is trained, how long is too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual.app import App

from trainer.chat import PLAIN_FORMATS, TRUNCATIONS, TURNS, with_template
from trainer.conversation import canonical_json
from workbench.errors import UsageProblem
from workbench.tokens import Lens, template_args
from workbench.tui.cells import flat
from workbench.tui.token_preview import model_lens
from workbench.tui.widgets.dialogs import ask_text, choose

SET_HERE = "set here"
_TRUNCATIONS = {
    "drop": "leave the example out",
    "keep-end": "cut its beginning",
    "keep-start": "cut its end",
    "drop-turns": "leave out its oldest turns",
}
_TURNS = {"all": "train every assistant turn", "last": "train only the last one", "full": "train every token"}


@dataclass(frozen=True)
class LensChange:
    """Another way to see rows: what it is called, and the lens that it makes. `apply` is called in a worker."""

    told: str
    apply: Callable[[Lens], Lens]


async def ask_model_name(app: App[Any], known: str = "") -> str:
    """Whose tokenizer to see rows with; empty where nobody says."""
    asked = "A name of the Hugging Face hub, or a folder that holds a tokenizer."
    return await ask_text(app, "Whose tokenizer?", known, detail=asked) or ""


async def ask_model(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """Another model's tokenizer and template, under the policy that there is."""
    model = given or await ask_model_name(app, lens.model)
    if not model:
        return None

    def apply(lens: Lens) -> Lens:
        other = model_lens(model)
        policy = replace(lens.policy, stop_ids=other.policy.stop_ids)
        if lens.limit_is == SET_HERE:
            other = replace(other, limit=lens.limit, limit_is=SET_HERE)
        return replace(other, policy=policy, truncate=lens.truncate)

    return LensChange(f"As {flat(Path(model).name)} reads it", apply)


async def ask_policy(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """Which turns are trained, and whether their tool calls and reasoning are."""
    policy = lens.policy
    options = [(name, f"{name:<12}{meaning}") for name, meaning in _TURNS.items()]
    options.append(("tool-calls", f"tool-calls  {'do not ' * policy.tool_calls}train them"))
    options.append(("reasoning", f"reasoning   {'do not ' * policy.reasoning}train it"))
    choice = given or await choose(app, "What is trained", options, detail=f"Now: {policy_told(lens)}.")
    if not choice:
        return None
    changes: dict[str, Any]
    if choice == "tool-calls":
        told, changes = f"Tool calls {'not ' * policy.tool_calls}trained", {"tool_calls": not policy.tool_calls}
    elif choice == "reasoning":
        told, changes = f"Reasoning {'not ' * policy.reasoning}trained", {"reasoning": not policy.reasoning}
    elif choice in TURNS:
        told, changes = f"Policy {choice}", {"turns": choice}
    else:
        raise UsageProblem(f"there is no policy {choice!r}", do=f"There is {', '.join(name for name, _ in options)}.")
    return LensChange(told, lambda lens: replace(lens, policy=replace(lens.policy, **changes)))


async def ask_template(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """Another way to write conversations than the model's own, or its own again."""
    options = [("own", "own         the model's own template"), *((name, name) for name in PLAIN_FORMATS)]
    asked = "`:template FILE` takes a Jinja file."
    template = given or await choose(app, "How conversations are written", options, detail=asked)
    if not template:
        return None

    def apply(lens: Lens) -> Lens:
        tokenizer = model_lens(lens.model).tokenizer
        return replace(lens, tokenizer=tokenizer if template == "own" else with_template(tokenizer, template))

    return LensChange(f"Template {flat(Path(template).name)}", apply)


async def ask_arguments(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """What the chat template is given besides the conversation."""
    now = " ".join(f"{name}={canonical_json(value)}" for name, value in lens.policy.template_args)
    asked = "name=value, several with blanks between them; none takes them away."
    given = given or await ask_text(app, "Arguments of the chat template", now, detail=asked) or ""
    if not given:
        return None
    args = tuple(sorted(template_args([] if given == "none" else given.split()).items()))
    told = f"Template arguments {flat(given)}"
    return LensChange(told, lambda lens: replace(lens, policy=replace(lens.policy, template_args=args)))


async def ask_truncation(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """What becomes of examples that are longer than the limit."""
    options = [(name, f"{name:<12}{meaning}") for name, meaning in _TRUNCATIONS.items()]
    how = given or await choose(app, f"Examples of more than {lens.limit:,} tokens", options)
    if not how:
        return None
    if how not in TRUNCATIONS:
        raise UsageProblem(f"there is no truncation {how!r}", do=f"There is {', '.join(TRUNCATIONS)}.")
    return LensChange(f"Truncation {how}", lambda lens: replace(lens, truncate=how))


async def ask_limit(app: App[Any], lens: Lens, given: str) -> LensChange | None:
    """How many tokens an example may have."""
    number = given or await ask_text(app, "Tokens that an example may have", f"{lens.limit}")
    if not number:
        return None
    digits = number.replace(",", "")
    if not digits.isdecimal() or not 0 < len(digits) < 10 or not int(digits):
        raise UsageProblem(f"{number!r} is no number of tokens", do="Give 1 or more.")
    limit = int(digits)
    return LensChange(f"Limit {limit:,}", lambda lens: replace(lens, limit=limit, limit_is=SET_HERE))


def policy_told(lens: Lens) -> str:
    """What is trained through a lens, in a few words."""
    policy = lens.policy
    told = f"policy {policy.turns}"
    for name, trained in (("tool calls", policy.tool_calls), ("reasoning", policy.reasoning)):
        told += "" if trained else f", no {name}"
    for name, value in policy.template_args:
        told += f", {name}={canonical_json(value)}"
    return told
