"""What each rule finds in the starter set, against its answer key; or its hits in rows of your own, to be read.

    python benchmarks/rule_quality.py                        prints a Markdown table for docs/filters.md
    python benchmarks/rule_quality.py --rows FILE.jsonl --rule cut-off [--show 40] [--seed 0]

FILE.jsonl holds one `{"messages": [...]}` a line, as `workbench versions export V -o FILE.jsonl --format messages`
writes them. Each rule runs with its defaults, alone, on all rows. Precision counts any row that the key lists, whatever
its kind; recall counts rows of the kind that the rule is meant for.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from filters.registry import STEPS
from filters.step import Finding, Row, RowStep, Scorer
from trainer.conversation import canonical_json, content_hash

STARTER = Path(__file__).parent.parent / "datasets" / "starter"
MEANT_FOR = {
    "refusal": "refusal",
    "cut-off": "cut-off",
    "markup": "leaked-markup",
    "repetition": "loop",
    "mojibake": "mojibake",
    "language": "wrong-language",
}
NEEDS = {"length": {"min_chars": 1}, "readability": {"max_grade": 20.0}}  # what has no default


def rules() -> dict[str, RowStep]:
    """The steps of `filters.rules`, with their defaults."""
    return {
        name: step(step.params_model(**NEEDS.get(name, {})))
        for name, step in STEPS.items()
        if issubclass(step, RowStep) and step.__module__.startswith("filters.rules.")
    }


def read(path: Path) -> list[Row]:
    """The rows of a messages file, numbered from 0."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            record = json.loads(line)
            messages = canonical_json(record["messages"])
            tools = canonical_json(record["tools"]) if record.get("tools") else None
            rows.append(Row(number, content_hash(messages, tools), messages, tools))
    return rows


def hits(rule: RowStep, rows: Sequence[Row]) -> tuple[list[tuple[Row, Finding]], int]:
    """The rows that `rule` drops, each with what it found, and how many it could not judge."""
    columns = [scorer.score(rows) for scorer in rule.scorers if isinstance(scorer, Scorer)]
    found, unjudged = [], 0
    for row, scores in zip(rows, zip(*columns, strict=True), strict=True):
        if any(score.state != "ok" for score in scores):
            unjudged += 1
        elif finding := rule.decide(scores):
            found.append((row, finding))
    return found, unjudged


def starter_table() -> str:
    """Each rule on the starter set: hits, precision, recall of its kind."""
    with (STARTER / "raw.jsonl").open(encoding="utf-8") as lines:
        ids = [json.loads(line)["id"] for line in lines]
    with (STARTER / "answer_key.jsonl").open(encoding="utf-8") as lines:
        key = {record["id"]: record["kind"] for record in map(json.loads, lines)}
    rows = read(STARTER / "raw.jsonl")
    table = ["| rule | dropped | flawed | precision | recall of its kind | not judged |", "|---|---|---|---|---|---|"]
    for name, rule in rules().items():
        found, unjudged = hits(rule, rows)
        kinds = [key.get(ids[row.id]) for row, _ in found]
        flawed = sum(kind is not None for kind in kinds)
        precision = f"{flawed / len(found):.0%}" if found else "-"
        recall = "-"
        if name in MEANT_FOR:
            there = sum(kind == MEANT_FOR[name] for kind in key.values())
            recall = f"{kinds.count(MEANT_FOR[name])} of {there} {MEANT_FOR[name]}"
        table.append(f"| `{name}` | {len(found)} | {flawed} | {precision} | {recall} | {unjudged} |")
    return "\n".join(table)


def show(path: Path, name: str, limit: int, seed: int) -> None:
    """Print a random sample of what rule `name` drops of the rows of `path`."""
    rows = read(path)
    found, unjudged = hits(rules()[name], rows)
    print(f"{name}: {len(found)} of {len(rows)} rows, {unjudged} not judged")
    for row, finding in random.Random(seed).sample(found, min(limit, len(found))):
        print(f"\nrow {row.id}: {finding.reason} | {finding.detail}")
        print("  prompt:", " ".join(row.text("prompt").split())[:300])
        print("  answer:", " ".join(row.text("response").split())[:600])


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="a messages JSONL file")
    parser.add_argument("--rule", choices=list(rules()))
    parser.add_argument("--show", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if (asked.rows is None) != (asked.rule is None):
        parser.error("--rows and --rule go together")
    if asked.rows:
        show(asked.rows, asked.rule, asked.show, asked.seed)
    else:
        print(starter_table())


if __name__ == "__main__":
    main()
