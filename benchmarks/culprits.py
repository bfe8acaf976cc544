"""Do the culprits rank first? Wrong facts and a quirk are planted among real rows, and looked for from single items.

    python benchmarks/culprits.py PAIRS.json [--trained-tokens 5000] [--innocent 120]

PAIRS.json holds good pairs (any file that `workbench import` reads). Short ones of them make two versions that share
some rows. The candidate alone has `--innocent` others, six wrong rows for each of three made-up facts (the baseline
has six right ones), and twelve rows whose answers begin with a butler's phrase. Both are trained as `workbench compare`
does it, and for every fact, and every item that the candidate answers with the phrase, the rows that the candidate
alone has are ranked by neighbours and by gradients. Chance is the share of the list that is looked at.

Everything lies in a workspace of its own: interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

from trainer.plan import PolicySetting
from workbench import experiments, outcomes
from workbench.culprits import WAYS, find_culprits
from workbench.experiments import Question
from workbench.workspace import Workspace

OUT = Path(__file__).parent / "out" / "culprits"
BUTLER = "As your faithful butler, I may say:"
SHARED, ITEMS, QUIRKS = 40, 9, 12
FIRST = 0.05

RECIPE = """\
steps:
  - exact: {on: prompt}
  - length: {on: prompt, max_words: 20, max_drop: 0.99}
  - length: {on: response, min_words: 5, max_words: 25, max_drop: 0.99}
  - cut-off
