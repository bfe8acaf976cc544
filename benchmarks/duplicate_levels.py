"""What `minhash` finds of the near pairs of real files, by brute force; its levels beside those of a file's authors.

    python benchmarks/duplicate_levels.py [--rows 8000] [--without-authors]
    python benchmarks/duplicate_levels.py --growth [250 500 1000 2000]

The brute force knows nothing of the join: a text is a plain set of runs of five words, and every two sets are held
against each other. Both read the words of a text in the same way, since that is the definition of what is compared.
A row that should fall is one that is kept though a kept row is near it.

The authors of `../shared/data/near_duplicates` cleaned one file to two levels. They do not say how; the second table
holds their files against `minhash` and against a walk by the longest common subsequence of words of the responses
(ROUGE-L), by rapidfuzz, which is downloaded to `benchmarks/out/peers`. Nothing of the data is written.

`--growth` times prompts that are all alike, made of numbered words: one passage of 2,000 words with a question of
twelve behind it, that passage with 20 words changed in each row, and near copies of one prompt of 60 words.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
PEERS = Path(__file__).parent / "out" / "peers"
FILES = (
    "alpaca/alpaca_en.json",
    "alpaca/alpaca_zh.json",
    "alpaca/codegen_instruct.json",
    "sharegpt/dummy_conversation.json",
    "near_duplicates/toolformer_exact_deduped.json",
)
LEVELS = "near_duplicates/toolformer_{}.json"
THRESHOLDS = (0.9, 0.8, 0.7)


def turns(name: str) -> list[tuple[str, str]]:
    """Prompt and response of each row of a file of the shared data."""
    text = (SHARED / name).read_text(encoding="utf-8")
    records = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    if "conversations" in records[0]:
        return [
            tuple("\n".join(t["value"] for t in r["conversations"] if t["from"] == who) for who in ("human", "gpt"))
            for r in records
        ]
    return [
        (
            r.get("question") or "\n".join(filter(None, (r["instruction"], r.get("input")))),
            r.get("answer") or r.get("output") or r.get("response") or "",
        )
        for r in records
    ]


def plain_set(text: str) -> frozenset:
    """The runs of five words of a text as tuples; a shorter text is one element."""
    from filters.text import normalise, words_and_signs

    whole = normalise(text, ignore_case=True)
    words = words_and_signs(whole)
    runs = [tuple(words[i : i + 5]) for i in range(len(words) - 4)]
    return frozenset(runs or ([tuple(words) or whole] if whole else []))


def all_pairs(sets: list[frozenset], least: float) -> dict[tuple[int, int], float]:
    """Every pair of sets with Jaccard `least` or more, by looking at every two whose sizes allow it."""
    near = {}
    by_size = sorted(range(len(sets)), key=lambda i: len(sets[i]))
    for at, small in enumerate(by_size):
        one = sets[small]
        for large in by_size[at + 1 :]:
            other = sets[large]
            if len(one) < least * len(other) - 1e-9:
                break
            common = len(one & other)
            if common and (similarity := common / (len(one) + len(other) - common)) >= least:
                near[min(small, large), max(small, large)] = similarity
    return near


def ours(texts: list[str], least: float):
    from filters.dedup.jaccard import Sets, shingles, similar_pairs

    return similar_pairs(Sets.of([shingles(text) for text in texts]), least)


def brute_force_table(most: int) -> None:
    from filters.dedup.star import stars

    print("| file, side | rows | Jaccard | near pairs | recall | precision | rows that fall | should fall, too |")
    print("|---|---|---|---|---|---|---|---|")
    for name in FILES:
        for side, column in zip(("prompts", "responses"), zip(*turns(name)[:most], strict=True), strict=True):
            texts = sorted(column, key=lambda text: (-len(text), text))  # in the order of preference, the longest first
            sets = [plain_set(text) for text in texts]
            truth = all_pairs(sets, min(THRESHOLDS))
            pairs = ours(texts, min(THRESHOLDS))
            places = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
            said = dict(zip(places, pairs.similarity.tolist(), strict=True))
            for threshold in THRESHOLDS:
                true = {pair for pair, similarity in truth.items() if similarity >= threshold}
                found = {pair for pair, similarity in said.items() if similarity >= threshold}
                gone = stars(pairs, threshold)
                missed = {second for first, second in true if first not in gone and second not in gone}
                known = with_copies(found, true, sets)
                recall = f"{len(known & true) / len(true):.4f}" if true else "-"
                precision = f"{len(found & true) / len(found):.4f}" if found else "-"
                print(
                    f"| {Path(name).stem}, {side} | {len(texts):,} | {threshold} | {len(true):,} | {recall} "
                    f"| {precision} | {len(gone):,} | {len(missed)} |",
                    flush=True,
                )


def with_copies(found: set, asked: set, sets: list[frozenset]) -> set:
    """Those of `asked` that stand in `found` or follow from it: of equal sets each is paired with the first."""
    first: dict[frozenset, int] = {}
    leader = [first.setdefault(one, place) for place, one in enumerate(sets)]

    def same(place: int) -> bool:
        return leader[place] == place or (leader[place], place) in found

    def follows(one: int, other: int) -> bool:
        leaders = tuple(sorted((leader[one], leader[other])))
        return same(one) and same(other) and (leaders[0] == leaders[1] or leaders in found)

    return {pair for pair in asked if pair in found or follows(*pair)}


def levels_table() -> None:
    from filters.dedup.jaccard import Pairs
    from filters.dedup.star import stars

    if not (PEERS / "rapidfuzz").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PEERS), "rapidfuzz"]
        subprocess.run(install, check=True)
    sys.path.append(str(PEERS))
    rows = turns(LEVELS.format("exact_deduped"))
    levels = {0.9: "similarity_0.9", 0.7: "similarity_0.7"}
    theirs = {threshold: Counter(turns(LEVELS.format(level))) for threshold, level in levels.items()}
    print(f"\n| {len(rows):,} rows | 0.9 | 0.8 | 0.7 |")
    print("|---|---|---|---|")
    print(f"| the authors keep | {theirs[0.9].total():,} | | {theirs[0.7].total():,} |")
    sides = {
        "prompt": [prompt for prompt, _ in rows],
        "response": [response for _, response in rows],
        "both": [f"user: {prompt}\nassistant: {response}" for prompt, response in rows],
    }
    for side, texts in sides.items():
        pairs = ours(texts, min(THRESHOLDS))
        kept = [f"{len(rows) - len(stars(pairs, threshold)):,}" for threshold in THRESHOLDS]
        print(f"| `minhash: {{on: {side}, keep: first}}` keeps | {' | '.join(kept)} |")
    pairs = Pairs(*in_order(sides["response"], min(THRESHOLDS)))
    kept, agree = [], []
    for threshold in THRESHOLDS:
        gone = stars(pairs, threshold - 1e-6)
        kept.append(f"{len(rows) - len(gone):,}")
        known = theirs.get(threshold)
        same = sum((row in known) == (place not in gone) for place, row in enumerate(rows)) if known else 0
        agree.append(f"{same / len(rows):.1%}" if known else "")
    print(f"| common subsequence of the responses' words, first kept, keeps | {' | '.join(kept)} |")
    print(f"| of all rows it does with as many what the authors did | {' | '.join(agree)} |")


def in_order(texts: list[str], least: float):
    """Pairs of texts with ROUGE-L `least` or more: (first, second, similarity)."""
    import numpy as np
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    places: dict[str, int] = {}
    codes = [
        "".join(chr(0x10000 + places.setdefault(word, len(places))) for word in re.findall("[a-z0-9]+", text.lower()))
        for text in texts
    ]  # a character a word: 2 LCS / (a + b) is then ROUGE-L
    found = []
    for start in range(0, len(codes), 500):
        block = process.cdist(
            codes[start : start + 500], codes, scorer=Indel.normalized_similarity, score_cutoff=least - 1e-4
        )
        second, first = np.nonzero(block)
        earlier = first < second + start
        found.append((first[earlier], second[earlier] + start, block[second[earlier], first[earlier]]))
    first, second, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return first.astype(np.int64), second.astype(np.int64), similarity.astype(np.float64)


def growth_table(counts: list[int]) -> None:
    import random
    import time

    passage = [f"p{i}" for i in range(2000)]

    def asked(chance: random.Random) -> str:
        return " ".join([*passage, *(f"q{chance.randrange(1000)}" for _ in range(12))])

    def changed(words: list[str], many: int, chance: random.Random) -> str:
        words = list(words)
        for place in chance.sample(range(len(words)), many):
            words[place] = f"x{chance.randrange(10**6)}"
        return " ".join(words)

    shapes = {
        "a passage of 2,000 words, then a question": asked,
        "that passage, 20 words changed": lambda chance: changed(passage, 20, chance),
        "a prompt of 60 words, one changed": lambda chance: changed(passage[:60], 1, chance),
    }
    print("| prompts | rows | CPU seconds for words | CPU seconds for pairs | pairs at 0.7 | found |")
    print("|---|---|---|---|---|---|")
    from filters.dedup.jaccard import Sets, shingles, similar_pairs

    for name, make in shapes.items():
        for rows in counts:
            chance = random.Random(0)
            texts = [make(chance) for _ in range(rows)]
            begun = time.process_time()
            sets = Sets.of([shingles(text) for text in texts])
            read = time.process_time()
            found = len(similar_pairs(sets, 0.7).first)
            spent = time.process_time() - read
            true = f"{len(all_pairs([plain_set(text) for text in texts], 0.7)):,}" if rows <= 250 else "not counted"
            print(f"| {name} | {rows:,} | {read - begun:.1f} | {spent:.1f} | {true} | {found:,} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000, help="rows of each file at most")
    parser.add_argument("--without-authors", action="store_true")
    parser.add_argument("--growth", type=int, nargs="*", metavar="ROWS", help="time prompts that are all alike")
    options = parser.parse_args()
    if options.growth is not None:
        growth_table(options.growth or [250, 500, 1000, 2000])
        return
    brute_force_table(options.rows)
    if not options.without_authors:
        levels_table()


if __name__ == "__main__":
    main()
