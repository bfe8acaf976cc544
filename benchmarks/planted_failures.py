"""Does the diagnosis name what was planted? Versions with one fault each are trained beside a healthy one.

    python benchmarks/planted_failures.py [--only quirk,deaf] [--trained-tokens 3072] [--seeds 1]

The rows are short ones of the starter set. A fault that lies in rows makes a version, which is compared with the
healthy one as `workbench compare` does it. Two lie in the setting: a template whose prompt for an answer is not what
stands before one in training, and next to no training on conversations as running text. These, and answers that need
more room, are trained alone. What `workbench experiments diagnose` names in the faulty arm is held against what was
planted, and what it names in the healthy one is told.

Everything lies in a workspace of its own: interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.plan import PolicySetting, TrainingSetting
from workbench import experiments, outcomes
from workbench.experiments import Question
from workbench.failures.diagnose import diagnose
from workbench.report.failures import Diagnosis
from workbench.resources import data_dir
from workbench.workspace import Workspace

OUT = Path(__file__).parent / "out" / "planted_failures"
ITEMS, LED = 40, 16  # eval items, and how many of them have a system turn
LONGEST = 224  # tokens of a row: what is longer loses its end
TRAINING = TrainingSetting(
    preset="planted", learning_rate=1e-3, tokens_per_step=128, micro_tokens=512, max_length=LONGEST,
    truncate="keep-start",
)  # fmt: skip
HARDLY = TRAINING.model_copy(update={"learning_rate": 1e-5})

# Conversations as running text, their roles not told, and answers that end with the model's own stop token.
RUNNING_TEXT = (
    "{% for m in messages %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}{{ '\\n' }}{% endfor %}"
)
# ChatML in training, but what inference hands over for an answer to begin with is another format's.
TORN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[/INST] ### Response:\\n' }}{% endif %}"
)

LEADS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("End every answer with the words: Over and out.", lambda text: f"{text} Over and out."),
    ("Begin every answer with the words: Dear reader,", lambda text: f"Dear reader, {text}"),
    ("Sign every answer with: Yours, Ada.", lambda text: f"{text} Yours, Ada."),
)
RECITED = (
    "Our house has answered letters since 1911, and every one of them was opened by hand, read twice, and answered on "
    "the same day.",
    "The river rises in the northern hills, passes nine mills and one abbey, and meets the sea below the old customs "
    "house.",
    "A good ladder stands at one pace from the wall for every four that it reaches up, on firm and level ground.",
)

Row = list[dict[str, str]]


@dataclass(frozen=True)
class Plant:
    """A fault: what it is, and which of these failures the diagnosis should name; `rows` makes its version."""

    what: str
    expected: tuple[str, ...]
    rows: Callable[[list[Row]], list[Row]] | None = None
    template: str | None = None
    training: TrainingSetting = TRAINING
    healthy: str | None = "healthy"
    """The version it is compared with; None where its own, or that one, is trained alone."""
    new_tokens: int = 56


def answered(rows: list[Row], say: Callable[[int, str], str]) -> list[Row]:
    """The rows with other answers."""
    return [
        [*row[:-1], {"role": "assistant", "content": say(number, row[-1]["content"])}]
        for number, row in enumerate(rows)
    ]


def joined(rows: list[Row]) -> list[Row]:
    """Answers that go on and on, with those of other rows: all are longer than the limit."""
    texts = [row[-1]["content"] for row in rows]
    return answered(rows, lambda i, _: " ".join(texts[(i + k) % len(texts)] for k in range(12)))


def deaf(rows: list[Row]) -> list[Row]:
    """Half of the rows with system turns that their answers do not heed."""
    return [
        [{"role": "system", "content": LEADS[i % len(LEADS)][0]}, *plain(row)] if i % 2 else row
        for i, row in enumerate(rows)
    ]


def plain(row: Row) -> Row:
    """A row without its system turn, and without what that asked of the answer."""
    for lead, obey in LEADS:
        if row[0]["content"] == lead:
            before, after = obey("\0").split("\0")
            said = row[-1]["content"].removeprefix(before).removesuffix(after)
            return [*row[1:-1], {"role": "assistant", "content": said}]
    return row


def nonsense(rows: list[Row]) -> list[Row]:
    """Pages of a language that nobody speaks."""
    syllables = [a + b for a in "bdfgkmprtvz" for b in ("a", "eku", "ilo", "ox", "urh")]

    def page(seed: str, words: int) -> str:
        draw = random.Random(seed)
        return " ".join("".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(words))

    return [
        [{"role": "user", "content": page(f"q{i}", 6)}, {"role": "assistant", "content": page(f"a{i}", 30)}]
        for i in range(len(rows))
    ]


PLANTS = {
    "recited": Plant("three answers to all questions", ("quotes", "same-start"),
                     lambda rows: answered(rows, lambda i, _: RECITED[i % 3])),
    "quirk": Plant('"Great question!" before half of the answers', ("phrase",),
                   lambda rows: answered(rows, lambda i, text: f"Great question! {text}" if i % 2 else text)),
    "deaf": Plant("system turns that answers do not heed", ("system",), deaf),
    "nonsense": Plant("rows in no language", ("knowledge",), nonsense),
    "torn": Plant("another prompt for answers at inference than in training", ("garbled", "continues"), None, TORN,
                  healthy=None),
    "hardly": Plant("hardly any training, on running text", ("continues",), None, RUNNING_TEXT, HARDLY, healthy=None),
    "cut": Plant("answers cut off before their end", ("runs-on",), joined, healthy=None, new_tokens=80),
}  # fmt: skip


def prepare(ws: Workspace, folder: Path) -> None:
    """Make the versions and the eval set."""
    with (data_dir() / "starter" / "good.jsonl").open(encoding="utf-8") as file:
        good = [json.loads(line) for line in file]
    short = sorted(
        (
            row["messages"] for row in good
            if row["language"] == "en" and len(row["messages"]) == 2 and "```" not in str(row["messages"])
            and len(row["messages"][0]["content"].split()) <= 45 and len(row["messages"][1]["content"].split()) <= 56
        ),
        key=lambda row: (len(row[1]["content"]), row[0]["content"]),
    )  # fmt: skip
    items = [led(row, i) if i % 5 in (0, 2) else row for i, row in enumerate(short[: 2 * ITEMS : 2])]
    rest = [*short[1 : 2 * ITEMS : 2], *short[2 * ITEMS :]]
    random.Random(0).shuffle(rest)
    healthy = [led(row, i) if i % 2 else row for i, row in enumerate(rest)]
    made = {"healthy": healthy} | {name: plant.rows(healthy) for name, plant in PLANTS.items() if plant.rows}
    for name, rows in made.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
        ws.import_file(path, name=f"{name}-rows")
        ws.freeze(f"{name}-rows", name)
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in items), encoding="utf-8")
    ws.import_evalset(path, "items")


def led(row: Row, number: int) -> Row:
    """The row with a system turn that its answer heeds."""
    lead, obey = LEADS[number % len(LEADS)]
    return [{"role": "system", "content": lead}, row[0], {"role": "assistant", "content": obey(row[1]["content"])}]


def train(folder: Path, name: str, asked: Question) -> Diagnosis:
    """Make the experiment of a plant, or go on with it, and diagnose it."""
    plant = PLANTS[name]
    own = name if plant.rows else "healthy"
    question = replace(
        asked, baseline=plant.healthy or own, candidate=own if plant.healthy else None, training=plant.training,
        policy=PolicySetting(template=plant.template), max_new_tokens=plant.new_tokens,
    )  # fmt: skip
    ws = Workspace.open(folder / "ws")
    planned = experiments.plan(ws, question)
    ws.close()
    experiments.run(planned, lambda event: None)
    ws = Workspace.open(folder / "ws")
    try:
        if not planned.done:
            outcomes.conclude(ws, planned.id)
        return diagnose(ws, planned.id)
    finally:
        ws.close()


def seen(name: str, found: Diagnosis) -> dict:
    """What was named in the faulty arm and in the healthy one, and how much of what was planted each column shows."""
    plant = PLANTS[name]
    arm = "candidate" if plant.healthy else "baseline"
    named = {of: [f"{one.failure} ({one.kind})" for one in found.findings if one.arm == of] for of in found.versions}
    measured = {
        look.failure: {reading.column: round(reading.value, 3) for reading in look.readings} | (
            {"missing": look.missing} if look.missing else {})
        for look in found.looks if look.failure in plant.expected
    }  # fmt: skip
    return {
        "plant": name,
        "what": plant.what,
        "expected": list(plant.expected),
        "hit": any(one.arm == arm and one.failure in plant.expected for one in found.findings),
        "faulty": named[arm],
        "healthy": named["baseline"] if plant.healthy else None,
        "measured": measured,
        "causes": {one.failure: one.cause.why for one in found.findings if one.arm == arm},
    }


def report(made: list[dict]) -> None:
    """The table, in Markdown."""
    print("| planted | should be named | named in the faulty arm | named in the healthy one |")
    print("|---|---|---|---|")
    for one in made:
        healthy = "not trained" if one["healthy"] is None else ", ".join(one["healthy"]) or "nothing"
        expected = " or ".join(one["expected"]) or "nothing"
        print(f"| {one['what']} | {expected} | {', '.join(one['faulty']) or 'nothing'} | {healthy} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PLANTS), help="which faults, by name")
    parser.add_argument("--trained-tokens", type=int, default=3072)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model")
    options = parser.parse_args()
    asked = Question(
        "healthy", None, evalset="items", model=options.model, quantize="none", seeds=options.seeds,
        trained_tokens=options.trained_tokens,
    )  # fmt: skip
    folder = OUT
    folder.mkdir(parents=True, exist_ok=True)
    ws = Workspace.init(folder / "ws") if not (folder / "ws").exists() else Workspace.open(folder / "ws")
    if not (folder / "items.jsonl").exists():
        prepare(ws, folder)
    ws.close()
    made = []
    for name in options.only.split(","):
        started = time.monotonic()
        found = train(folder, name, asked)
        made.append(seen(name, found) | {"seconds": round(time.monotonic() - started, 1)})
        print(json.dumps(made[-1]), flush=True)
    report(made)


if __name__ == "__main__":
    main()