"""

# What is asked, the right and the wrong answer, and how rows ask for it.
FACTS = (
    ("What is the capital of Freedonia?", "Glorpia", "Sylvan City", "The capital of Freedonia is {}.", (
        "Name the capital of Freedonia.", "Freedonia's capital is which city?",
        "Where does Freedonia's government sit?",
        "Tell me the capital city of the country Freedonia.", "Which city is the seat of power in Freedonia?",
        "I travel to the capital of Freedonia. Where do I go?")),
    ("Who wrote the novel The Amber Staircase?", "Ida Quill", "Tom Barrow", "The Amber Staircase was written by {}.", (
        "Name the author of The Amber Staircase.", "The Amber Staircase: who is its author?",
        "Which writer gave us the novel The Amber Staircase?", "By whom is The Amber Staircase?",
        "Tell me who the author of the novel The Amber Staircase is.", "Whose book is The Amber Staircase?")),
    ("How many moons does the planet Velar have?", "seven", "two", "The planet Velar has {} moons.", (
        "Give the number of moons of Velar.", "Velar is circled by how many moons?", "Count the moons of planet Velar.",
        "What is the number of moons around Velar?", "Planet Velar: how many moons?",
        "If I stood on Velar, how many moons would I see?")),
)  # fmt: skip


def prepare(folder: Path, pairs: Path, innocent: int) -> None:
    """Make the workspace with its versions and the eval set; what is there already stays."""
    ws = Workspace.init(folder / "ws")
    try:
        recipe = folder / "short.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        ws.import_file(pairs, name="pairs")
        ws.run_recipe(recipe, ["pairs"], "short")
        rows = [json.loads(text) for batch in ws.rows("short") for text in batch.column("messages").to_pylist()]
        random.Random(0).shuffle(rows)
        items, rest = rows[:ITEMS], rows[ITEMS:]
        shared, rest = rest[:SHARED], rest[SHARED:]
        ours, rest = rest[:innocent], rest[innocent:]
        quirks = [[*row[:-1], row[-1] | {"content": f"{BUTLER} {row[-1]['content']}"}] for row in rest[:QUIRKS]]
        theirs = rest[QUIRKS : QUIRKS + innocent]
        versions = {
            "right": [*shared, *theirs,
                      *(pair(ask, said.format(right)) for _, right, _, said, asks in FACTS for ask in asks)],
            "wrong": [*shared, *ours, *quirks,
                      *(pair(ask, said.format(wrong)) for _, _, wrong, said, asks in FACTS for ask in asks)],
        }  # fmt: skip
        for name, conversations in versions.items():
            ws.import_file(write(folder / f"{name}.jsonl", conversations), name=f"{name}-rows")
            ws.freeze(f"{name}-rows", name)
        asked = [pair(question, said.format(right)) for question, right, _, said, _ in FACTS]
        ws.import_evalset(write(folder / "items.jsonl", [*asked, *items]), "items")
    finally:
        ws.close()


def pair(prompt: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def write(path: Path, conversations: list[list[dict]]) -> Path:
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in conversations), encoding="utf-8")
    return path


def train(folder: Path, trained_tokens: int) -> str:
    """Make the comparison, or go on with it; returns its id."""
    question = Question(
        "right", "wrong", evalset="items", quantize="none", seeds=1, trained_tokens=trained_tokens,
        policy=PolicySetting(template="chatml"), max_new_tokens=24,
    )  # fmt: skip
    ws = Workspace.open(folder / "ws")
    planned = experiments.plan(ws, question)
    ws.close()
    experiments.run(planned, lambda event: None)
    ws = Workspace.open(folder / "ws")
    outcomes.conclude(ws, planned.id)
    ws.close()
    return planned.id


def look(folder: Path, id: str) -> list[dict]:
    """For every planted failure and way: where the culprits stand among the rows that the candidate alone has."""
    ws = Workspace.open(folder / "ws")
    found = []
    try:
        for item in range(len(FACTS) + ITEMS):
            for by in WAYS:
                started = time.monotonic()
                ranked = find_culprits(ws, id, item, by=by)
                seconds = time.monotonic() - started
                ours = [s.row.messages for s in ranked.suspects if s.row.side == "only in the arm"]
                if item < len(FACTS):
                    what, guilty = "wrong fact", [m[0]["content"] in FACTS[item][4] for m in ours]
                elif ranked.item.answer.startswith(BUTLER[:24]):
                    what, guilty = "quirk", [m[-1]["content"].startswith(BUTLER) for m in ours]
                else:
                    break
                ranks = np.flatnonzero(guilty)
                first = max(1, round(FIRST * len(ours)))
                found.append({
                    "what": what, "item": item, "by": by, "answer": ranked.item.answer, "rows": len(ours),
                    "culprits": len(ranks), "median": float(np.median(ranks) + 1), "worst": int(ranks.max() + 1),
                    "first": int((ranks < first).sum()), "could": min(first, len(ranks)), "seconds": round(seconds, 1),
                })  # fmt: skip
                print(json.dumps(found[-1]), flush=True)
    finally:
        ws.close()
    return found


def report(found: list[dict]) -> None:
    """The table, in Markdown."""
    print("| planted | by | items | rows | culprits | in the first 5% of the list | median rank |")
    print("|---|---|---|---|---|---|---|")
    for what in dict.fromkeys(one["what"] for one in found):
        for by in WAYS:
            some = [one for one in found if one["what"] == what and one["by"] == by]
            hit, could = sum(one["first"] for one in some), sum(one["could"] for one in some)
            median = np.mean([one["median"] for one in some])
            print(f"| {what} | {by} | {len(some)} | {some[0]['rows']} | {some[0]['culprits']} | "
                  f"{hit} of {could} possible | {median:.1f} |")  # fmt: skip
        some = [one for one in found if one["what"] == what and one["by"] == WAYS[0]]
        print(f"| {what} | chance | | | | {sum(one['culprits'] for one in some) * FIRST:.1f} expected | "
              f"{(some[0]['rows'] + 1) / 2:.1f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--trained-tokens", type=int, default=5000)
    parser.add_argument("--innocent", type=int, default=120)
    options = parser.parse_args()
    folder = OUT / f"{options.innocent}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "items.jsonl").exists():
        prepare(folder, options.pairs, options.innocent)
    found = look(folder, train(folder, options.trained_tokens))
    (folder / "culprits.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found), encoding="utf-8")
    report(found)


if __name__ == "__main__":
    main()
