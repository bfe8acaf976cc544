from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

from trainer.answers import answer_prompts  # noqa: E402
from trainer.conversation import canonical_json, content_hash  # noqa: E402
from trainer.errors import BadInput  # noqa: E402
from trainer.experiment import run_experiment  # noqa: E402
from trainer.plan import (  # noqa: E402
    AnswersPlan,
    Budget,
    Evaluation,
    ExperimentPlan,
    ModelChoice,
    Run,
    TrainingSetting,
)  # fmt: skip
from trainer.protocol import Events, read_events  # noqa: E402

TRAINING = TrainingSetting(preset="test", learning_rate=3e-2, tokens_per_step=60, micro_tokens=256, max_length=200)
PROMPTS = ["What is seven?", "Say no", "and a longer prompt than the others"]
RUNS = {"baseline": "a-0", "candidate": "b-0"}


def chat(question: str, answer: str):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, tiny_setting) -> Path:
    """A finished experiment whose eval items are PROMPTS: arm `a` learnt to say yes, arm `b` to say no."""
    out = tmp_path_factory.mktemp("experiment")
    schema = pa.schema([("content_hash", pa.string()), ("messages", pa.string()), ("tools", pa.string())])
    for arm, answer in (("a", "yes yes"), ("b", "no no no")):
        texts = [canonical_json(chat(f"{i}?", answer)) for i in range(40)]
        rows = [{"content_hash": content_hash(text), "messages": text, "tools": None} for text in texts]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / f"{arm}.parquet")
    items = [
        {"item": i, "messages": canonical_json(chat(prompt, "yes")), "tools": None, "cluster": str(i)}
        for i, prompt in enumerate(PROMPTS)
    ]
    pq.write_table(pa.Table.from_pylist(items), out / "eval.parquet")
    plan = ExperimentPlan(
        model=tiny_setting,
        training=TRAINING,
        budget=Budget(trained_tokens=900),
        arms={"a": "a.parquet", "b": "b.parquet"},
        runs=[Run(id="a-0", arm="a", seed=0), Run(id="b-0", arm="b", seed=0)],
        evaluation=Evaluation(max_new_tokens=12),
    )
    (out / "plan.json").write_text(plan.model_dump_json())
    run_experiment(out, Events(out))
    return out


def job(experiment: Path, asked_for: list[str], **changed) -> Path:
    """The folder of a job that asks these prompts."""
    folder = experiment / "answers" / str(len(list((experiment / "answers").glob("*"))))
    folder.mkdir(parents=True)
    asked = json.loads((experiment / "plan.json").read_text())
    plan = AnswersPlan(
        model=asked["model"],
        chosen=ModelChoice.model_validate_json((experiment / "model.json").read_text()),
        policy=asked["policy"],
        adapters={arm: f"../../results/{run}/adapter" for arm, run in RUNS.items()},
        prompts=[[{"role": "user", "content": prompt}] for prompt in asked_for],
        max_new_tokens=12,
    )
    (folder / "plan.json").write_text(plan.model_copy(update=changed).model_dump_json())
    return folder


def answers(folder: Path, arm: str) -> list[tuple[str, str]]:
    rows = pq.read_table(folder / "results" / f"{arm}.parquet").to_pylist()
    return [(row["text"], row["finish"]) for row in sorted(rows, key=lambda row: row["item"])]


def evaluated(experiment: Path, run: str) -> list[tuple[str, str]]:
    rows = pq.read_table(experiment / "results" / run / "generations.parquet").to_pylist()
    return [(row["text"], row["finish"]) for row in sorted(rows, key=lambda row: row["item"])]


def test_a_job_answers_as_the_evaluation_did_with_the_base_and_with_each_adapter(experiment):
    folder = job(experiment, PROMPTS)
    answer_prompts(folder, Events(folder))
    assert answers(folder, "base") == evaluated(experiment, "base")
    assert answers(folder, "baseline") == evaluated(experiment, "a-0")
    assert answers(folder, "candidate") == evaluated(experiment, "b-0")
    assert len({str(answers(folder, arm)) for arm in ("base", "baseline", "candidate")}) == 3, "each is its own model"
    events, _ = read_events(folder)
    told = [(event["arm"], event["item"]) for event in events if event["event"] == "answer"]
    assert told == [(arm, item) for arm in ("base", "baseline", "candidate") for item in range(3)]


def test_the_base_answers_as_itself_whatever_was_worn_before(tiny, experiment):
    from trainer.adapters import with_adapters
    from trainer.evaluate import generate

    folders = {arm: experiment / "results" / run / "adapter" for arm, run in RUNS.items()}

    class Asked:
        item = 0
        prompt = tiny.tokenizer("<|im_start|>user\nSay no<|im_end|>\n<|im_start|>assistant\n")["input_ids"]

    def answer(model):
        return generate(tiny, model, [Asked()], 12)[0].text

    plain = answer(tiny.model)
    wearing = with_adapters(tiny, folders)
    found = {}
    for arm in ("baseline", None, "candidate", None, "baseline"):
        with wearing(arm) as model:
            found.setdefault(arm, set()).add(answer(model))
    assert found[None] == {plain}
    assert all(len(texts) == 1 for texts in found.values())
    assert found["baseline"] != found["candidate"] != {plain}


def test_arms_that_are_complete_are_not_answered_again(experiment):
    folder = job(experiment, PROMPTS[:1])
    answer_prompts(folder, Events(folder))
    kept = (folder / "results" / "base.parquet").stat().st_mtime_ns
    (folder / "results" / "candidate.parquet").unlink()
    answer_prompts(folder, Events(folder))
    assert (folder / "results" / "base.parquet").stat().st_mtime_ns == kept
    assert answers(folder, "candidate") == evaluated(experiment, "b-0")[:1]
    told = [event["arm"] for event in read_events(folder)[0] if event["event"] == "answer"]
    assert told == ["base", "baseline", "candidate", "candidate"]


def test_while_an_answer_is_written_its_beginning_is_told(experiment, monkeypatch):
    monkeypatch.setattr("trainer.answers._EVERY", 0.0)
    folder = job(experiment, PROMPTS[:2])
    answer_prompts(folder, Events(folder))
    told = [event for event in read_events(folder)[0] if event["event"] == "writing" and event["arm"] == "candidate"]
    for item, (whole, _) in enumerate(answers(folder, "candidate")):
        begun = [event["text"] for event in told if event["item"] == item]
        assert begun
        assert all(whole.startswith(text) for text in begun)
    assert answers(folder, "candidate") == evaluated(experiment, "b-0")[:2], "watching changes nothing"


def test_several_turns_are_one_prompt(experiment):
    turns = [*chat("Say no", "no"), {"role": "user", "content": "again"}]
    folder = job(experiment, [], prompts=[turns])
    answer_prompts(folder, Events(folder))
    [after_both] = answers(folder, "base")
    assert after_both != evaluated(experiment, "base")[1], "the first turn is part of what is asked"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompts": [[{"role": "user", "content": "long " * 200}]]}, "the model sees 512"),
        ({"adapters": {"baseline": "../../results/gone/adapter"}}, "no adapter of this model"),
        ({"chosen": ModelChoice(revision="other", dtype="float32", held="dense")}, "not the one"),
    ],
    ids=["prompt longer than the model sees", "adapter gone", "other weights"],
)
def test_what_cannot_be_answered_is_said(experiment, changed, said):
    folder = job(experiment, PROMPTS[:1], **changed)
    with pytest.raises(BadInput, match=said):
        answer_prompts(folder, Events(folder))
